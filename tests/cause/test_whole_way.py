"""From clean frames to a named cause with the commands alone, and what becomes of frames that say nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as pil

from recorder import FlightRecorder
from recorder.bundle import Bundle, BundleWriter
from recorder.bundle.manifest import Frame
from recorder.cause import model as cause_model
from recorder.keeper import _is_served
from tests.bundles import small_bundle
from tests.cause.conftest import scene
from tests.cli.conftest import Run, assert_one_sentence, replay
from tests.waiting import wait_for

__all__ = ["replay"]  # a fixture

SIZE = {"height": 36, "width": 48}
#: Of the model in `small_bundle`.
DIGEST = "ab" * 32


@pytest.fixture(autouse=True, scope="module")
def few_examples() -> Iterator[None]:
    """Fitting takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cause_model, "_EXAMPLES", 1)
        yield


@pytest.fixture(scope="module")
def parts() -> list[str]:
    """What lies before the camera, frame by frame."""
    return np.random.default_rng(0).choice(["scratch", "fine"], 72).tolist()


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of 52 clean frames, as a recorder seals it."""
    sink = tmp_path_factory.mktemp("clean")
    with FlightRecorder(
        sink=str(sink), triggers=[], pre_frames=64, post_frames=0, max_bytes=2**25, overhead_budget=1
    ) as recorder:
        for picture in scene(52, **SIZE):
            with recorder.frame(image=picture, camera="line-3"):
                pass
        path = recorder.trigger("clean frames").wait(120).path
    assert path is not None
    return Path(path)


@pytest.fixture(scope="module")
def built(clean: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The profile of that bundle, made by the command."""
    from click.testing import CliRunner

    from replay.cli import cli

    path = tmp_path_factory.mktemp("profile") / "line-3.profile"
    done = CliRunner().invoke(cli, ["profile", "build", str(clean), "-o", str(path), "--model-digest", DIGEST])
    assert done.exit_code == 0, done.output
    return path


@pytest.fixture(scope="module")
def incidents(built: Path, parts: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Sealed by a recorder with that profile: line-3 becomes dark, of line-7 only the frames with a scratch do."""
    sink = tmp_path_factory.mktemp("incidents")
    with FlightRecorder(
        sink=str(sink), profile=built, triggers=[], pre_frames=64, post_frames=30, cooldown_seconds=0,
        dedupe_seconds=0, max_bytes=2**25, overhead_budget=1,
    ) as recorder:  # fmt: skip
        opened = {}
        for camera, spoilt in (("line-3", ("scratch", "fine")), ("line-7", ("scratch",))):
            for number, (picture, part) in enumerate(zip(scene(72, seed=5, **SIZE), parts, strict=True)):
                if number == 41:
                    opened[camera] = recorder.trigger("look")
                light = 0.5 if number >= 40 and part in spoilt else 1.0
                with recorder.frame(image=(picture * light).astype(np.uint8), camera=camera, part=part, nonce=number):
                    pass
        assert recorder.flush(120)
        paths = {camera: each.wait(120).path for camera, each in opened.items()}
    return {camera: Path(path) for camera, path in paths.items() if path is not None}


@pytest.fixture
def incident(incidents: dict[str, Path]) -> Path:
    """The dark one."""
    return incidents["line-3"]


def test_a_built_profile_is_shown(built: Path, replay: Run) -> None:
    shown = replay("profile", "show", built, "--json").json()
    assert shown["model_digest"] == DIGEST and shown["refused"] == {}
    assert shown["cameras"] == [{"key": "line-3", "height": 36, "width": 48, "fixed": True}]
    [drift] = shown["drift"]
    assert drift["key"] == "line-3" and drift["frames"] < 100 and drift["frames_per_false_alarm"] == 10_000
    said = replay("profile", "show", built).out
    assert "line-3: 48x36, fixed" in said and "keeps 1 false alarm in 10,000 frames, not in 100,000" in " ".join(
        said.split()
    )


def test_the_cause_stands_wherever_the_incident_is_looked_at(
    built: Path, incident: Path, tmp_path: Path, replay: Run
) -> None:
    assert "Cause: darker" in replay("show", incident).out
    assert replay("show", incident, "--json").json()["cause"] == "darker"
    assert len(replay("ls", incident.parent, "--cause", "darker", "--json").json()["incidents"]) == 1
    assert replay("report", incident, "-o", tmp_path / "page.html").code == 0
    assert "<b>darker" in (tmp_path / "page.html").read_text("utf-8")
    said = replay("diagnose", incident, "--profile", built)
    assert said.code == 1 and said.out.startswith("darker")


def test_a_sealer_in_the_foreground_takes_the_profile_too(built: Path, tmp_path: Path, replay: Run) -> None:
    rings = tmp_path / "ring"
    rings.mkdir(mode=0o700)
    command = [sys.executable, "-m", "replay", "seal", "--watch", rings, "--sink", tmp_path / "sink"]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "TMPDIR": str(tmp_path)}
    with subprocess.Popen([*command, "--profile", built], env=environment, stderr=subprocess.DEVNULL) as sidecar:
        try:
            wait_for(lambda: _is_served(rings))
            with FlightRecorder(
                sink=str(tmp_path / "sink"),
                ring=rings / "host.ring",
                triggers=[],
                post_frames=0,
                max_bytes=2**25,
                overhead_budget=1,
            ) as recorder:
                for picture in scene(16, seed=6, **SIZE):
                    with recorder.frame(image=(picture // 2).astype(np.uint8), camera="line-3"):
                        pass
                path = recorder.trigger("look").wait(120).path
        finally:
            sidecar.send_signal(signal.SIGTERM)
            assert sidecar.wait(120) == 0
    assert path is not None and "Cause: darker" in replay("show", path).out


@pytest.mark.parametrize(("content", "code"), [(b"{}", 4), (None, 2)], ids=["no-profile", "missing"])
def test_a_foreground_sealer_refuses_a_profile_that_is_none(
    content: bytes | None, code: int, tmp_path: Path, replay: Run
) -> None:
    if content is not None:
        (tmp_path / "x.profile").write_bytes(content)
    words = ["seal", "--watch", tmp_path, "--sink", tmp_path / "sink", "--once"]
    done = replay(*words, "--profile", tmp_path / "x.profile")
    assert done.code == code
    assert_one_sentence(done.err)
    assert replay(*words, "--warmup-frames", 10).code == 2


def test_the_slice_that_carries_it_is_named(incidents: dict[str, Path], tmp_path: Path, replay: Run) -> None:
    dark, one = incidents["line-3"], incidents["line-7"]
    for words in ([one], [one.parent, "--stream", "line-7", "--since", "1h"]):
        done = replay("slices", *words)
        assert done.code == 1 and done.out.startswith("part=scratch carries the shift: ")
    assert replay("slices", dark).code == 0
    assert replay("slices", dark.parent).out.startswith("stream=line-3 carries the shift: ")
    found = replay("slices", one, "--json")
    telling = [each for each in json.loads(found.out) if not each["passed"]]
    assert [each["name"] for each in telling] == ["part=scratch"]
    assert telling[0]["evidence"]["effect_sigma"] < 0 < telling[0]["evidence"]["frames_before"]
    assert replay("report", one, "-o", tmp_path / "page.html").code == 0
    assert "<dt>Affected</dt><dd>part=scratch carries the shift" in (tmp_path / "page.html").read_text("utf-8")


def test_where_nothing_can_be_sliced_it_says_so(clean: Path, tmp_path: Path, replay: Run) -> None:
    done = replay("slices", clean, "--json")
    assert (done.code, done.out) == (3, "[]\n") and "1 of 1 incidents left out" in done.err
    assert replay("slices", tmp_path / "none.zst").code == 2
    (tmp_path / "broken.zst").write_bytes(b"no bundle")
    assert replay("slices", tmp_path / "broken.zst").code == 4
    assert replay("slices", tmp_path).code == 3


def bundle_of(path: Path, pictures: Sequence[np.ndarray[Any, Any]], **metadata: Any) -> Path:
    """A bundle of these images, with the model of `small_bundle`; the last but one has triggered."""
    with Bundle.open(small_bundle(path.with_suffix(".made"))) as old, BundleWriter(path.parent) as writer:
        frames = tuple(
            Frame(
                id=number, stream="line-3", status="complete", time_ns=10**18 + number, monotonic_ns=number, context=0,
                calls=(), images=(writer.image(number, "image", pixels),), metadata=metadata,
            )
            for number, pixels in enumerate(pictures, 1)
        )  # fmt: skip
        manifest = old.manifest
        [trigger] = manifest.incident.triggers
        told = replace(manifest.incident, triggers=(replace(trigger, frame=max(1, len(frames) - 1)),))
        writer.finish(path, replace(manifest, incident=told, frames=frames, calls=(), members=()))
    return path


def odd(kind: str) -> list[np.ndarray[Any, Any]]:
    clean = scene(16, seed=9, **SIZE)
    made: dict[str, list[np.ndarray[Any, Any]]] = {
        "constant": [np.full_like(clean[0], 90 + number % 3) for number in range(16)],
        "one pixel": [np.full((1, 1, 3), number, np.uint8) for number in range(16)],
        "changing": [*clean[:8], *scene(8, height=48, width=48)],
        "one frame": clean[:1],
        "grey": [frame[..., 1] for frame in clean],
    }
    return made[kind]


@pytest.mark.parametrize("kind", ["one pixel", "changing", "one frame"])
def test_frames_that_say_nothing_are_unknown_with_the_reason(
    kind: str, built: Path, tmp_path: Path, replay: Run
) -> None:
    done = replay("diagnose", bundle_of(tmp_path / "a.zst", odd(kind)), "--profile", built, "--json")
    assert done.code == 3
    assert done.json()["cause"] == "unknown" and done.json()["evidence"]["reason"]


@pytest.mark.parametrize("kind", ["constant", "grey"])
def test_what_was_never_learnt_is_not_called_healthy(kind: str, built: Path, tmp_path: Path, replay: Run) -> None:
    done = replay("diagnose", bundle_of(tmp_path / "a.zst", odd(kind)), "--profile", built, "--json")
    assert done.code in (1, 3) and done.json()["cause"] != "none"


def test_sixteen_bits_and_alpha_change_nothing(built: Path, tmp_path: Path, replay: Run) -> None:
    clean = scene(16, seed=9, **SIZE)
    with_alpha = [np.dstack([frame, np.full(frame.shape[:2], 7, np.uint8)]) for frame in clean]
    for name, pictures in (("8", clean), ("16", [frame.astype(np.uint16) * 257 for frame in clean]), ("a", with_alpha)):
        done = replay("diagnose", bundle_of(tmp_path / f"{name}.zst", pictures), "--profile", built, "--json")
        assert (done.code, done.json()["cause"]) == (0, "none")


def test_a_profile_of_another_model_says_nothing(built: Path, tmp_path: Path, replay: Run) -> None:
    other = tmp_path / "other.profile"
    other.write_text(built.read_text().replace(DIGEST, "cd" * 32))
    done = replay("diagnose", bundle_of(tmp_path / "a.zst", scene(16, **SIZE)), "--profile", other)
    assert done.code == 3 and "another model" in done.out


@pytest.mark.parametrize(
    ("pictures", "says"),
    [
        ([np.full((40, 40), 90, np.uint8)] * 40, "one colour"),
        ([np.zeros((1, 1, 3), np.uint8)] * 40, "at least 32 pixels"),
        ([*scene(4, **SIZE), *scene(4, height=48, width=48)], "change their size"),
        (scene(10, **SIZE), "at least 32"),
        ([frame[..., 0].astype(np.uint16) * 257 for frame in scene(10, **SIZE)], "at least 32"),
        ([np.dstack([frame, frame[..., :1]]) for frame in scene(10, **SIZE)], "at least 32"),
    ],
    ids=["constant", "one-pixel", "changing", "ten-frames", "ten-of-16-bits", "ten-with-alpha"],
)
def test_a_directory_that_nothing_can_be_learnt_from_is_refused(
    pictures: Any, says: str, tmp_path: Path, replay: Run
) -> None:
    (tmp_path / "frames").mkdir()
    for number, pixels in enumerate(pictures):
        pil.fromarray(pixels).save(tmp_path / "frames" / f"{number:03}.png")
    done = replay("profile", "build", tmp_path / "frames", "-o", tmp_path / "new.profile")
    assert done.code == 2 and not (tmp_path / "new.profile").exists()
    assert_one_sentence(done.err, [says])


def test_strings_of_a_bundle_are_inert_in_a_slice(tmp_path: Path, replay: Run) -> None:
    """Names of labels and their values, on a terminal."""
    hostile = '\x1b]0;owned\x07"><script>alert(1)</script>'
    clean = scene(40, **SIZE)
    dark = [frame // 2 if number >= 20 and number % 2 else frame for number, frame in enumerate(clean)]
    path = bundle_of(tmp_path / "a.zst", dark)
    with Bundle.open(path) as old, BundleWriter(tmp_path) as writer:
        frames = []
        for number, frame in enumerate(old.manifest.frames):
            images = (writer.image(frame.id, "image", old.pixels(frame.images[0])),)
            frames.append(replace(frame, images=images, metadata={hostile: f"{hostile}{number % 2}"}))
        [trigger] = old.manifest.incident.triggers
        told = replace(old.manifest.incident, triggers=(replace(trigger, frame=21),))
        writer.finish(tmp_path / "b.zst", replace(old.manifest, incident=told, frames=tuple(frames), members=()))
    done = replay("slices", tmp_path / "b.zst")
    assert done.code == 1 and "carries the shift" in done.out
    assert all(line.isprintable() for line in done.out.splitlines()) and "owned" not in done.out
