"""Models whose answer is their argument, so that a test says what is answered."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import nn

_LOADS = itertools.count()


class Scores(nn.Module):
    """Answers its argument, the classes turned by some places."""

    def __init__(self, turn: int = 0) -> None:
        super().__init__()
        self.turn = turn

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.roll(x, self.turn, 1)


def scores() -> nn.Module:
    return Scores().eval()


def turned() -> nn.Module:
    """Every answer is the next class."""
    return Scores(1).eval()


def fickle() -> nn.Module:
    """Answers otherwise each time it is loaded."""
    return Scores(next(_LOADS) % 2).eval()


def broken() -> nn.Module:
    raise RuntimeError("no such checkpoint")


class Boxes(nn.Module):
    """Answers boxes as given, all of them sure."""

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        return {"boxes": x, "scores": torch.full((len(x),), 0.9), "labels": torch.ones(len(x), dtype=torch.int64)}


def boxes() -> nn.Module:
    return Boxes().eval()
