"""Models whose layers differ in one way each, given by factories as a user's would be."""

from __future__ import annotations

import itertools

import torch
from torch import nn

_calls = itertools.count()


class Jitter(nn.Module):
    """Gives something else each time, whatever model it is part of: the count is the process's."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (1 + 1e-3 * next(_calls))


def steady() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.ReLU(), nn.Linear(8, 8)), nn.Linear(8, 4)).eval()


def jittery() -> nn.Module:
    model = steady()
    model[1][0] = Jitter()
    return model


def longer() -> nn.Module:
    model = steady()
    model[1].append(nn.Tanh())
    return model


class OwnOperations(nn.Module):
    """Computes something itself between its layers."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.tanh(self.first(x)) * self.factor)


def plain_operations() -> nn.Module:
    return OwnOperations(1.0)


def scaled_operations() -> nn.Module:
    return OwnOperations(1.001)


class Twice(nn.Module):
    """Calls one layer twice, in place of a stack of two."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(self.layer(x).relu_())


def twice() -> nn.Module:
    return Twice()


def encoder() -> nn.Module:
    """torch's own encoder layer, which leaves its fused path when a hook is on it."""
    torch.manual_seed(0)
    return nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()


NAME = "\x1b]0;owned\x07\x1b[2J<script>alert(1)</script>\u202e&\"'" + "x" * 300


def hostile() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8))
    model.add_module(NAME, nn.Linear(8, 4))
    return model


def hostile_fault() -> nn.Module:
    model = hostile()
    with torch.no_grad():
        list(model.children())[1].weight[0] *= 1.01
    return model


def function() -> object:
    weight = torch.linspace(-1, 1, 64).reshape(8, 8)
    return lambda x: torch.tanh(x @ weight)


def jittery_function() -> object:
    jitter, weight = Jitter(), torch.linspace(-1, 1, 64).reshape(8, 8)
    return lambda x: torch.tanh(jitter.forward(x @ weight))


class Biased(nn.Module):
    """Adds what was not there when the model was recorded."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x) + 0.5


def biased() -> nn.Module:
    model = steady()
    model[1][0] = Biased()
    return model
