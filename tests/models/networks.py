"""Small networks with random weights, each with a trait that storing a model must survive."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class ResNet(nn.Module):
    """Residual blocks, batch normalisation, pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 7, 2, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.first = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.stem(x))
        x = torch.relu_(x + self.second(self.first(x)))
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class ViT(nn.Module):
    """Patches, a class token, attention, GELU."""

    def __init__(self) -> None:
        super().__init__()
        width = 32
        self.patches = nn.Conv2d(3, width, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, 17, width))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Dropout(0.1), nn.Linear(64, width))
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.position
        batch, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, length, 3, 4, width // 4).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        attended = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, length, width))
        return self.head((x + self.mlp(self.norm2(x)))[:, 0])


class Segmenter(nn.Module):
    """Squeeze and excitation, interpolation, transposed convolution; a dict for an answer."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 8, 3, 2, 1))
        self.squeeze, self.excite = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)
        self.up = nn.ConvTranspose2d(8, 4, 2, 2)
        self.act = nn.Hardswish()

    def forward(self, x: torch.Tensor, scale: float = 1.0) -> dict[str, Any]:
        deep = self.down((x - torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1)) * scale)
        weight = self.excite(nn.functional.relu6(self.squeeze(deep.mean((2, 3), keepdim=True)))).sigmoid()
        out = self.up(self.act(deep * weight))
        out = nn.functional.interpolate(out, size=x.shape[-2:], mode="bilinear", align_corners=False)
        return {"out": out, "classes": (out.argmax(1), out.softmax(1).amax((1, 2, 3))), "stride": 4}


class Oddities(nn.Module):
    """Tied weights, a non-persistent buffer, plain attributes, no_grad and autocast inside, kwargs, in-place writes."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 8, bias=False)
        self.decode = nn.Linear(8, 8, bias=False)
        self.decode.weight = self.embed.weight
        self.register_buffer("mean", torch.randn(8), persistent=False)
        self.scale = torch.randn(8)
        self.anchors = [torch.randn(8), (torch.randn(8),)]
        self.named = {"bias": torch.randn(8)}

    def forward(self, x: torch.Tensor, *, extra: dict[str, torch.Tensor] | None = None) -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            y = (self.embed(x) - self.mean) * self.scale
        with torch.autocast("cpu", torch.bfloat16):
            z = self.decode(y)
        y = y + z.float() + self.anchors[0] + self.anchors[1][0] + self.named["bias"]
        if extra is not None:
            y = y + extra["offset"]
        y[:, 0] = 1.0
        return y, z


class Stateful(nn.Module):
    """Keeps a running state in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.Linear(4, 4)
        self.register_buffer("state", torch.zeros(1, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.state = torch.tanh(self.cell(x) + self.state)
        return self.state * 2


def seeded(kind: type[nn.Module]) -> nn.Module:
    """Build a network with the same random weights every time, in evaluation mode."""
    torch.manual_seed(0)
    return kind().eval()
