"""Compiled, scripted, traced, exported and transformed models: torch sees the module it would see without us.

Backends that need no C++ compiler; what is compared is what dynamo captures.
"""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from recorder.models import is_compiled, tensors_of_module, training_modules_of, without_wrappers

X = torch.rand(2, 16, generator=torch.Generator().manual_seed(1))
DEPRECATED = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


def counting() -> Any:
    """A backend that counts graphs; every process that collects tests would import it for a second at the top."""
    from torch._dynamo.testing import CompileCounter

    return CompileCounter()


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    """Forget what other tests compiled."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def make() -> torch.nn.Module:
    """Return a network of three operators, the same each time."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()


def test_a_module_compiled_after_attaching_is_captured_as_without_us_and_stats_say_so(make_recorder: Any) -> None:
    plain, attached = counting(), counting()
    without = torch.compile(make(), backend=plain, fullgraph=True)
    recorder = make_recorder(triggers=[])
    model = torch.compile(recorder.attach(make(), store=False), backend=attached, fullgraph=True)
    for _ in range(4):
        assert model(X).detach().numpy().tobytes() == without(X).detach().numpy().tobytes()
    assert (attached.frame_count, attached.op_count) == (plain.frame_count, plain.op_count) == (1, 3)
    assert recorder.stats().frames_recorded == 0 and recorder.stats().frames_lost["inside-compiled-graph"] >= 1


def test_a_compiled_module_that_is_attached_is_recorded_and_not_recompiled(make_recorder: Any, bundles: Any) -> None:
    counter = counting()
    model = torch.compile(make(), backend=counter)
    recorder = make_recorder(triggers=[])
    assert recorder.attach(model, store=False) is model
    answers = [model(X) for _ in range(4)]
    assert counter.frame_count == 1 and all(torch.equal(answer, make()(X)) for answer in answers)
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    assert len(bundle.manifest.frames) == 4 and bundle.manifest.models[0].compiled
    assert bundle.manifest.models[0].type == "torch.nn.modules.container.Sequential"
    assert bundle.array(bundle.manifest.calls[0].output).tobytes() == answers[0].detach().numpy().tobytes()


def test_a_module_compiled_in_place_is_recorded_and_not_recompiled(make_recorder: Any, bundles: Any) -> None:
    class Service(torch.nn.Module):  # torch compiles the call of no module of its own
        def __init__(self) -> None:
            super().__init__()
            self.layers = make()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layers(x)

    counter, model = counting(), Service().eval()
    model.compile(backend=counter)
    model(X)
    entry = vars(model)["_compiled_call_impl"]
    recorder = make_recorder(triggers=[])
    assert recorder.attach(model, store=False) is model
    assert all(torch.equal(model(X), make()(X)) for _ in range(3)) and counter.frame_count == 1
    with pytest.raises(RuntimeError):
        model(X[:, :3])
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    assert bundle.manifest.models[0].compiled
    assert [call.status for call in bundle.manifest.calls] == ["returned"] * 3 + ["raised"]
    recorder.disable()
    assert vars(model)["_compiled_call_impl"] is entry


def test_a_module_compiled_in_place_after_attaching_is_counted(make_recorder: Any) -> None:
    """Also where torch takes the graph of another module for it, so that no hook is met."""
    recorder = make_recorder(triggers=[])
    model = recorder.attach(make(), store=False)
    model.compile(backend=counting())
    model(X)
    assert recorder.stats().frames_recorded == 0 and recorder.stats().frames_lost["inside-compiled-graph"] >= 1


def test_a_compiled_model_and_the_eager_one_have_the_same_names() -> None:
    """Whether all of it was compiled or a part."""
    whole, part = make(), make()
    part[0] = torch.compile(part[0], backend="eager")
    names = list(tensors_of_module(whole))
    assert list(tensors_of_module(torch.compile(whole, backend="eager"))) == names == list(tensors_of_module(part))
    assert training_modules_of(torch.compile(make().train(), backend="eager")) == ("", "0", "1", "2")
    assert is_compiled(part) and not is_compiled(without_wrappers(part))


def test_an_attached_part_of_a_compiled_module_makes_no_graph_break(make_recorder: Any) -> None:
    recorder = make_recorder(triggers=[])
    part = recorder.attach(make(), store=False)
    counter = counting()
    model = torch.compile(lambda x: part(x) * 2, backend=counter, fullgraph=True)
    assert torch.equal(model(X), make()(X) * 2) and counter.frame_count == 1


def test_aot_compilation_gives_the_same_bits(make_recorder: Any) -> None:
    recorder = make_recorder(triggers=[])
    model = recorder.attach(torch.compile(make(), backend="aot_eager"), store=False)
    assert torch.equal(model(X), make()(X)) and recorder.stats().frames_recorded == 1


def test_export_of_an_attached_model_holds_nothing_of_ours(make_recorder: Any) -> None:
    def operators(model: torch.nn.Module) -> list[str]:
        return [str(node.target) for node in torch.export.export(model, (X,)).graph.nodes]

    recorder = make_recorder(triggers=[])
    assert operators(recorder.attach(make(), store=False)) == operators(make())
    assert recorder.stats().errors == {}


@DEPRECATED
def test_an_attached_module_can_be_scripted(make_recorder: Any) -> None:
    recorder = make_recorder(triggers=[])
    model = recorder.attach(make(), store=False)
    scripted = torch.jit.script(model)
    assert torch.equal(scripted(X), make()(X))
    model(X)
    assert recorder.stats().frames_recorded == 1
    assert torch.equal(torch.jit.script(copy.deepcopy(model))(X), make()(X))


@DEPRECATED
def test_a_scripted_module_is_recorded_saved_and_detached(make_recorder: Any) -> None:
    recorder = make_recorder(triggers=[])
    model = torch.jit.script(make())
    assert recorder.attach(model, store=False) is model
    assert torch.equal(model(X), make()(X)) and recorder.stats().frames_recorded == 1
    with pytest.raises(RuntimeError):
        model(X[:, :3])
    file = io.BytesIO()
    torch.jit.save(model, file)
    file.seek(0)
    for twin in (torch.jit.load(file), copy.deepcopy(model)):
        twin(X)
    assert recorder.stats().frames_recorded == 2 and recorder.stats().errors == {}
    recorder.disable()
    assert "_compiled_call_impl" not in vars(model)
    model(X)


@DEPRECATED
def test_tracing_an_attached_module_records_nothing_and_traces_the_same(make_recorder: Any) -> None:
    recorder = make_recorder(triggers=[])
    model = recorder.attach(make(), store=False)
    traced, plain = torch.jit.trace(model, X), torch.jit.trace(make(), X)
    assert str(traced.inlined_graph).count("aten::") == str(plain.inlined_graph).count("aten::")
    assert recorder.stats().errors == {}
    recorder.attach(traced, store=False)
    frames = recorder.stats().frames_recorded
    assert torch.equal(traced(X), make()(X)) and recorder.stats().frames_recorded == frames + 1


def test_functional_calls_are_recorded_and_transforms_are_counted(make_recorder: Any) -> None:
    recorder = make_recorder(triggers=[])
    model = recorder.attach(make(), store=False)
    doubled = {name: tensor.detach() * 2 for name, tensor in model.named_parameters()}
    answer = torch.func.functional_call(model, doubled, (X,))
    assert torch.equal(answer, torch.func.functional_call(make(), doubled, (X,)))
    torch.func.vmap(model)(X)
    torch.func.grad(lambda weights, x: torch.func.functional_call(model, weights, (x,)).sum())(doubled, X)
    assert recorder.stats().frames_recorded == 1
    assert recorder.stats().frames_lost["call-transformed"] == 4 and recorder.stats().errors == {}


def test_inference_mode_and_autocast_are_left_alone_and_recorded(make_recorder: Any, bundles: Any) -> None:
    recorder = make_recorder(triggers=[])
    model = recorder.attach(make(), store=False)
    with torch.inference_mode():
        assert model(X).is_inference()
    with torch.autocast("cpu", torch.bfloat16):
        assert model(X).dtype is torch.bfloat16
    recorder.trigger("look").wait(120)
    first, second = (call.settings for call in bundles()[0].manifest.calls)
    assert first.inference_mode and not first.autocast and second.autocast == {"cpu": "bfloat16"}


def test_copies_pickles_and_saved_files_hold_no_trace_of_the_recorder(make_recorder: Any) -> None:
    recorder = make_recorder(triggers=[])
    model = make()
    kept = model.register_forward_hook(torch.nn.Identity())
    recorder.attach(model, store=False)
    data = pickle.dumps(model)
    file = io.BytesIO()
    torch.save(model, file)
    assert b"recorder" not in data and b"recorder" not in file.getvalue()
    for twin in (pickle.loads(data), copy.deepcopy(model), copy.copy(model)):
        assert list(twin._forward_hooks) == [kept.id] and not twin._forward_pre_hooks
        assert not twin._forward_hooks_with_kwargs and vars(twin).keys() == vars(make()).keys()
    kept.remove()
    recorder.disable()
    assert vars(model).keys() == vars(make()).keys() and not model._forward_hooks
