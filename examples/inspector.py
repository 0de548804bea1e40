"""A surface inspector for `examples/suite.py`: as it was when the lamp failed, and as it was fixed."""

from __future__ import annotations

import numpy as np
import torch

CLASSES = ("ok", "scratch", "dent")


class Inspector(torch.nn.Module):
    """Scratches are brighter than the surface around them, dents darker; N x 1 x H x W in, N x 3 logits out."""

    def __init__(self, *, relative: bool) -> None:
        super().__init__()
        self.relative = relative  #: to the light there is; without it, half the light is half a scratch
        self.gain = torch.nn.Parameter(torch.tensor(40.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        contrast = x - torch.nn.functional.avg_pool2d(x, 9, 1, 4, count_include_pad=False)
        if self.relative:
            contrast = contrast / x.mean((1, 2, 3), keepdim=True)
        bright, dark = contrast.amax((1, 2, 3)), (-contrast).amax((1, 2, 3))
        return self.gain * torch.stack([torch.full_like(bright, 0.2), bright, dark], 1)


def broken() -> Inspector:
    """The model that was in production."""
    return Inspector(relative=False).eval()


def fixed() -> Inspector:
    """The candidate."""
    return Inspector(relative=True).eval()


def preprocess(image: np.ndarray) -> torch.Tensor:
    """HW uint8 to 1 x 1 x H x W between 0 and 1."""
    return torch.from_numpy(image)[None, None] / 255


def predict(image: np.ndarray, model: torch.nn.Module) -> dict[str, str]:
    """What the service answers."""
    with torch.inference_mode():
        return {"label": CLASSES[int(model(preprocess(image)).argmax())]}


def predict_broken(image: np.ndarray) -> dict[str, str]:
    """The service as it was, from the image."""
    return predict(image, broken())


def predict_fixed(image: np.ndarray) -> dict[str, str]:
    """The service with the candidate."""
    return predict(image, fixed())
