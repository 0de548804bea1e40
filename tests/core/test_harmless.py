"""The recorder never raises into, blocks or changes its host."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recorder import FlightRecorder, triggers

SIZED = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(1))


def test_outputs_and_the_random_stream_are_bit_identical_with_and_without_the_recorder(
    make_recorder: Any, net: Any
) -> None:
    def run(model: torch.nn.Module) -> list[bytes]:
        torch.manual_seed(3)
        noisy = torch.nn.Sequential(model, torch.nn.Dropout(0.5).train())
        return [noisy(SIZED + torch.rand(1)).detach().numpy().tobytes() for _ in range(20)]

    plain = run(copy.deepcopy(net))
    recorder = make_recorder(triggers=[triggers.exception(), triggers.non_finite(), triggers.low_confidence(0.9)])
    attached = recorder.attach(net)
    assert attached is net
    assert run(net) == plain


@pytest.mark.parametrize("image", [object(), "no/such/file.png", b"not an image", np.zeros((2, 2, 2, 2)), 7])
def test_an_image_that_cannot_be_captured_is_counted(make_recorder: Any, bundles: Any, image: Any) -> None:
    recorder = make_recorder()
    with recorder.frame(image=image, fine=True):
        pass
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    [frame] = bundle.manifest.frames
    assert frame.images == () and frame.lost == {"image-unsupported": 1} and frame.metadata == {"fine": True}
    assert recorder.stats().frames_lost["image-unsupported"] == 1


def test_metadata_that_json_has_no_form_for_is_counted(make_recorder: Any, bundles: Any) -> None:
    recorder = make_recorder()
    with recorder.frame(good=np.float32(0.5), bad=object(), lone="\ud800", huge=2**80, tuple=(1, 2)):
        pass
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    [frame] = bundle.manifest.frames
    assert frame.metadata == {"good": 0.5, "lone": "?", "tuple": [1, 2]}
    assert frame.lost == {"metadata-unsupported": 2}


def test_calls_after_the_frame_they_were_begun_in_have_frames_of_their_own(make_recorder: Any, bundles: Any) -> None:
    """A task outlives it; a generator that leaves a frame late brings back one that was left before it."""
    recorder = make_recorder()
    model = recorder.attach(torch.nn.Identity(), store=False)

    async def outlives() -> None:
        with recorder.frame(who="first"):
            task = asyncio.create_task(call_later())
        await task

    async def call_later() -> None:
        model(SIZED)

    def leaves_late() -> Iterator[None]:
        with recorder.frame(who="late"):
            yield

    asyncio.run(outlives())
    generator = leaves_late()
    with recorder.frames([np.zeros((4, 4), np.uint8)]):
        next(generator)
    assert list(generator) == []
    model(SIZED)
    with recorder.frame(who="last"):
        model(SIZED)
    model(SIZED)
    recorder.trigger("look").wait(120)
    frames = bundles()[0].manifest.frames
    assert [(frame.metadata.get("who"), len(frame.calls)) for frame in frames] == [
        ("first", 0),
        (None, 1),
        (None, 0),
        ("late", 0),
        (None, 1),
        ("last", 1),
        (None, 1),
    ]


def test_metadata_that_raises_costs_itself_alone(make_recorder: Any, bundles: Any) -> None:
    class Lazy(dict[str, int]):
        def items(self) -> Any:
            raise RuntimeError("theirs")

    class Key:
        def __str__(self) -> str:
            raise RuntimeError("theirs")

    recorder = make_recorder()
    with recorder.frame(image=np.zeros((4, 4), np.uint8), lazy=Lazy(a=1), inner={Key(): 1}, fine=1, camera=Key()):
        pass
    recorder.trigger("look").wait(120)
    [frame] = bundles()[0].manifest.frames
    assert frame.metadata == {"fine": 1} and len(frame.images) == 1
    assert frame.lost == {"metadata-unsupported": 3} and recorder.stats().errors == {}


def test_something_that_is_no_model_is_returned_as_it_is_and_counted(make_recorder: Any) -> None:
    recorder = make_recorder()
    thing = object()
    assert recorder.attach(thing) is thing
    assert recorder.stats().errors == {"unsupported-model": 1}


def test_a_module_without_forward_fails_as_it_would_without_the_recorder(make_recorder: Any) -> None:
    class Empty(torch.nn.Module):
        pass

    recorder = make_recorder()
    model = recorder.attach(Empty())
    with pytest.raises(NotImplementedError):
        model(SIZED)


def test_a_tensor_larger_than_the_ring_is_counted_and_the_call_is_kept(make_recorder: Any, bundles: Any) -> None:
    recorder = make_recorder(max_bytes=2**20, triggers=[])
    model = recorder.attach(torch.nn.Identity(), store=False)
    large = torch.zeros(2**20)
    assert torch.equal(model(large), large)
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    [call] = bundle.manifest.calls
    assert "too large" in call.args.items[0].type
    lost = bundle.manifest.incident.lost
    assert lost["input-not-recorded"] == 1 and lost["output-not-recorded"] == 1 and lost["frames-too-large"] == 2


def test_a_sink_that_cannot_be_written_is_counted_and_nothing_else_happens(make_recorder: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    recorder = make_recorder(sink=tmp_path / "file" / "incidents")
    with recorder.frame():
        pass
    incident = recorder.trigger("look")
    assert recorder.flush(120) and incident.state == "failed"
    assert any(reason.startswith("not-sealed") for reason in recorder.stats().errors)


def test_a_ring_that_cannot_be_had_gives_one_warning_and_a_recorder_that_does_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(RuntimeWarning, match="records nothing"):
        recorder = FlightRecorder(sink=tmp_path / "incidents", ring=tmp_path / "file" / "host.ring")
    with recorder, recorder.frame(image=np.zeros((2, 2), np.uint8)) as frame:
        frame.output = 1
    assert recorder.stats().ring_bytes == 0
    assert recorder.stats().errors == {"no-ring": 1} or recorder.stats().frames_recorded == 0


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_bytes": 10},
        {"pre_frames": -1},
        {"post_seconds": -0.1},
        {"sink": ""},
        {"sink": "gs://bucket/prefix"},
        {"notify": "no colon"},
        {"triggers": ["exception"]},
        {"ring": 5},
        {"sink": None},
    ],
)
def test_wrong_arguments_are_refused_at_construction(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        FlightRecorder(**arguments)


def test_the_kill_switch_leaves_no_thread_hook_file_or_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, net: Any
) -> None:
    monkeypatch.setenv("FLIGHT_RECORDER_DISABLED", "1")
    threads = set(threading.enumerate())
    recorder = FlightRecorder(sink=tmp_path / "incidents", ring=tmp_path / "host.ring")
    recorder.attach(net)
    with recorder.frame(image=np.zeros((2, 2), np.uint8)) as frame:
        frame.output = net(SIZED)
        frame["key"] = 1
    with recorder.frames(images=[None, None]) as batch:
        assert len(batch) == 2
    assert recorder.trigger("look").wait(1).state == "disabled"
    assert recorder.watch(lambda value: value + 1)(1) == 2
    assert not net._forward_hooks and not net._forward_pre_hooks
    assert set(threading.enumerate()) <= threads and list(tmp_path.iterdir()) == []
    recorder.close()


def test_the_environment_overrides_sink_and_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLIGHT_RECORDER_SINK", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("FLIGHT_RECORDER_MAX_BYTES", str(4 * 2**20))
    with FlightRecorder(sink=tmp_path / "incidents", ring=tmp_path / "r" / "host.ring") as recorder:
        with recorder.frame():
            pass
        recorder.trigger("look").wait(120)
        assert recorder.stats().ring_bytes <= 4 * 2**20
    assert list((tmp_path / "elsewhere").glob("*.zst"))


def test_a_copied_or_pickled_attached_model_is_an_ordinary_model(make_recorder: Any, net: Any) -> None:
    recorder = make_recorder(triggers=[])
    recorder.attach(net, store=False)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        before = recorder.stats().frames_recorded
        assert torch.equal(twin(SIZED), net(SIZED))
        assert recorder.stats().frames_recorded == before + 1


def test_disable_detaches_and_every_call_is_a_no_op(make_recorder: Any, net: Any) -> None:
    recorder = make_recorder()
    recorder.attach(net, store=False)
    recorder.disable()
    assert not net._forward_hooks
    with recorder.frame():
        net(SIZED)
    assert recorder.trigger("look").state == "disabled" and not recorder.flush(0.1)


def test_eight_threads_record_frames_that_keep_apart(make_recorder: Any, bundles: Any, net: Any) -> None:
    recorder = make_recorder(triggers=[], pre_frames=200, max_bytes=64 * 2**20)
    recorder.attach(net, store=False)

    def serve(number: int) -> None:
        for item in range(10):
            with recorder.frame(number=number, item=item) as frame:
                net(torch.full((1, 1, 4, 4), float(number)))
                frame.output = number

    threads = [threading.Thread(target=serve, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    assert len(bundle.manifest.frames) == 80
    calls = {call.id: call for call in bundle.manifest.calls}
    for frame in bundle.manifest.frames:
        [call] = [calls[number] for number in frame.calls]
        assert bundle.array(call.args.items[0])[0, 0, 0, 0] == frame.metadata["number"]
        assert frame.output.value == frame.metadata["number"]


def test_asyncio_tasks_have_frames_of_their_own(make_recorder: Any, bundles: Any, net: Any) -> None:
    recorder = make_recorder(triggers=[], pre_frames=50)
    recorder.attach(net, store=False)

    @recorder.watch
    async def predict(image: Any) -> float:
        await asyncio.sleep(0.001)
        net(torch.full((1, 1, 4, 4), float(image[0, 0])))
        await asyncio.sleep(0.001)
        return float(image[0, 0])

    async def serve() -> None:
        await asyncio.gather(*(predict(np.full((2, 2), number, np.uint8)) for number in range(10)))

    asyncio.run(serve())
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    calls = {call.id: call for call in bundle.manifest.calls}
    assert len(bundle.manifest.frames) == 10
    for frame in bundle.manifest.frames:
        [call] = [calls[number] for number in frame.calls]
        assert bundle.array(call.args.items[0])[0, 0, 0, 0] == frame.output.value


def test_an_interrupt_in_forward_does_not_make_later_calls_its_children(
    make_recorder: Any, bundles: Any, net: Any
) -> None:
    recorder = make_recorder(triggers=[])
    recorder.attach(net, store=False)
    net.fail = KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        net(SIZED)
    net.fail = None
    net(SIZED)
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    assert [call.parent for call in bundle.manifest.calls] == [None, None]
    assert [call.status for call in bundle.manifest.calls] == ["open", "returned"]


def test_importing_the_recorder_loads_neither_torch_nor_boto3() -> None:
    code = "import recorder, sys; assert not {'torch', 'boto3', 'numpy'} & set(sys.modules), 'heavy'"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_a_host_that_turns_warnings_into_errors_is_not_stopped(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FlightRecorder(sink=tmp_path / "incidents", ring=tmp_path / "file" / "host.ring").close()


def test_a_forked_worker_records_into_a_ring_of_its_own(tmp_path: Path) -> None:
    script = tmp_path / "host.py"
    script.write_text(
        textwrap.dedent("""
        import os, sys
        from recorder import FlightRecorder
        recorder = FlightRecorder(sink=sys.argv[1], triggers=[], max_bytes=8 * 2**20, overhead_budget=1)
        with recorder.frame(who="parent"):
            pass
        child = os.fork()
        if child == 0:
            with recorder.frame(who="child"):
                pass
            print(recorder.trigger("from the child").wait(120).state, flush=True)
            recorder.close()
            os._exit(0)
        os.waitpid(child, 0)
        with recorder.frame(who="parent again"):
            pass
        print(recorder.trigger("from the parent").wait(120).state, flush=True)
        recorder.close()
        """)
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "incidents")],
        capture_output=True,
        text=True,
        timeout=240,
        env=environment,
    )
    assert done.stdout.split() == ["sealed", "sealed"], done.stderr
    from recorder.bundle import Bundle

    seen = set()
    for path in (tmp_path / "incidents").glob("*.zst"):
        with Bundle.open(path) as bundle:
            seen.add(tuple(frame.metadata["who"] for frame in bundle.manifest.frames))
    assert seen == {("child",), ("parent", "parent again")}
