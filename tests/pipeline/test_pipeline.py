"""The user's own pipeline, run again from the recorded image: which stage gives something else, and by which name."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from replay.pipeline.passes import with_stages
from replay.pipeline.stages import PipelineVerdict
from replay.verdict import FrameVerdict, Level, ReplayResult
from tests.pipeline.conftest import encoded, record

Run = Callable[..., ReplayResult]


def stages(frame: FrameVerdict) -> dict[str, str]:
    return {stage.name: stage.level.value for stage in frame.stages}


def test_the_same_pipeline_reproduces_every_stage_bit_for_bit(arrays: Path, run: Run) -> None:
    result = run(arrays, "predict", repeat=2)
    assert result.verdict is Level.BIT_EXACT and result.exit_code == 0
    for frame in result.frames:
        assert stages(frame) == {"preprocess": "bit-exact", "model": "bit-exact", "postprocess": "bit-exact"}
    assert "preprocessing was not re-run" not in result.conclusion


@pytest.mark.parametrize(
    ("pipeline", "named"),
    [
        ("predict_reversed_channels", "colour channels are in the reverse order"),
        ("predict_without_division", "another normalisation"),
        ("predict_with_another_size", "its size is another: [1, 3, 32, 32] was recorded, [1, 3, 16, 16] came"),
        ("predict_with_another_resize", "another resize"),
    ],
)
def test_a_skew_of_the_preprocessing_is_found_at_its_stage_and_named(
    arrays: Path, run: Run, pipeline: str, named: str
) -> None:
    result = run(arrays, pipeline)
    for frame in result.frames:
        assert stages(frame)["preprocess"] == "diverged"
        assert frame.first_difference is not None and frame.first_difference.stage == "preprocess"
        assert named in frame.first_difference.what
        assert all(call.level is Level.BIT_EXACT for call in frame.calls)  # the model on its recorded input is itself
    if pipeline == "predict_reversed_channels":
        assert result.verdict is Level.DIVERGED and result.exit_code == 1


def test_a_difference_after_the_model_is_found_there(arrays: Path, run: Run) -> None:
    result = run(arrays, "predict_with_other_words")
    for frame in result.frames:
        assert stages(frame) == {"preprocess": "bit-exact", "model": "bit-exact", "postprocess": "diverged"}
        assert frame.first_difference is not None and frame.first_difference.stage == "postprocess"


def test_other_weights_are_named(arrays: Path, run: Run) -> None:
    result = run(arrays, "predict_with_other_weights")
    [first, *_] = result.frames
    assert stages(first)["preprocess"] == "bit-exact" and stages(first)["model"] == "diverged"
    assert first.first_difference is not None
    assert "the pipeline's model has other weights" in first.first_difference.what


def test_a_pipeline_that_disagrees_with_itself_is_nondeterministic(arrays: Path, run: Run) -> None:
    result = run(arrays, "predict_at_random", repeat=2)
    assert result.verdict is Level.NONDETERMINISTIC and result.exit_code == 5


def test_an_exception_where_an_answer_was_recorded_is_a_divergence(arrays: Path, run: Run) -> None:
    result = run(arrays, "predict_and_fail")
    assert result.verdict is Level.DIVERGED
    [first, *_] = result.frames
    assert first.first_difference is not None and "ZeroDivisionError" in first.first_difference.what


def test_an_exception_outside_the_model_is_reproduced_by_the_pipeline(tmp_path: Path, run: Run) -> None:
    from tests.pipeline import service

    bundle = None
    with pytest.raises(ZeroDivisionError):
        bundle = record(tmp_path, lambda image: image, service.predict_and_fail)
    assert bundle is None
    [bundle] = tmp_path.glob("*.zst")
    result = run(bundle, "predict_and_fail")
    assert result.verdict is Level.BIT_EXACT and result.failure_reproduced is True
    again = run(bundle, "predict")
    assert again.verdict is Level.DIVERGED and again.failure_reproduced is False


@pytest.mark.parametrize("source", ["encoded", "path", "pil"])
def test_the_pipeline_gets_the_image_as_the_service_did(tmp_path: Path, run: Run, source: str) -> None:
    def give(image: np.ndarray[Any, Any]) -> Any:
        if source == "pil":
            return PIL.Image.open(io.BytesIO(encoded(image)))
        if source == "encoded":
            return encoded(image)
        path = tmp_path / "camera.png"
        path.write_bytes(encoded(image))
        return path

    bundle = record(tmp_path / "sink", give, None)
    pipeline = {"encoded": "predict_file", "path": "predict_path", "pil": "predict_picture"}[source]
    result = run(bundle, pipeline)
    assert result.verdict is Level.BIT_EXACT, result
    assert ("decode" in stages(result.frames[0])) == (source != "pil")


@pytest.mark.parametrize(
    ("pipeline", "said"),
    [
        ("no_such_function", "cannot be imported"),
        ("NOT_A_FUNCTION", "is no function"),
        ("predict_by_download", "reach the network"),
    ],
)
def test_a_pipeline_that_cannot_run_here_is_said_and_is_no_divergence(
    arrays: Path, run: Run, pipeline: str, said: str
) -> None:
    result = run(arrays, pipeline)
    assert result.verdict is Level.NOT_REPLAYABLE and result.exit_code == 3
    assert all(said in frame.reason for frame in result.frames), result.frames


def test_a_frame_that_its_pipeline_could_not_run_says_why() -> None:
    """Not that no model call was recorded, which no pipeline needs."""
    frame = FrameVerdict(id=1, level=Level.NOT_REPLAYABLE, reason="no model call was recorded in it", compared=False)
    found = PipelineVerdict(level=Level.NOT_REPLAYABLE, stages=(), reason="the worker was ended after 3 seconds")
    assert with_stages(frame, found).reason == "the worker was ended after 3 seconds"
