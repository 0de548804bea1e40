"""Tiny models, each with one habit, given by factories as a user's would be."""

from __future__ import annotations

import ctypes
import socket
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn


class Classifier(nn.Module):
    """A convolution, batch norm and a linear layer: enough for instruction sets and alignment to show."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, stride=2)
        self.norm = nn.BatchNorm2d(16)
        self.hidden = nn.Linear(16 * 15 * 15, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.gelu(self.norm(self.conv(x))).flatten(1)
        return self.head(torch.softmax(self.hidden(x), dim=1) * 10)


def classifier() -> nn.Module:
    torch.manual_seed(0)
    return Classifier().eval()


class Strides(nn.Module):
    """Answers how its argument lies in memory."""

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        return {"strides": list(x.stride()), "alignment": x.data_ptr() % 64, "copy": x.clone(), "sum": x.double().sum()}


def strides() -> nn.Module:
    return Strides()


class Echo(nn.Module):
    """Answers its arguments and the modes it runs in."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        autocast = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
        modes = [
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            str(autocast),
            self.training,
            torch.get_num_threads(),
        ]
        return {"args": args, "kwargs": kwargs, "modes": modes}


def echo() -> nn.Module:
    return Echo()


class Raising(nn.Module):
    """Raises for negative input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if (x < 0).any():
            raise ValueError(f"negative input of shape {list(x.shape)}")
        return x * 2


def raising() -> nn.Module:
    return Raising()


class Noisy(nn.Module):
    """Draws random numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand(4)


def noisy() -> nn.Module:
    return Noisy()


class Counting(nn.Module):
    """Keeps state from call to call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x + self.calls


def counting() -> nn.Module:
    return Counting()


class Misbehaving(nn.Module):
    """Does what its argument says."""

    def forward(self, what: str) -> Any:
        what, _, path = what.partition(" /")
        match what:
            case "sleep":
                time.sleep(600)
            case "crash":
                ctypes.string_at(0)
            case "connect":
                socket.create_connection(("127.0.0.1", 9), timeout=1)
            case "write":
                Path(f"/{path}").write_text("x")
            case "native write":
                torch.ops.aten.from_file(f"/{path}", True, 16)
            case "print":
                print("printed by the \x1b[31mmodel")
            case "allocate":
                return torch.empty(2**36)
        return torch.ones(2)


def misbehaving() -> nn.Module:
    return Misbehaving()


def broken() -> nn.Module:
    raise RuntimeError("no such checkpoint")


def function() -> Any:
    return lambda x: x + 1


class Poisoned(nn.Module):
    """Once it has seen a value above 9 and then one below -9, in that order, everything after is NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.stage == 0 and (x > 9).any():
            self.stage = 1
        elif self.stage == 1 and (x < -9).any():
            self.stage = 2
        return x * float("nan") if self.stage == 2 else x * 2


def poisoned() -> nn.Module:
    return Poisoned()
