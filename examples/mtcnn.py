"""The MTCNN face detector in plain torch and numpy: three small networks in a cascade.

After Zhang et al. 2016, arXiv:1604.02878, with the key names of facenet-pytorch, whose package carries the weights.
That package is looked up, not imported: importing it needs torchvision.
"""

from __future__ import annotations

from importlib.metadata import distribution
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import interpolate

Boxes = np.ndarray[Any, np.dtype[np.float32]]

_MIN_FACE_PIXELS = 20
_PYRAMID_FACTOR = 0.709
_THRESHOLDS = (0.6, 0.7, 0.7)


class PNet(nn.Module):
    """Proposes: N x 3 x H x W in, box offsets N x 4 x h x w and face probabilities N x 2 x h x w out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 10, 3), nn.PReLU(10)
        self.pool1 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.conv2, self.prelu2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
        self.conv3, self.prelu3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
        self.conv4_1, self.conv4_2 = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 4, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.pool1(self.prelu1(self.conv1(x)))
        x = self.prelu3(self.conv3(self.prelu2(self.conv2(x))))
        return self.conv4_2(x), self.conv4_1(x).softmax(1)


class RNet(nn.Module):
    """Refines: N x 3 x 24 x 24 in, box offsets N x 4 and face probabilities N x 2 out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1, self.pool1 = nn.Conv2d(3, 28, 3), nn.PReLU(28), nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2, self.prelu2, self.pool2 = nn.Conv2d(28, 48, 3), nn.PReLU(48), nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.dense4, self.prelu4 = nn.Linear(576, 128), nn.PReLU(128)
        self.dense5_1, self.dense5_2 = nn.Linear(128, 2), nn.Linear(128, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.pool1(self.prelu1(self.conv1(x)))
        x = self.prelu3(self.conv3(self.pool2(self.prelu2(self.conv2(x)))))
        x = self.prelu4(self.dense4(x.permute(0, 3, 2, 1).flatten(1)))  # the weights expect W before H
        return self.dense5_2(x), self.dense5_1(x).softmax(1)


class ONet(nn.Module):
    """Decides: N x 3 x 48 x 48 in, box offsets N x 4, landmarks N x 10 and face probabilities N x 2 out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1, self.pool1 = nn.Conv2d(3, 32, 3), nn.PReLU(32), nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2, self.prelu2, self.pool2 = nn.Conv2d(32, 64, 3), nn.PReLU(64), nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv3, self.prelu3, self.pool3 = nn.Conv2d(64, 64, 3), nn.PReLU(64), nn.MaxPool2d(2, 2, ceil_mode=True)
        self.conv4, self.prelu4 = nn.Conv2d(64, 128, 2), nn.PReLU(128)
        self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.dense6_1, self.dense6_2, self.dense6_3 = nn.Linear(256, 2), nn.Linear(256, 4), nn.Linear(256, 10)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = self.pool2(self.prelu2(self.conv2(self.pool1(self.prelu1(self.conv1(x))))))
        x = self.prelu4(self.conv4(self.pool3(self.prelu3(self.conv3(x)))))
        x = self.prelu5(self.dense5(x.permute(0, 3, 2, 1).flatten(1)))
        return self.dense6_2(x), self.dense6_3(x), self.dense6_1(x).softmax(1)


def _load(model: nn.Module, file_name: str) -> nn.Module:
    [path] = [file.locate() for file in distribution("facenet-pytorch").files or [] if file.name == file_name]
    model.load_state_dict(torch.load(str(path), weights_only=True))
    return model.eval()


def pnet() -> nn.Module:
    """For ``replay --model mtcnn:pnet``."""
    return _load(PNet(), "pnet.pt")


def rnet() -> nn.Module:
    """For ``replay --model mtcnn:rnet``."""
    return _load(RNet(), "rnet.pt")


def onet() -> nn.Module:
    """For ``replay --model mtcnn:onet``."""
    return _load(ONet(), "onet.pt")


def factory() -> nn.ModuleDict:
    """All three networks under their names."""
    return nn.ModuleDict({"pnet": pnet(), "rnet": rnet(), "onet": onet()})


@torch.no_grad()
def detect(image: np.ndarray[Any, np.dtype[np.uint8]], networks: Any) -> Boxes:
    """Find faces in an H x W x 3 uint8 RGB image.

    Args:
        image: the picture.
        networks: what `factory` returns, or a dict of attached networks of those names.

    Returns:
        One row per face: left, top, right, bottom in pixels, probability.
    """
    pixels = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
    boxes = np.concatenate([_propose(pixels, scale, networks["pnet"]) for scale in _scales(*image.shape[:2])])
    boxes = _square(boxes[_suppress(boxes, 0.7)])
    for network, size, threshold in (("rnet", 24, _THRESHOLDS[1]), ("onet", 48, _THRESHOLDS[2])):
        crops = _crops(pixels, boxes, size)
        if not len(boxes):
            break
        answer = networks[network](crops)
        offsets, scores = answer[0].numpy(), answer[-1][:, 1].numpy()
        passed = scores > threshold
        boxes = np.column_stack([boxes[passed, :4], scores[passed]])
        boxes = _moved(boxes, offsets[passed])
        boxes = boxes[_suppress(boxes, 0.7, of_smaller=network == "onet")]
        boxes = boxes if network == "onet" else _square(boxes)
    return boxes


def _scales(height: int, width: int) -> list[float]:
    scale, scales = 12 / _MIN_FACE_PIXELS, []
    while min(height, width) * scale >= 12:
        scales.append(scale)
        scale *= _PYRAMID_FACTOR
    return scales


def _resized(pixels: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return (interpolate(pixels, size=(height, width), mode="area") - 127.5) / 128


def _propose(pixels: torch.Tensor, scale: float, network: Any) -> Boxes:
    height, width = pixels.shape[2:]
    offsets, scores = network(_resized(pixels, int(height * scale + 1), int(width * scale + 1)))
    score = scores[0, 1].numpy()
    rows, columns = np.nonzero(score >= _THRESHOLDS[0])
    corners = np.stack([columns, rows, columns, rows], 1) * 2 + np.array([1, 1, 12, 12])
    boxes = np.column_stack([np.floor(corners / scale), score[rows, columns]]).astype(np.float32)
    kept = _suppress(boxes, 0.5)
    return _moved(boxes[kept], offsets[0].numpy()[:, rows, columns].T[kept])


def _moved(boxes: Boxes, offsets: Boxes) -> Boxes:
    size = np.tile(boxes[:, 2:4] - boxes[:, :2], 2)
    return np.column_stack([boxes[:, :4] + offsets * size, boxes[:, 4]])


def _square(boxes: Boxes) -> Boxes:
    side = (boxes[:, 2:4] - boxes[:, :2]).max(1, keepdims=True)
    start = (boxes[:, :2] + boxes[:, 2:4] - side) / 2
    return np.column_stack([start, start + side, boxes[:, 4]])


def _crops(pixels: torch.Tensor, boxes: Boxes, size: int) -> torch.Tensor:
    height, width = pixels.shape[2:]
    crops = []
    for left, top, right, bottom in np.trunc(boxes[:, :4]).astype(int):
        left, top = min(max(left - 1, 0), width - 1), min(max(top - 1, 0), height - 1)
        crop = pixels[:, :, top : max(bottom, top + 1), left : max(right, left + 1)]
        crops.append(_resized(crop, size, size))
    return torch.cat(crops) if crops else torch.empty(0, 3, size, size)


def _suppress(boxes: Boxes, threshold: float, *, of_smaller: bool = False) -> list[int]:
    """Indices of the boxes that no better box overlaps; overlap is over the union, or over the smaller box."""
    areas = (boxes[:, 2:4] - boxes[:, :2]).clip(0).prod(1)
    order, kept = list(np.argsort(-boxes[:, 4], kind="stable")), []
    while order:
        best, *rest = order
        kept.append(int(best))
        size = np.minimum(boxes[best, 2:4], boxes[rest, 2:4]) - np.maximum(boxes[best, :2], boxes[rest, :2])
        shared = size.clip(0).prod(1)
        whole = np.minimum(areas[best], areas[rest]) if of_smaller else areas[best] + areas[rest] - shared
        order = [
            box for box, overlap in zip(rest, shared / np.maximum(whole, 1e-9), strict=True) if overlap <= threshold
        ]
    return kept
