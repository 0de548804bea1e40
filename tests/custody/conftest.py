"""A bundle with something to hide in every place that can hide it."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pil

from recorder.bundle import Bundle, BundleWriter, Manifest
from recorder.bundle.manifest import ExceptionInfo, ImageLeftOut, Trigger
from recorder.bundle.rewrite import rewrite
from recorder.bundle.values import ScalarValue
from tests.bundles import small_bundle, store_array
from tests.cli.conftest import Run, replay
from tests.golden.regenerate import track

__all__ = ["OPERATOR", "PATIENT", "Run", "replay", "secretive"]

OPERATOR = "Erika Mustermann"
PATIENT = "patient-4711"


def secretive(path: Path, patient: str = PATIENT, stream: str = "line-3", seed: int = 0) -> Path:
    """Write a bundle of four frames: an EXIF position, two images a frame, names in metadata and in texts that quote
    them, an exception, an image left out, and a history with thumbnails.
    """
    plain = small_bundle(path.with_name("plain.zst"), seed=seed)

    def fill(manifest: Manifest, writer: BundleWriter) -> Manifest:
        history = track(writer)
        frames = []
        for frame in manifest.frames:
            random = np.random.default_rng(frame.id + seed)
            photo = io.BytesIO()
            exif = pil.Exif()
            exif[0x9C9D] = f"{OPERATOR} at home".encode("utf-16le")
            pixels = random.integers(0, 255, (40, 50, 3), np.uint8)
            pil.fromarray(pixels).save(photo, "JPEG", exif=exif, comment=b"taken by " + OPERATOR.encode())
            left = writer.encoded_image(frame.id, "left", photo.getvalue(), "path")
            out = ImageLeftOut(name="right", source="array", encoding="pixels", size_bytes=9, sha256="cd" * 32)
            metadata = {"operator": OPERATOR, "patient": patient, "camera": stream, "boxes": [[5, 5, 20, 20]]}
            frames.append(
                replace(
                    frame,
                    stream=stream,
                    images=(*frame.images, left),
                    images_left_out=(out,),
                    metadata={**metadata, "api_key": "sk-abcdefghijklmnopqrstuvwxyz"},
                    sensor_time=f"{OPERATOR} noted it",
                    output=store_array(writer, random.normal(0, 1, (7,)).astype(np.float32)),
                )
            )
        info = ExceptionInfo(type="builtins.ValueError", message=f"no {patient} for {OPERATOR}", stage="model")
        frames[2] = replace(frames[2], exception=info, status="raised")
        calls = tuple(
            replace(call, kwargs=replace(call.kwargs, items=(("prompt", ScalarValue(value=f"find {patient}")),)))
            for call in manifest.calls
        )
        trigger = Trigger(
            kind="exception", reason=f"ValueError: no {patient} for {OPERATOR}", frame=3, time_ns=5,
            parameters={"type": "builtins.ValueError", "said": f"by {OPERATOR}"},
        )  # fmt: skip
        incident = replace(manifest.incident, stream=stream, triggers=(trigger, *manifest.incident.triggers))
        history = replace(
            history,
            levels=tuple(replace(level, stream="line-3") for level in history.levels),
        )
        return replace(manifest, frames=tuple(frames), calls=calls, incident=incident, track=history)

    with Bundle.open(plain) as source:
        rewrite(source, path, operation="pack", transform=fill)
    plain.unlink()
    return path


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One such bundle."""
    return secretive(tmp_path_factory.mktemp("bundle") / "incident.zst")


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No config and no key of the user's."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("FLIGHT_RECORDER_PRIVACY_KEY", raising=False)
