"""One profile of a made scene, for all tests: fitting it takes seconds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from recorder.cause import model as cause_model
from recorder.profile import Profile


def scene(frames: int, seed: int = 0, height: int = 72, width: int = 96) -> list[npt.NDArray[np.uint8]]:
    """A fixed camera before coloured blocks, with a sensor's noise and a light that breathes."""
    rng = np.random.default_rng(7)
    blocks = rng.uniform(0.15, 0.85, (height // 6, width // 6, 3))
    blocks *= np.array([1.0, 0.8, 0.55])
    still = np.kron(blocks, np.ones((6, 6, 1))) * rng.uniform(0.85, 1.0, (height, width, 1))
    drawn = np.random.default_rng(seed)
    made = []
    for _ in range(frames):
        frame = still * (1 + 0.01 * drawn.standard_normal()) + 0.01 * drawn.standard_normal(still.shape)
        made.append((np.clip(frame, 0, 1) * 255 + 0.5).astype(np.uint8))
    return made


@pytest.fixture(scope="session")
def profile() -> Any:
    """A profile of the scene, fitted on few examples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cause_model, "_EXAMPLES", 2)
        return Profile.fit(scene(48), model_digest="ab" * 32)
