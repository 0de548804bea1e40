"""Networks whose graphs can leave sizes open, each with a trait of its own."""

from __future__ import annotations

import torch
from torch import nn


class Pyramid(nn.Module):
    """Fully convolutional, pooled with a rounded-up size: any image that is large enough (MTCNN's first network)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act1 = nn.Conv2d(3, 10, 3), nn.PReLU(10)
        self.pool = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.second, self.act2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
        self.face, self.box = nn.Conv2d(16, 2, 1), nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.act2(self.second(self.pool(self.act1(self.first(x)))))
        return self.box(x), self.face(x).softmax(1)


class Padded(nn.Module):
    """Takes another branch for heights that are no multiple of four; computes with sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
        height, width = x.shape[-2:]
        if height % 4:
            x = nn.functional.pad(x, (0, 0, 0, 4 - height % 4))
        with torch.no_grad():
            y = self.conv(x).reshape(x.shape[0], 4, -1).permute(0, 2, 1)
        y = y * y.shape[1]
        return y, torch.arange(height * width).view(height, width), height // 2


class Pair(nn.Module):
    """Two inputs whose sizes have to agree, one of them by keyword."""

    def forward(self, x: torch.Tensor, *, other: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat([x, other["y"]], dim=1) + x.mean()


class Small(nn.Module):
    """A convolution, a norm, a part that is a module of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(nn.functional.gelu(self.norm(self.body(x))).mean((2, 3)))


def eager() -> nn.Module:
    """The same weights every time."""
    torch.manual_seed(0)
    return Small().eval()


def compiled() -> nn.Module:
    """As a service's own factory may be: compiled, and a part of it once more."""
    model = eager()
    model.head.compile(backend="aot_eager")
    return torch.compile(model, backend="aot_eager")
