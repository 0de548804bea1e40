"""A small service as its author would write it, and the ways in which such a pipeline goes wrong."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import PIL.Image
import torch

MEAN = np.asarray([0.485, 0.456, 0.406], np.float32)
STD = np.asarray([0.229, 0.224, 0.225], np.float32)


class Colours(torch.nn.Module):
    """Which of three colours a picture has most of: 0 red, 1 green, 2 blue."""

    def __init__(self, gain: float = 4.0) -> None:
        super().__init__()
        self.mix = torch.nn.Conv2d(3, 3, 1, bias=False)
        with torch.no_grad():
            self.mix.weight.copy_(gain * torch.eye(3)[:, :, None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mix(x).mean((2, 3))


def build() -> Colours:
    """Build the model without its weights."""
    return Colours(gain=1.0).eval()


def worse() -> Colours:
    """Build a model whose own weights answer the opposite."""
    return Colours(gain=-4.0).eval()


_model = Colours().eval()


def preprocess(pixels: np.ndarray[Any, Any]) -> torch.Tensor:
    """32 x 32, normalised as ImageNet is; N x C x H x W."""
    small = np.asarray(PIL.Image.fromarray(pixels).resize((32, 32), PIL.Image.Resampling.BILINEAR), np.float32)
    return torch.from_numpy(np.ascontiguousarray(((small / 255 - MEAN) / STD).transpose(2, 0, 1)))[None]


def answer(model: Any, x: torch.Tensor) -> dict[str, Any]:
    """What the service says."""
    with torch.inference_mode():
        logits = model(x)
    return {"label": ("red", "green", "blue")[int(logits.argmax())]}


def predict(pixels: np.ndarray[Any, Any]) -> dict[str, Any]:
    return answer(_model, preprocess(pixels))


def predict_reversed_channels(pixels: np.ndarray[Any, Any]) -> dict[str, Any]:
    return answer(_model, preprocess(np.ascontiguousarray(pixels[..., ::-1])))


def predict_without_division(pixels: np.ndarray[Any, Any]) -> dict[str, Any]:
    small = np.asarray(PIL.Image.fromarray(pixels).resize((32, 32), PIL.Image.Resampling.BILINEAR), np.float32)
    return answer(_model, torch.from_numpy(np.ascontiguousarray(((small - MEAN) / STD).transpose(2, 0, 1)))[None])


def predict_with_another_resize(pixels: np.ndarray[Any, Any]) -> dict[str, Any]:
    small = np.asarray(PIL.Image.fromarray(pixels).resize((32, 32), PIL.Image.Resampling.NEAREST), np.float32)
    return answer(_model, torch.from_numpy(np.ascontiguousarray(((small / 255 - MEAN) / STD).transpose(2, 0, 1)))[None])


def predict_with_another_size(pixels: np.ndarray[Any, Any]) -> dict[str, Any]:
    return answer(_model, preprocess(pixels)[..., ::2, ::2].contiguous())


def predict_with_other_words(pixels: np.ndarray[Any, Any]) -> dict[str, Any]:
    return {"label": predict(pixels)["label"].upper()}


def predict_with_other_weights(pixels: np.ndarray[Any, Any]) -> dict[str, Any]:
    return answer(worse(), preprocess(pixels))


def predict_at_random(pixels: np.ndarray[Any, Any]) -> dict[str, Any]:
    import os

    noise = np.frombuffer(os.urandom(pixels.size), np.uint8).reshape(pixels.shape)
    return predict((pixels // 2 + noise // 2).astype(np.uint8))


def predict_file(data: bytes) -> dict[str, Any]:
    return predict(np.asarray(PIL.Image.open(io.BytesIO(data))))


def predict_path(path: str) -> dict[str, Any]:
    return predict(np.asarray(PIL.Image.open(path)))


def predict_picture(picture: PIL.Image.Image, metadata: dict[str, Any]) -> dict[str, Any]:
    assert metadata["camera"] == "line-3"
    return predict(np.asarray(picture))


def predict_and_fail(pixels: np.ndarray[Any, Any]) -> dict[str, Any]:
    raise ZeroDivisionError("the calibration of line-3 is zero")


def predict_by_download(pixels: np.ndarray[Any, Any]) -> dict[str, Any]:
    import urllib.request

    with urllib.request.urlopen("http://127.0.0.1:9/weights") as reply:
        return {"label": reply.read()}


NOT_A_FUNCTION = 3
