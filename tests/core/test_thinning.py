"""A bundle within a size: what goes first, what never goes, and that the file says so."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.bundle import Bundle, BundleInvalid
from recorder.bundle.manifest import Manifest, Trigger
from recorder.bundle.values import OpaqueValue
from recorder.sealer.thinning import OVER_LIMIT, _drop_order, thin
from tests.bundle.forge import Forgery
from tests.bundles import small_bundle
from tests.golden.regenerate import FOLDER


class Scale:
    """Stands for a writer: every member takes a thousand bytes, the rest nothing."""

    def measure(self, manifest: Manifest, annotate: Any = None) -> int:
        from recorder.bundle.check import paths_named

        return 1_000 * len(paths_named(manifest))


def seen(random: np.random.Generator) -> np.ndarray[Any, Any]:
    """A picture that nothing compresses, 12 kB."""
    return random.integers(0, 256, (64, 64, 3)).astype(np.uint8)


def record(recorder: Any, count: int, trigger_at: int) -> Path:
    """Record frames of noise with a call each, trigger in the middle of them, and return the bundle."""
    random = np.random.default_rng(0)
    model = recorder.attach(torch.nn.Identity(), store=False)
    incident = None
    for number in range(count):
        with recorder.frame(image=seen(random), camera="c", number=number) as frame:
            frame.output = float(model(torch.from_numpy(random.normal(0, 1, 8192).astype(np.float32)))[0])
            if number == trigger_at:
                incident = recorder.trigger("look at this")
    assert incident is not None
    path = incident.wait(timeout=240).path
    assert path is not None
    return Path(path)


def test_a_sealed_bundle_keeps_to_the_size_and_says_what_is_not_there(make_recorder: Any) -> None:
    """Metadata and answers of every frame stay; the trigger's payload does; the rest is every other from afar."""
    limit = 500_000
    path = record(make_recorder(max_bundle_bytes=limit, pre_frames=16, post_frames=4, post_seconds=30), 21, 15)
    assert limit * 0.75 < path.stat().st_size <= limit
    with Bundle.open(path) as bundle:
        assert bundle.verify() == []
        manifest = bundle.manifest
        thinning = manifest.incident.thinning
        assert thinning is not None and thinning.max_bundle_bytes == limit
        assert OVER_LIMIT not in manifest.incident.lost
        assert [frame.metadata["number"] for frame in manifest.frames] == list(range(20))
        calls = {call.id: call for call in manifest.calls}
        for frame in manifest.frames:
            assert frame.output is not None
            [call] = [calls[number] for number in frame.calls]
            [given_to_model] = call.args.items
            if frame.id in thinning.frames:
                [left_out] = frame.images_left_out
                assert (left_out.name, left_out.encoding, left_out.size_bytes) == ("image", "pixels", 64 * 64 * 3)
                assert isinstance(given_to_model, OpaqueValue) and not frame.images
            else:
                assert bundle.pixels(frame.images[0]).shape == (64, 64, 3)
        kept = [place for place, frame in enumerate(manifest.frames) if frame.id not in thinning.frames]
        assert 15 in kept
        far = [place for place in kept if place < 11]
        assert all(later - earlier > 1 for earlier, later in itertools.pairwise(far))


def test_a_window_that_is_small_enough_is_left_whole(make_recorder: Any) -> None:
    """And says nothing."""
    path = record(make_recorder(max_bundle_bytes=20_000_000, pre_frames=4, post_frames=0), 6, 5)
    with Bundle.open(path) as bundle:
        assert bundle.manifest.incident.thinning is None
        assert all(frame.images for frame in bundle.manifest.frames)


def test_a_limit_below_the_trigger_s_own_frame_is_exceeded_and_counted(make_recorder: Any) -> None:
    """Better a large bundle than one without the picture it is about."""
    path = record(make_recorder(max_bundle_bytes=2**16, pre_frames=5, post_frames=0, history_seconds=0), 6, 5)
    # The picture and the input of one frame alone take 45 kB; a second trigger would make it more than the limit.
    with Bundle.open(path) as bundle:
        manifest = bundle.manifest
        kept = [frame for frame in manifest.frames if frame.images]
        assert [frame.metadata["number"] for frame in kept] == [5]
        assert (manifest.incident.lost.get(OVER_LIMIT) == 1) == (path.stat().st_size > 2**16)
    fixed = thin(manifest, Scale(), 10)  # type: ignore[arg-type]  # all that thinning asks of a writer
    assert fixed.incident.lost[OVER_LIMIT] == 1
    assert [frame.id for frame in fixed.frames if frame.images] == [kept[0].id]


@pytest.mark.parametrize("wrong", [0, -1, 1000, 1.5, True, "10 MB"])
def test_a_wrong_limit_is_refused_when_the_recorder_is_made(make_recorder: Any, wrong: Any) -> None:
    """One sentence that names the argument."""
    with pytest.raises(ValueError, match="max_bundle_bytes"):
        make_recorder(max_bundle_bytes=wrong)


@settings(max_examples=30, deadline=None)
@given(
    frames=st.integers(1, 40),
    triggered=st.lists(st.one_of(st.none(), st.integers(1, 45)), min_size=1, max_size=4),
    batches=st.lists(st.sets(st.integers(1, 40), min_size=2, max_size=5), max_size=4),
)
def test_trigger_and_onset_are_never_dropped_and_batches_go_together(
    frames: int, triggered: list[int | None], batches: list[set[int]]
) -> None:
    """For any window, any triggers and any batches."""
    base = _some_manifest()
    first, call = base.frames[0], base.calls[0]
    manifest = replace(
        base,
        frames=tuple(replace(first, id=number, calls=()) for number in range(1, frames + 1)),
        calls=tuple(replace(call, id=number, frames=tuple(sorted(batch))) for number, batch in enumerate(batches)),
        incident=replace(
            base.incident,
            triggers=tuple(Trigger(kind="manual", reason="", frame=frame, time_ns=0) for frame in triggered),
        ),
    )
    order = _drop_order(manifest)
    dropped = [frame for group in order for frame in group]
    named = [frame for frame in triggered if frame is not None and frame <= frames]
    assert len(set(dropped)) == len(dropped) < frames or frames == 0
    assert set(dropped).isdisjoint([*named[:1], *([min(named)] if named else [])])
    for batch in batches:
        here = {frame for frame in batch if frame <= frames}
        together = [group for group in order if not here.isdisjoint(group)]
        assert len(together) <= 1 and (not together or here <= set(together[0]))


@functools.cache
def _some_manifest() -> Manifest:
    with Bundle.open(FOLDER / "1.0-batch.zst") as bundle:
        return bundle.manifest


def test_a_bundle_that_claims_to_have_thinned_frames_it_does_not_have_is_refused(tmp_path: Path) -> None:
    """What is said of frames must be of frames that are there, each once."""
    for frames in ([99], [2, 1], [1, 1]):
        forgery = Forgery.of(small_bundle(tmp_path / "a.zst").read_bytes())
        thinning = {"max_bundle_bytes": 10, "rule": "every-other-from-afar", "frames": frames}
        forgery.manifest["incident"]["thinning"] = thinning
        with pytest.raises(BundleInvalid, match="thinned"):
            Bundle.open(forgery.build())
