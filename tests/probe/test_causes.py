"""A cause is confirmed by taking it back and bringing it about; one that is not the cause is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from recorder import FlightRecorder
from recorder.bundle import Bundle
from recorder.bundle.manifest import Manifest
from recorder.bundle.rewrite import rewrite
from recorder.bundle.writer import BundleWriter
from recorder.cause.vocabulary import FITTED
from recorder.triggers import low_confidence
from replay.probe.probing import ProbeOptions, probe_bundle
from replay.probe.subject import CannotProbe
from replay.probe.undoing import Suspicion, bring_about, can_be_undone, take_back
from tests.probe import networks


def scene(seed: int = 0, side: int = 64) -> np.ndarray:  # type: ignore[type-arg]
    """A picture with edges, colours and shades."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:side, 0:side]
    picture = 90 + 40 * np.sin(columns / 9)[..., None] * np.asarray([1.0, 0.7, 0.4]) + 20 * (rows > side / 2)[..., None]
    picture[side // 4 : side // 2, side // 3 : side // 2] = (200, 120, 60)
    return np.clip(np.rint(picture + random.normal(0, 3, picture.shape)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("cause", [cause for cause in FITTED[:-1] if can_be_undone(cause)])
def test_taking_back_what_was_brought_about_comes_nearer_to_the_clean_picture(cause: str) -> None:
    clean = [scene(number) for number in range(3)]
    suspicion = Suspicion(cause=cause, amount=None, clean=clean)
    harmed = bring_about(clean[0], suspicion, 5)
    undone = take_back(harmed, suspicion)
    assert undone.shape == clean[0].shape and undone.dtype == np.uint8

    def away(picture: np.ndarray) -> float:  # type: ignore[type-arg]
        inner = (slice(8, -8), slice(8, -8))  # what was moved out of the picture is gone
        return float(np.abs(picture[inner].astype(float) - clean[0][inner]).mean())

    def edges(picture: np.ndarray) -> float:  # type: ignore[type-arg]
        return float(np.abs(np.diff(picture.astype(float), axis=1)).mean())

    if cause in ("defocus", "motion-blur", "low-resolution"):  # what is lost stays lost, edges come back
        assert edges(harmed) < edges(undone)
    else:
        limit = {"noise": 1.0, "impulse-noise": 1.1, "compression": 1.0}.get(cause, 0.8)  # filters take some with them
        assert away(undone) < limit * away(harmed)


def test_red_and_blue_are_swapped_back() -> None:
    swapped = scene()[..., ::-1]
    assert np.array_equal(take_back(swapped, Suspicion(cause="channel-order", amount=None, clean=[])), scene())


def test_pictures_of_sixteen_bits_and_of_grey_are_taken_back_in_kind() -> None:
    grey = scene()[..., 0]
    for clean in (grey, grey.astype(np.uint16) * 257):
        suspicion = Suspicion(cause="darker", amount=1.4, clean=[clean])
        harmed = bring_about(clean, suspicion, 1)
        undone = take_back(harmed, suspicion)
        assert undone.dtype == clean.dtype and undone.shape == clean.shape
        assert harmed.mean() < 0.8 * clean.mean() and abs(undone.mean() / clean.mean() - 1) < 0.02


@pytest.fixture(scope="module")
def dark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An honest reader of digits whose light went down: six clean frames, then four at a sixth of it."""
    directory = tmp_path_factory.mktemp("dark")
    pictures, _ = networks.digits(10, 11, "none")
    pictures[6:] = torch.round(pictures[6:] * 255 / 6) / 255
    trigger = low_confidence(0.5)
    with FlightRecorder(
        sink=str(directory), triggers=[trigger], pre_frames=9, post_frames=3, max_bytes=2**25, overhead_budget=1
    ) as recorder:
        reader = recorder.attach(networks.trained("none"), name="reader")
        with torch.no_grad():
            for picture in pictures:
                reader(picture[None])
        assert recorder.flush(60)
    [path] = directory.glob("*.zst")
    return path


def named(path: Path, cause: str, tmp_path: Path) -> Path:
    """The bundle with a diagnosis."""

    def transform(manifest: Manifest, _: BundleWriter) -> Manifest:
        document = {"cause": cause, "confidence": 0.97, "ranking": [[cause, 0.97]], "evidence": {}}
        return replace(manifest, incident=replace(manifest.incident, cause=document))

    with Bundle.open(path) as bundle:
        rewrite(bundle, tmp_path / "named.zst", operation="pack", transform=transform)
    return tmp_path / "named.zst"


def test_the_cause_is_confirmed_and_another_is_not(dark: Path, tmp_path: Path) -> None:
    path = named(dark, "darker", tmp_path)
    with Bundle.open(path) as bundle:
        options = ProbeOptions(bundle_path=path, models=str(dark.parent / "models"), cause=True)
        [finding] = probe_bundle(bundle, options).findings
        [other] = probe_bundle(bundle, replace(options, suspect="camera-rotation")).findings
    assert finding.passed is True and finding.name == "cause: darker", finding.sentence
    assert finding.evidence["recovered"] == 1.0 and "trigger" in str(finding.evidence["judged_by"])
    assert len(finding.pictures) >= 6
    assert other.passed is False and "not confirmed" in other.sentence, other.sentence


@pytest.mark.parametrize(
    ("cause", "says"),
    [(None, "names no cause"), ("unknown", "says 'unknown'"), ("frozen-feed", "cannot be taken back")],
)
def test_what_cannot_be_tested_says_so(dark: Path, tmp_path: Path, cause: str | None, says: str) -> None:
    path = dark if cause is None else named(dark, cause, tmp_path)
    with Bundle.open(path) as bundle, pytest.raises(CannotProbe, match=says):
        probe_bundle(bundle, ProbeOptions(bundle_path=path, cause=True))
