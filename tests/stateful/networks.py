"""Small models with a state, each of another kind, given by factories as a user's would be."""

from __future__ import annotations

import torch
from torch import nn


class Buffer(nn.Module):
    """A recurrent cell whose hidden state is a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.Linear(12, 8)
        self.register_buffer("hidden", torch.zeros(1, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        new = torch.tanh(self.cell(torch.cat([x, self.hidden], 1)))
        self.hidden.copy_(new)
        return new * 2


class Attribute(nn.Module):
    """A running mean in a plain attribute, changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.mean = torch.zeros(1, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.mean.mul_(0.9).add_(x * 0.1)
        return self.head(x - self.mean)


class Replaced(nn.Module):
    """A hidden state in an attribute that each call replaces; there is none before the first."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.Linear(4, 4)
        self.hidden: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before = x if self.hidden is None else self.hidden
        self.hidden = torch.tanh(self.cell(x) + before)
        return self.hidden * 3


class Norm(nn.Module):
    """A batch norm that is left in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.head(x)) + self.norm.running_mean


class Rows(nn.Module):
    """Remembers something of each row of its batch, and refuses what a row has come to."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.Linear(8, 4)
        self.register_buffer("hidden", torch.zeros(4, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool((torch.cat([x, self.hidden], 1) > 5).any()):
            raise ValueError("a row has grown too large")
        self.hidden = x.clone()
        return self.cell(torch.cat([x, self.hidden], 1))


class Large(nn.Module):
    """A bank of a little more than four megabytes, of which each answer tells."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 4)
        self.register_buffer("bank", torch.zeros(1, 2**20 + 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.bank.add_(x.sum())
        return self.head(x) - 3 * self.bank[:, :4]


def _made(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return kind()


def buffer() -> nn.Module:
    return _made(Buffer).eval()


def attribute() -> nn.Module:
    return _made(Attribute).eval()


def replaced() -> nn.Module:
    return _made(Replaced).eval()


def norm() -> nn.Module:
    return _made(Norm)


def large() -> nn.Module:
    return _made(Large).eval()


def rows() -> nn.Module:
    return _made(Rows).eval()


def faulty() -> nn.Module:
    """The recurrent cell with another bias in its one layer."""
    model = buffer()
    with torch.no_grad():
        model.get_parameter("cell.bias").add_(0.25)
    return model
