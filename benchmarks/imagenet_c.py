"""ImageNet-C's corruptions, the field's standard set: used neither to fit a profile nor to develop the method.

They are those of Hendrycks and Dietterich in the package imagecorruptions (Apache-2.0), on full frames, at its own
severities. It is installed by itself (``pip install --no-deps imagecorruptions==1.1.2``), for it asks for an OpenCV
with windows that would replace the one without; and it was written for older libraries, so what they have renamed since
is put in its way here. What it computes is left alone.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from recorder.cause.vocabulary import UNKNOWN

__all__ = ["IMAGENET_C", "is_installed", "made_by_imagenet_c"]

Frame = npt.NDArray[np.uint8]

#: By name: the cause it is, `UNKNOWN` where the vocabulary has none, and whether every frame is drawn anew. A lens, a
#: pane and the weather in the distance stay while an incident lasts; noise and what falls do not.
IMAGENET_C: dict[str, tuple[str, bool]] = {
    "gaussian_noise": ("noise", True),
    "shot_noise": ("noise", True),
    "speckle_noise": ("noise", True),
    "impulse_noise": ("impulse-noise", True),
    "defocus_blur": ("defocus", False),
    "gaussian_blur": ("defocus", False),
    "motion_blur": ("motion-blur", False),
    "snow": ("snow", True),
    "fog": ("fog", False),
    "brightness": ("brighter", False),
    "contrast": ("low-contrast", False),
    "jpeg_compression": ("compression", False),
    "pixelate": ("low-resolution", False),
    "frost": (UNKNOWN, False),
    "glass_blur": (UNKNOWN, False),
    "zoom_blur": (UNKNOWN, False),
    "elastic_transform": (UNKNOWN, False),
    "spatter": (UNKNOWN, False),
    "saturate": (UNKNOWN, False),
}
_module: ModuleType | None = None


def is_installed() -> bool:
    """Whether the package is there."""
    return importlib.util.find_spec("imagecorruptions") is not None


def made_by_imagenet_c(frames: Sequence[Frame], kind: str, severity: int, seed: int) -> list[Frame]:
    """Return (height, width, 3) frames of one incident with such a corruption, at a severity from 1 to 5."""
    module = _adapted()
    corruption: Callable[..., Any] = getattr(module, kind)
    before = np.random.get_state()  # the package draws from the global generator
    try:
        np.random.seed(seed)
        if kind == "glass_blur":  # it walks over the pixels in Python: all frames at once, behind the same pane
            stacked = np.concatenate(frames, axis=2)
            made = np.split(np.uint8(corruption(stacked, severity)), len(frames), axis=2)
            return [np.ascontiguousarray(frame) for frame in made]
        found = []
        for frame in frames:
            if not IMAGENET_C[kind][1]:
                np.random.seed(seed)
            found.append(np.uint8(corruption(module.Image.fromarray(frame), severity)))
        return found
    finally:
        np.random.set_state(before)


def _adapted() -> ModuleType:
    """The package's module of corruptions, with what newer libraries renamed."""
    global _module
    if _module is None:
        with _stood_in():
            import imagecorruptions.corruptions as module
        from skimage.filters import gaussian

        def blurred(image: Any, *given: Any, multichannel: bool = False, **options: Any) -> Any:
            return gaussian(image, *given, channel_axis=-1 if multichannel else None, **options)

        module.gaussian = blurred
        older = ModuleType("numpy")
        older.__dict__.update(np.__dict__, float_=np.float64)
        module.np = older
        _module = module
    return _module


@contextmanager
def _stood_in() -> Iterator[None]:
    """Stand in for modules that setuptools and SciPy have done away with."""
    from scipy.ndimage import map_coordinates

    spec = importlib.util.find_spec("imagecorruptions")
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).parent
    resources, interpolation = ModuleType("pkg_resources"), ModuleType("scipy.ndimage.interpolation")
    resources.__dict__["resource_filename"] = lambda _, name: str(folder / name)
    interpolation.__dict__["map_coordinates"] = map_coordinates
    given = {each.__name__: each for each in (resources, interpolation)}
    held = {name: sys.modules.get(name) for name in given}
    sys.modules.update(given)
    try:
        yield
    finally:
        for name, module in held.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
