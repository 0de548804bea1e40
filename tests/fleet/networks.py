"""A classifier that mistakes one kind for another, and two candidates for it."""

from __future__ import annotations

import torch
from torch import nn


class Kinds(nn.Module):
    """Tells which of three numbers is the largest, after its weights."""

    def __init__(self, weights: list[list[float]]) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3, bias=False)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor(weights))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.layer(values)


def service() -> Kinds:
    """Takes the third for the first."""
    return Kinds([[4.0, 0.0, 9.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]])


def fixed() -> Kinds:
    """Right for all."""
    return Kinds([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]])


def other() -> Kinds:
    """Right for the third, wrong for the second."""
    return Kinds([[4.0, 5.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]])
