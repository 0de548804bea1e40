"""The models of the matrix: factories for ``--model``, and the four inputs each of them is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.payload import use_examples

__all__ = ["MODELS", "Subject", "gru", "mobilenet", "onet", "onnx_session", "pnet", "rnet", "vit"]

#: Items each model is shown: four calls of one, or one call of four.
ITEMS = 4


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.inputs, self.output = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        parts = self.inputs(x).view(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(parts[0], parts[1], parts[2])
        return self.output(mixed.transpose(1, 2).reshape(batch, tokens, width))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.before, self.attention, self.after = nn.LayerNorm(width), _Attention(width, heads), nn.LayerNorm(width)
        self.wide = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.before(x))
        return x + self.wide(self.after(x))


class ViT(nn.Module):
    """A vision transformer: N x 3 x 96 x 96 in, N x 100 out. Dosovitskiy et al. 2021, arXiv:2010.11929, small."""

    def __init__(self, width: int = 96, depth: int = 4, heads: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.place = nn.Parameter(torch.empty(1, 36, width))
        self.blocks = nn.Sequential(*(_Block(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 100)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.place
        return self.head(self.norm(self.blocks(x)).mean(1))


class _Memory:
    """What the model remembers; no tensor of the module, so it is no part of its weights."""

    hidden: torch.Tensor | None = None


class Recurrent(nn.Module):
    """Keeps a state from frame to frame: 1 x 3 x 64 x 64 in, 1 x 32 out."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 16, 5, 4), nn.ReLU(), nn.Conv2d(16, 32, 5, 4), nn.ReLU())
        self.cell = nn.GRUCell(32 * 9, 32)
        self.memory = _Memory()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.memory.hidden = self.cell(self.features(x).flatten(1), self.memory.hidden)
        return self.memory.hidden.clone()


def _seeded(model: nn.Module) -> nn.Module:
    """Give every parameter the same numbers on every machine: torch.randn depends on the instruction set."""
    generator = np.random.default_rng(0)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 1 / max(1, parameter[0].numel()) ** 0.5 if parameter.dim() > 1 else 0.1
            numbers = generator.standard_normal(tuple(parameter.shape)).astype(np.float32) * np.float32(scale)
            parameter.copy_(torch.from_numpy(numbers))
    return model.eval()


def vit() -> nn.Module:
    """Own weights: the point is its operators."""
    return _seeded(ViT())


def gru() -> nn.Module:
    """A model with a state."""
    return _seeded(Recurrent())


def mobilenet() -> nn.Module:
    """The real weights."""
    use_examples()
    import mobilenet as example

    return example.load()


def pnet() -> nn.Module:
    """The first of the three networks of MTCNN, with its real weights."""
    return _mtcnn("pnet")


def rnet() -> nn.Module:
    """The second."""
    return _mtcnn("rnet")


def onet() -> nn.Module:
    """The third."""
    return _mtcnn("onet")


def _mtcnn(name: str) -> nn.Module:
    use_examples()
    import mtcnn

    network: nn.Module = getattr(mtcnn, name)()
    return network


def onnx_session() -> Any:
    """MobileNetV2 as an ONNX file, in onnxruntime."""
    use_examples()
    import onnx_session as example
    import onnxruntime

    return onnxruntime.InferenceSession(example.build(), providers=["CPUExecutionProvider"])


@dataclass(frozen=True, slots=True)
class Subject:
    """A row of the matrix."""

    networks: dict[str, Callable[[], Any]]  #: torch modules, or one ONNX session, by the name they are attached under
    sizes: tuple[int, ...]  #: of the square inputs, one for each network
    batches: bool = True  #: whether several items make one call
    onnx: bool = False  #: replayed from the stored file; torch's settings say nothing to it

    def factories(self) -> tuple[str, ...]:
        """What ``--model`` is given."""
        return (
            ()
            if self.onnx
            else tuple(f"{name}=benchmarks.matrix.models:{build.__name__}" for name, build in self.networks.items())
        )


MODELS: dict[str, Subject] = {
    "MobileNetV2": Subject({"mobilenet": mobilenet}, (224,)),
    "MTCNN": Subject({"pnet": pnet, "rnet": rnet, "onet": onet}, (64, 24, 48)),
    "ViT": Subject({"vit": vit}, (96,)),
    "stateful": Subject({"gru": gru}, (64,), batches=False),
    "ONNX": Subject({"onnx": onnx_session}, (224,), onnx=True),
}


def inputs(size: int) -> torch.Tensor:
    """Four pictures, 4 x 3 x size x size float32 about -1 … 1."""
    import skimage.data
    from PIL import Image

    pictures = [skimage.data.astronaut(), skimage.data.chelsea(), skimage.data.coffee(), skimage.data.rocket()]
    arrays = [np.asarray(Image.fromarray(picture).resize((size, size)), np.float32) for picture in pictures]
    return torch.from_numpy(np.ascontiguousarray(np.stack(arrays).transpose(0, 3, 1, 2) / 127.5 - 1))
