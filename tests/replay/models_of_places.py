"""A model that tells where its tensors are."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Places(nn.Module):
    """Answers the device of its argument, of each kind of tensor of its own, and under which autocast it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("mean", torch.zeros(4))
        self.scale = torch.ones(4)  # plain attributes, which torch's own ``to`` leaves where they are
        self.bank = [self.scale, torch.ones(4)]
        self.memory = torch.zeros(4)

    def forward(self, x: torch.Tensor, *, length: torch.Tensor | None = None) -> dict[str, Any]:
        if length is None:  # what an operator of a GPU says, where code names a device
            raise RuntimeError("Expected all tensors to be on the same device, but found at least two devices, …")
        named = {"x": x, "length": length, "weight": self.layer.weight, "mean": self.mean, "scale": self.scale}
        places = {name: each.device.type for name, each in (named | {"memory": self.memory}).items()}
        return places | {"tied": self.bank[0] is self.scale, "autocast": torch.is_autocast_enabled("cpu")}


def places() -> nn.Module:
    return Places().eval()
