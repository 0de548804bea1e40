"""Models whose answers depend on what a bisection changes."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import nn


class OfLibrary(nn.Module):
    """Adds what an installed package says."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        try:
            library: Any = importlib.import_module("flight_recorder_test_library")
        except ModuleNotFoundError:
            return x
        return x + float(library.OFFSET)


def of_library() -> nn.Module:
    return OfLibrary()


class CountsItems(OfLibrary):
    """Adds how many items the batch has."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.sum((1, 2, 3)) + len(x))


def counts_items() -> nn.Module:
    return CountsItems()
