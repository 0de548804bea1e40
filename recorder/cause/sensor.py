"""Noise over clean frames: of the sensor and its processing, and of pixels that are lost."""

from __future__ import annotations

import numpy as np

from recorder.cause.filters import blurred, disk_kernel
from recorder.cause.views import Pixels

__all__ = ["grain", "high_gain", "impulses"]

Random = np.random.Generator
#: Light at which an amount of noise that depends on light is meant.
_MEANT = np.float32(0.4)
#: A turn about the grey axis, as a matrix that is added: v + sin(a) K v + (1 - cos(a)) K K v (Rodrigues).
_TURN = (np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)).astype(np.float32)


def grain(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    """Noise of its own in each pixel: everywhere the same, growing with the root of light, or with light."""
    kind, mono = rng.integers(4), rng.random() < 0.35
    shape = (*pixels.shape[:3], 1 if mono else 3)
    drawn = rng.standard_normal(shape, np.float32) * np.float32(amount / scale)
    if kind == 1:  # shot noise
        drawn = drawn * np.sqrt(np.maximum(pixels, 0.02) / _MEANT)
    if kind == 2:  # speckle
        drawn = drawn * (0.4 + 1.2 * pixels)
    if kind == 3:  # in colour more than in light, and with outliers, as high sensitivity has it
        drawn = drawn + np.roll(drawn, 1, axis=3) - drawn.mean(axis=3, keepdims=True)
        drawn = drawn * np.sqrt(rng.standard_exponential((*pixels.shape[:3], 1), np.float32))
    return pixels + drawn


def high_gain(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    """A sensor at high sensitivity: few photons, counted; hues that waver; clumps, where a filter smeared the noise."""
    sigma = np.float32(amount / scale)
    light = pixels.mean(axis=3, keepdims=True)
    share = np.float32(rng.uniform(0.2, 0.9))  # of the noise that is in light
    photon = max(1e-5, float((sigma * share) ** 2 / _MEANT))
    counted = rng.poisson(np.clip(light, 0, 1) / photon).astype(np.float32) * np.float32(photon) - light
    if rng.random() < 0.5:  # what is read beside the photons lifts the black
        counted = np.abs(counted) if rng.random() < 0.5 else counted + sigma * np.float32(0.5)
    rest = sigma * np.sqrt(1 - share**2)
    if rng.random() < 0.5:  # the colours themselves are measured wrongly: grey stays grey
        angle = rng.standard_normal(light.shape, np.float32) * rest * np.float32(rng.uniform(4, 12))
        turned = pixels @ _TURN.T
        hue = np.sin(angle) * turned + (1 - np.cos(angle)) * (turned @ _TURN.T)
    else:
        hue = rng.standard_normal(pixels.shape, np.float32) * rest * np.float32(1.2)
        hue = hue - hue.mean(axis=3, keepdims=True)
    noise = counted + hue
    if rng.random() < 0.35:
        kernel = disk_kernel(rng.uniform(0.7, 1.6) / scale, soft=True)
        noise = blurred(noise, kernel) / np.float32(np.sqrt((kernel**2).sum()))
    made: Pixels = pixels + noise
    return made


def impulses(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    """Pixels that are white or black by chance, others in every frame."""
    kind, each = rng.integers(3), rng.random() < 0.4
    shape = (*pixels.shape[:3], 3 if each else 1)
    drawn = rng.random(shape, np.float32)
    salt = (drawn < amount * (0.5, 1.0, 0.0)[kind]).astype(np.float32)
    pepper = (drawn > 1 - amount * (0.5, 0.0, 1.0)[kind]).astype(np.float32)
    if scale > 1:  # a pixel of the reduced view is the mean of many
        salt, pepper = salt / np.float32(scale), pepper / np.float32(scale)
    return pixels * (1 - salt) * (1 - pepper) + salt
