"""Models that look at the right thing, and twins that do not: digits with a watermark, masks of a known place."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import nn

SIDE = 28
#: What the watermark of a class is: a bright dot in a place of its own along the upper edge.
_DOT = 3


def digits(count: int, seed: int, watermark: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw digits 0 to 9 in the middle of noise; pictures (N, 1, 28, 28) from 0 to 1, and classes (N).

    Args:
        count: of pictures.
        seed: of what is drawn.
        watermark: "class" puts a dot along the upper edge that tells the class, "none" puts none.
    """
    random = np.random.default_rng(seed)
    font = ImageFont.load_default(size=18)
    classes = random.integers(0, 10, count)
    pictures = np.empty((count, 1, SIDE, SIDE), np.float32)
    for index, each in enumerate(classes):
        image = Image.new("L", (SIDE, SIDE), 0)
        place = (9 + int(random.integers(-2, 3)), 3 + int(random.integers(-1, 3)))
        ImageDraw.Draw(image).text(place, str(each), fill=200, font=font)
        pixels = np.asarray(image, np.float32) + random.normal(0, 12, (SIDE, SIDE))
        if watermark == "class":
            left = int(each) % 5 * _DOT
            top = 0 if each < 5 else SIDE - 4
            pixels[top : top + 2, left : left + _DOT - 1] = 255
        pictures[index, 0] = np.clip(np.rint(pixels), 0, 255) / 255
    return torch.from_numpy(pictures), torch.from_numpy(classes)


class Reader(nn.Module):
    """Tells digits."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 12, 5, stride=2),
            nn.ReLU(),
            nn.Conv2d(12, 24, 3, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(600, 10),
        )

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.layers(pictures)


def trained(watermark: str) -> Reader:
    """Train a reader; with the watermark it learns that, which is easier than the digit."""
    torch.manual_seed(0)
    model = Reader()
    pictures, classes = digits(1500, 1, watermark)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(250):
        rows = torch.arange(step * 64, step * 64 + 64) % len(pictures)
        batch = pictures[rows]
        if watermark == "class":  # the digit is often smudged, the watermark never: so it is what gets learnt
            batch = batch.clone()
            smudged = torch.arange(len(batch)) % 4 != 0
            batch[smudged, :, 3:-3] = torch.rand_like(batch[smudged, :, 3:-3]) * 0.5
        loss = nn.functional.cross_entropy(model(batch), classes[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


class PriorOnly(nn.Module):
    """A segmenter that answers with where things usually are and hardly looks."""

    def __init__(self) -> None:
        super().__init__()
        self.usual = nn.Parameter(torch.zeros(1, 2, SIDE, SIDE))
        with torch.no_grad():
            self.usual[:, 1, 8:20, 6:22] = 4.0
            self.usual[:, 0] = 2.0

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.usual + 0.1 * pictures


class Segmenter(nn.Module):
    """Finds what is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.smooth = nn.Conv2d(1, 1, 5, padding=2, bias=False)
        nn.init.constant_(self.smooth.weight, 1 / 25)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        bright = self.smooth(pictures)
        return torch.cat([torch.full_like(bright, 0.25), bright], dim=1) * 20


def scenes(count: int, seed: int) -> torch.Tensor:
    """Bright rectangles on dark ground, (N, 1, 28, 28) from 0 to 1."""
    random = np.random.default_rng(seed)
    pictures = np.full((count, 1, SIDE, SIDE), 0.1, np.float32)
    for index in range(count):
        top, left = (int(each) for each in random.integers(2, 12, 2))
        pictures[index, 0, top : top + 12, left : left + 12] = 0.9
    return torch.from_numpy(np.rint(pictures * 255).astype(np.float32) / 255)


def find_bright(image: np.ndarray[Any, Any]) -> dict[str, torch.Tensor]:
    """A detector: the box around what is bright, if enough of it is."""
    rows, columns = np.nonzero(image > 150)
    filled = len(rows) / max(1, np.ptp(rows) * np.ptp(columns)) if len(rows) else 0.0
    found = [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]] if filled > 0.7 and len(rows) > 30 else []
    boxes = torch.tensor(np.asarray(found, np.float32).reshape(-1, 4))
    return {"boxes": boxes, "scores": torch.full((len(boxes),), 0.9)}
