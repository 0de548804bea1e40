"""Small bundles for the tests of every room: synthetic frames, one model, every kind of value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from recorder.bundle import BundleWriter
from recorder.bundle.manifest import (
    Call,
    CallSettings,
    Context,
    Environment,
    Frame,
    Incident,
    Manifest,
    Model,
    Trigger,
    Weights,
    Window,
)
from recorder.bundle.tensors import dense_order
from recorder.bundle.values import MappingValue, RecordValue, ScalarValue, SequenceValue, TensorValue, Value

__all__ = ["INCIDENT_ID", "environment", "picture", "small_bundle", "store_array"]

INCIDENT_ID = "0123456789abcdef0123456789abcdef"
_T0_NS = 1_760_000_000_000_000_000


def small_bundle(path: Path, *, frames: int = 4, seed: int = 0, height: int = 48, width: int = 64) -> Path:
    """Write a bundle of a few frames with one call each; frame 3 (the last but one) has low confidence.

    Frame ids start at 1, call ids at 101. The same arguments give the same bytes.
    """
    random = np.random.default_rng(seed)
    with BundleWriter(path.parent) as writer:
        parts = [_frame_and_call(writer, random, index, height, width, index == frames - 2) for index in range(frames)]
        manifest = Manifest(
            created_ns=_T0_NS + 10**9,
            producer="vision-flight-recorder 0.1.0",
            incident=Incident(
                id=INCIDENT_ID,
                stream="line-3",
                severity="normal",
                opened_ns=_T0_NS + 5 * 10**8,
                window=Window(pre_frames=16, post_frames=4, post_seconds=5.0, closed_by="frames"),
                triggers=(
                    Trigger(
                        kind="low_confidence",
                        reason="confidence 0.31 is below 0.5",
                        frame=max(1, frames - 1),
                        time_ns=_T0_NS + 5 * 10**8,
                        value=0.31,
                        threshold=0.5,
                        parameters={"below": 0.5},
                    ),
                ),
                host="alive",
                lost={"capture:opaque": 1},
            ),
            contexts=(Context(id=0, since_ns=_T0_NS, environment=environment()),),
            models=(
                Model(
                    id=0,
                    name="classifier",
                    framework="torch",
                    type="torch.nn.modules.container.Sequential",
                    weights=Weights(digest="ab" * 32, size_bytes=1234, stored=True),
                ),
            ),
            frames=tuple(frame for frame, _ in parts),
            calls=tuple(call for _, call in parts),
            members=(),
        )
        writer.finish(path, manifest)
    return path


def environment() -> Environment:
    """A plausible environment."""
    return Environment(
        python="3.11.7",
        platform="linux-x86_64",
        cpu={"model": "Example CPU", "flags": ["avx2", "fma"], "count": 2},
        gpus=(),
        packages={"numpy": "2.4.0", "torch": "2.13.0"},
        variables={"OMP_NUM_THREADS": "1"},
        libraries={"torch.cpu_capability": "AVX2"},
        settings={"torch.num_threads": 1},
    )


def picture(random: np.random.Generator, height: int, width: int) -> npt.NDArray[np.uint8]:
    """A smooth colour image with noise, HWC uint8."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    phase = random.uniform(0, 6, 3)
    clean = 128 + 60 * np.sin(y[..., None] / 17 + phase) + 50 * np.cos(x[..., None] / 23 + phase)
    noisy = clean + random.normal(0, 2, clean.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def store_array(writer: BundleWriter, array: npt.NDArray[np.generic], container: str = "torch") -> TensorValue:
    """Store an array as the capture would: its bytes in memory order when it is dense."""
    strides = tuple(step // array.itemsize for step in array.strides)
    order = dense_order(array.shape, strides)
    data = (array if order is None else array.transpose(order)).tobytes()
    return writer.tensor(
        data,
        container=container,
        dtype=array.dtype.name,
        shape=array.shape,
        strides=strides,
        alignment=0,
        device="cpu",
    )


def _frame_and_call(
    writer: BundleWriter, random: np.random.Generator, index: int, height: int, width: int, unsure: bool
) -> tuple[Frame, Call]:
    pixels = picture(random, height, width)
    logits = random.normal(0, 1, (1, 10)).astype(np.float32)
    logits[0, index % 10] += 0 if unsure else 8
    answer: tuple[tuple[str | int, Value], ...] = (
        ("label", ScalarValue(value=int(logits.argmax()))),
        ("score", ScalarValue(value=0.31 if unsure else 0.97)),
        ("box", RecordValue(type="service.Box", form="dataclass", fields=(("x", ScalarValue(value=1.5)),))),
    )
    batch = (np.moveaxis(pixels, 2, 0)[None].astype(np.float32) / np.float32(255) - np.float32(0.45)) / np.float32(0.22)
    started = 10**9 + index * 33_000_000
    call = Call(
        id=101 + index,
        model=0,
        context=0,
        frames=(1 + index,),
        parent=None,
        status="returned",
        settings=CallSettings(training=False, grad_enabled=False, inference_mode=True),
        args=SequenceValue(form="tuple", items=(store_array(writer, np.ascontiguousarray(batch)),)),
        kwargs=MappingValue(items=()),
        output=store_array(writer, logits),
        started_monotonic_ns=started + 1_000_000,
        latency_seconds=0.021,
    )
    frame = Frame(
        id=1 + index,
        stream="line-3",
        status="complete",
        time_ns=_T0_NS + index * 33_000_000,
        monotonic_ns=started,
        context=0,
        calls=(101 + index,),
        images=(writer.image(1 + index, "image", pixels),),
        metadata={"camera": "line-3", "trace_id": f"t-{index}"},
        latency_seconds=0.025,
        output=MappingValue(items=answer),
    )
    return frame, call
