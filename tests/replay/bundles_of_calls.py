"""Bundles recorded in the test's own process: models called with live arguments, described as the recorder does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from recorder.bundle import BundleWriter
from recorder.bundle.codec import value_from_json
from recorder.bundle.manifest import (
    Call,
    CallSettings,
    Context,
    Environment,
    ExceptionInfo,
    Frame,
    Incident,
    Manifest,
    Model,
    Trigger,
    Window,
)
from recorder.bundle.values import MappingValue, SequenceValue, Value
from recorder.capture import describe
from recorder.environment import capture_environment
from recorder.fingerprint import call_settings
from recorder.models import ModelStore, layouts_of, tensors_of_module, training_modules_of
from recorder.sealer.thinning import thin

T0_NS = 1_760_000_000_000_000_000


class Recording:
    """Collects calls and writes a bundle with the models' weights beside it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.calls: list[dict[str, Any]] = []
        self.models: list[Model] = []
        self.triggers: list[Trigger] = []
        self.change_environment: Callable[[Environment], Environment] = lambda environment: environment

    def attach(self, module: Any, name: str = "model", *, factory: str | None = None, store: bool = True) -> Any:
        weights, layouts, training = None, {}, ()
        if isinstance(module, nn.Module):
            tensors = tensors_of_module(module)
            weights = ModelStore(self.directory / "models").put_weights(tensors) if store else None
            layouts, training = layouts_of(tensors), training_modules_of(module)
        number = len(self.models)
        self.models.append(
            Model(
                id=number,
                name=name,
                framework="torch" if isinstance(module, nn.Module) else "callable",
                type=type(module).__qualname__,
                factory=factory,
                weights=weights,
                layouts=layouts,
                training_modules=training,
            )
        )

        def call(*args: Any, **kwargs: Any) -> Any:
            record: dict[str, Any] = {"model": number, "args": describe_bytes(args), "kwargs": describe_bytes(kwargs)}
            record["settings"] = call_settings(getattr(module, "training", False))
            self.calls.append(record)
            try:
                output = module(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - whatever it raises was recorded
                kind = f"{type(error).__module__}.{type(error).__qualname__}"
                record["exception"] = ExceptionInfo(type=kind, message=str(error), stage="model")
                return None
            record["output"] = describe_bytes(output)
            return output

        return call

    def in_flight(self, number: int, *args: Any) -> None:
        """A call that had begun when the process died."""
        settings = CallSettings(training=False, grad_enabled=True, inference_mode=False)
        record = {"model": number, "args": describe_bytes(args), "kwargs": describe_bytes({}), "settings": settings}
        self.calls.append({**record, "open": True})

    def write(self, name: str = "incident.zst", max_bundle_bytes: int | None = None) -> Path:
        path = self.directory / name
        with BundleWriter(self.directory) as writer:
            calls = tuple(_call(writer, index, record) for index, record in enumerate(self.calls))
            environment = self.change_environment(capture_environment(packages=False))
            triggers = tuple(self.triggers) or (Trigger(kind="manual", reason="asked for", frame=None, time_ns=T0_NS),)
            manifest = Manifest(
                created_ns=T0_NS,
                producer="tests",
                incident=Incident(
                    id="00" * 16,
                    stream="",
                    severity="normal",
                    opened_ns=T0_NS,
                    window=Window(pre_frames=16, post_frames=4, post_seconds=5.0, closed_by="frames"),
                    triggers=triggers,
                    host="alive",
                ),
                contexts=(Context(id=0, since_ns=T0_NS, environment=environment),),
                models=tuple(self.models),
                frames=tuple(_frame(call) for call in calls),
                calls=calls,
                members=(),
            )
            writer.finish(path, manifest if max_bundle_bytes is None else thin(manifest, writer, max_bundle_bytes))
        return path

    def set_models(self, **changes: Any) -> None:
        """Change what the bundle will say of every model."""
        self.models = [dataclasses.replace(model, **changes) for model in self.models]


def describe_bytes(value: Any) -> tuple[dict[str, Any], bytes]:
    """What the recorder keeps of a value: tagged form and payload."""
    described = describe(value)
    payload = np.zeros(max(described.size_bytes, 1), np.uint8)
    described.copy_to(payload.ctypes.data)
    return described.tagged, payload.tobytes()


def _frame(call: Call) -> Frame:
    status = {"returned": "complete", "raised": "raised", "open": "open"}[call.status]
    return Frame(
        id=call.id + 1,
        stream="",
        status=status,
        time_ns=T0_NS + call.id,
        monotonic_ns=call.id,
        context=0,
        calls=(call.id,),
        exception=call.exception,
    )


def _call(writer: BundleWriter, index: int, record: dict[str, Any]) -> Call:
    args, kwargs = (_stored(writer, *record[part]) for part in ("args", "kwargs"))
    assert isinstance(args, SequenceValue) and isinstance(kwargs, MappingValue)
    output = record.get("output")
    rng = record.get("rng")
    return Call(
        id=index,
        model=record["model"],
        context=0,
        frames=(index + 1,),
        parent=None,
        status="open" if record.get("open") else "raised" if "exception" in record else "returned",
        settings=record["settings"],
        args=args,
        kwargs=kwargs,
        output=None if output is None else _stored(writer, *output),
        exception=record.get("exception"),
        rng=None if rng is None else _stored(writer, *describe_bytes(rng)),
    )


def _stored(writer: BundleWriter, tagged: dict[str, Any], payload: bytes) -> Value:
    return value_from_json(_with_members(writer, tagged, payload))


def _with_members(writer: BundleWriter, tagged: dict[str, Any], payload: bytes) -> dict[str, Any]:
    from recorder.bundle.codec import value_to_json

    [(tag, content)] = tagged.items()
    match tag:
        case "tensor":
            data = payload[content["offset"] : content["offset"] + content["size_bytes"]]
            fields = {key: item for key, item in content.items() if key not in ("offset", "size_bytes")}
            return value_to_json(writer.tensor(data, **fields))
        case "tuple" | "list":
            return {tag: [_with_members(writer, item, payload) for item in content]}
        case "dict":
            return {tag: [[key, _with_members(writer, item, payload)] for key, item in content]}
        case "record":
            fields = [[name, _with_members(writer, item, payload)] for name, item in content["fields"]]
            return {tag: {**content, "fields": fields}}
    return tagged


def images(count: int = 3, seed: int = 1) -> list[torch.Tensor]:
    """Batches that the classifier takes."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(2, 3, 32, 32, generator=generator) for _ in range(count)]
