"""Export runs in a child: the host's answers stay the same, and no child outlives its use."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from recorder.export import GraphExporter, GraphResult, export_graph
from recorder.export_child import ExportRefused, export_document
from recorder.models import SkeletonFailed, make_inert_hook, skeleton
from recorder.models.skeletons import load_skeleton
from replay.graph.document import load_graph
from tests.models.networks import Oddities, ResNet, seeded
from tests.models.support import same_bits, stored, tagged

ROOT = Path(__file__).parents[2]
IMAGE = (torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)),)
NO_KWARGS: dict[str, Any] = {"dict": []}


def children() -> set[str]:
    """Processes whose parent is this one."""
    found: set[str] = set()
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that ended meanwhile
            found.update((thread / "children").read_text().split())
    return found


@pytest.fixture
def others(no_nursery: None) -> set[str]:
    """Children that tests before this one left to end by themselves, such as a sealer that lingers."""
    return children()


def export(module: nn.Module, *args: Any, timeout_seconds: float = 120) -> GraphResult:
    return export_graph(skeleton(module), tagged(args), NO_KWARGS, timeout_seconds=timeout_seconds)


def test_the_hosts_answers_keep_their_bits_while_an_export_runs(tmp_path: Path, others: set[str]) -> None:
    """Every output, before, during and after; and the graph is the model."""
    model = seeded(ResNet)
    results: list[GraphResult] = []
    exporting = threading.Thread(target=lambda: results.append(export(model, *IMAGE)))
    with torch.no_grad():
        expected = model(*IMAGE)
        flags = (torch.backends.mkldnn.enabled, torch.get_num_threads(), torch.is_grad_enabled())
        exporting.start()
        compared = 0
        while exporting.is_alive() or compared < 50:
            assert same_bits(model(*IMAGE), expected)
            compared += 1
        exporting.join()
        assert flags == (torch.backends.mkldnn.enabled, torch.get_num_threads(), torch.is_grad_enabled())
        [result] = results
        assert result.reason is None and result.graph is not None and compared >= 50
        assert same_bits(stored(model, result.graph, tmp_path)(*IMAGE), expected)
    assert not children() - others


def test_classes_of_main_are_exported(tmp_path: Path) -> None:
    """A script's own model travels by value; the child never runs the script."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import torch
            from recorder.export import export_graph
            from recorder.models import skeleton
            print("the script runs")
            GAIN = 3.0
            class Net(torch.nn.Module):
                def __init__(self):
                    super().__init__()
                    self.layer = torch.nn.Linear(4, 2)
                def forward(self, x):
                    print("forward")
                    return self.layer(x) * GAIN
            x = {"tensor": {"container": "torch", "dtype": "float32", "shape": [1, 4], "strides": [4, 1]}}
            result = export_graph(skeleton(Net().eval()), {"tuple": [x]}, {"dict": []}, timeout_seconds=120)
            print(result.reason, b"aten.linear.default" in (result.graph or b""))
            """
        )
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines() == ["the script runs", "None True"]


def test_a_reason_comes_back_as_one_sentence() -> None:
    """The child's exceptions do not."""

    class Branch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    result = export(Branch().eval(), torch.ones(2))
    assert result.graph is None and result.reason is not None
    assert result.reason.startswith("torch.export cannot trace the model") and "\n" not in result.reason


@pytest.mark.parametrize(
    "value", [{"opaque": "pkg.Type"}, {"record": {"type": "T", "form": "namedtuple", "fields": []}}]
)
def test_arguments_that_could_not_be_recorded_are_a_reason(value: dict[str, Any]) -> None:
    """A graph cannot stand for what is not known."""
    with pytest.raises(ExportRefused, match="could not be recorded"):
        export_document(skeleton(nn.ReLU()), {"tuple": [value]}, NO_KWARGS, {})


class _Sleeps:
    """Unpickling it takes longer than anyone waits."""

    def __reduce__(self) -> Any:
        import time

        return time.sleep, (600,)


def sleeping() -> bytes:
    module = nn.ReLU()
    module.extra = _Sleeps()  # type: ignore[assignment]
    return skeleton(module)


def test_a_child_that_takes_too_long_is_killed(others: set[str]) -> None:
    """And reaped."""
    result = export_graph(sleeping(), {"tuple": []}, NO_KWARGS, timeout_seconds=0.5)
    assert result.graph is None and "within 0.5 seconds" in str(result.reason)
    assert not children() - others


def test_closing_ends_an_export_under_way_and_refuses_later_ones(others: set[str]) -> None:
    """A host that shuts down waits for nothing."""
    exporter = GraphExporter()
    results: list[GraphResult] = []

    def run() -> None:
        results.append(exporter.export(sleeping(), {"tuple": []}, NO_KWARGS, timeout_seconds=300))

    thread = threading.Thread(target=run)
    thread.start()
    while not children() - others:
        thread.join(0.01)
    exporter.close()
    thread.join()
    run()
    assert ["closed" in str(result.reason) for result in results] == [True, True]
    assert not children() - others


def test_the_child_ends_when_its_host_is_killed(tmp_path: Path) -> None:
    """The pipe it was asked through is its lifeline."""
    script = tmp_path / "host.py"
    script.write_text(
        "import time; from tests.models.test_export import *\n"
        "ask = lambda: export_graph(sleeping(), {'tuple': []}, NO_KWARGS, timeout_seconds=300)\n"
        "threading.Thread(target=ask).start()\n"
        "while not children(): time.sleep(0.01)\n"
        "print(*children(), flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    host = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, env=environment)
    assert host.stdout is not None
    child = int(host.stdout.readline())
    watched = os.pidfd_open(child)
    host.send_signal(signal.SIGKILL)
    host.communicate()
    import select

    assert select.select([watched], [], [], 60)[0]
    os.close(watched)


def test_a_skeleton_has_no_byte_of_a_weight() -> None:
    """It is small however large the model, and the model is untouched."""
    model = nn.Sequential(nn.Linear(1000, 1000), seeded(Oddities))
    before = [(name, id(tensor), tensor._version) for name, tensor in model.state_dict(keep_vars=True).items()]
    data = skeleton(model)
    assert len(data) < 20_000
    copy = load_skeleton(data)
    assert all(tensor.is_meta for tensor in copy.state_dict(keep_vars=True).values())
    assert copy[1].embed.weight is copy[1].decode.weight and copy[0].weight.requires_grad
    assert before == [(name, id(tensor), tensor._version) for name, tensor in model.state_dict(keep_vars=True).items()]


def test_strides_and_training_flags_travel() -> None:
    """Both decide what is exported."""
    model = seeded(ResNet).to(memory_format=torch.channels_last)
    model.first.train()
    copy = load_skeleton(skeleton(model))
    assert copy.second.weight.stride() == model.second.weight.stride()
    assert [module.training for module in copy.modules()] == [module.training for module in model.modules()]


class _OwnHook:
    """A hook of the recorder's: holds what must not travel."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __call__(self, *_args: Any) -> None:
        raise AssertionError("the recorder's hook ran in the child")

    def __reduce__(self) -> Any:
        return make_inert_hook, ()


def test_own_hooks_stay_and_the_users_travel() -> None:
    """What the user's hook does to the answer is part of the model."""
    model = nn.ReLU()
    model.register_forward_pre_hook(_OwnHook())
    model.register_forward_hook(lambda _module, _args, output: output * 2)
    graph = export_document(skeleton(model), tagged((torch.ones(2),)), NO_KWARGS, {})
    assert load_graph(graph, {})(torch.ones(2)).tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    ("attribute", "part"), [(threading.Lock(), "lock"), (torch.zeros(2).untyped_storage(), "bare storage")]
)
def test_what_does_not_pickle_is_named(attribute: Any, part: str) -> None:
    """In one sentence."""
    module = nn.ReLU()
    module.odd = attribute
    with pytest.raises(SkeletonFailed, match=part):
        skeleton(module)


@pytest.mark.usefixtures("no_nursery")
def test_the_child_is_last_in_line_and_alone() -> None:
    """Lowest priority, own session, recorders off: a user's module that records must not do so there."""

    class Probe(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            import os as system

            facts = (
                system.nice(0),
                int(system.getsid(0) == system.getpid()),
                int(system.environ["FLIGHT_RECORDER_DISABLED"]),
                torch.get_num_threads(),
            )
            return x * torch.tensor(facts)

    result = export(Probe().eval(), torch.ones(4))
    assert result.graph is not None, result.reason
    assert load_graph(result.graph, {})(torch.ones(4)).tolist() == [19.0, 1.0, 1.0, 1.0]
