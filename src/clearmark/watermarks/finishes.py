"""What is done to a mark's matte and colours after it is drawn: edges, shadows, fading, texture.

Each takes and gives a ``Tinted`` sketch. The matte's peak stays at 255, so that a mark's opacity
is what was drawn for it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

from clearmark.watermarks.pixels import blended, united

STEEP = np.clip(4 * (np.arange(256) - 64), 0, 255).astype(np.uint8)


class Tinted(NamedTuple):
    """A sketch whose colour is settled: matte (h, w), colour (3,) for all or (h, w, 3); uint8."""

    matte: np.ndarray
    colour: np.ndarray


def padded(sketch: Tinted, border: int) -> Tinted:
    """Empty room around the sketch, its colours bled outwards."""
    sides = (border,) * 4
    matte = cv2.copyMakeBorder(sketch.matte, *sides, cv2.BORDER_CONSTANT)
    if sketch.colour.ndim == 1:
        return Tinted(matte, sketch.colour)
    return Tinted(matte, cv2.copyMakeBorder(sketch.colour, *sides, cv2.BORDER_REPLICATE))


def edge_of(matte: np.ndarray) -> int:
    """How many pixels a thin edge of this matte is wide."""
    return max(1, round(min(matte.shape) / 40))


def engraved(matte: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """The matte of a coloured picture drawn in one colour: denser where the picture is lighter.

    Without it a face or a globe would be a plain disc.
    """
    grey = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)
    low, high, *_ = cv2.minMaxLoc(grey, matte)
    if high - low < 32:
        return matte
    slope = 0.75 * 255 / (high - low)
    share = cv2.addWeighted(grey, slope, grey, 0, 255 - slope * high)
    return _peaked(cv2.multiply(matte, share, scale=1 / 255))


def outlined(sketch: Tinted, edge: int) -> Tinted:
    """A thin edge in the opposite tone around the sketch."""
    tone = 0 if sketch.colour.mean() > 127 else 255
    return _under(sketch, cv2.convertScaleAbs(soft(sketch.matte, edge / 2), alpha=6), tone)


def shadowed(sketch: Tinted, edge: int) -> Tinted:
    """A soft dark shadow below and to the right of the sketch."""
    moved = np.roll(sketch.matte, (edge, edge), axis=(0, 1))
    return _under(sketch, cv2.convertScaleAbs(soft(moved, edge), alpha=0.6), 0)


def feathered(sketch: Tinted, edge: int) -> Tinted:
    """Soft edges."""
    return Tinted(_peaked(soft(sketch.matte, edge)), sketch.colour)


def faded(sketch: Tinted, angle: float, least: float) -> Tinted:
    """A matte that falls evenly to ``least`` of itself from one side to the other."""
    height, width = sketch.matte.shape
    along = np.cos(angle) * np.linspace(-1, 1, width, dtype=np.float32)
    down = np.sin(angle) * np.linspace(-1, 1, height, dtype=np.float32)
    reach = abs(math.cos(angle)) + abs(math.sin(angle))
    share = (along[None] + down[:, None]) * np.float32((1 - least) / (2 * reach))
    return _thinned(sketch, share + np.float32((1 + least) / 2))


def textured(sketch: Tinted, noise: np.ndarray, least: float) -> Tinted:
    """A matte that varies between ``least`` of itself and itself, as coarse ``noise`` in [0, 1]."""
    share = cv2.resize(noise, sketch.matte.shape[::-1], interpolation=cv2.INTER_CUBIC)
    return _thinned(sketch, np.clip(share, 0, 1) * np.float32(1 - least) + np.float32(least))


def soft(matte: np.ndarray, edge: float) -> np.ndarray:
    """About a Gaussian blur of that standard deviation, which costs five times as much."""
    side = 2 * round(1.225 * edge) + 1
    return cv2.blur(cv2.blur(matte, (side, side)), (side, side))


def hardened(sketch: Tinted) -> Tinted:
    """A matte that is full or nothing, but for a narrow edge."""
    return Tinted(cv2.LUT(sketch.matte, STEEP), sketch.colour)


def _thinned(sketch: Tinted, share: np.ndarray) -> Tinted:
    matte = cv2.multiply(sketch.matte, share, dtype=cv2.CV_8U)
    return Tinted(_peaked(matte), sketch.colour)


def _peaked(matte: np.ndarray) -> np.ndarray:
    return cv2.convertScaleAbs(matte, alpha=255 / max(1, int(matte.max())))


def _under(sketch: Tinted, below: np.ndarray, tone: int) -> Tinted:
    """The sketch over a one-toned shape of the same frame."""
    total = united(sketch.matte, below)
    share = 255 - cv2.divide(sketch.matte, total, scale=255)
    return Tinted(total, blended(sketch.colour, share, np.full(3, tone, np.uint8)))
