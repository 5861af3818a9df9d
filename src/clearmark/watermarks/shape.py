"""Marks of plain shapes: discs, polygons, stars, hearts, arrows, crosses, filled or as a line."""

from __future__ import annotations

import math

import cv2
import numpy as np

from clearmark.watermarks.assets import MarkAssets
from clearmark.watermarks.base import Mark, Sketch


def _round(corners: int, inner: float = 1.0, start: float = -90.0) -> np.ndarray:
    """Corners on a circle of radius 1, every second one at ``inner``: (corners, 2)."""
    angles = np.radians(start + np.arange(corners) * 360 / corners)
    radii = np.where(np.arange(corners) % 2, inner, 1.0)
    return np.stack([np.cos(angles) * radii, np.sin(angles) * radii], axis=1)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y], axis=1) / 17


ARROW = [(-1, -0.3), (0.1, -0.3), (0.1, -0.8), (1, 0), (0.1, 0.8), (0.1, 0.3), (-1, 0.3)]
CROSS = [(-0.3, -1), (0.3, -1), (0.3, -0.3), (1, -0.3), (1, 0.3), (0.3, 0.3)]
CROSS += [(-x, -y) for x, y in CROSS]
OUTLINES = {
    "disc": _round(64),
    "triangle": _round(3),
    "square": _round(4, start=45.0),
    "bar": np.array([(-1, -0.35), (1, -0.35), (1, 0.35), (-1, 0.35)]),
    "hexagon": _round(6),
    "star": _round(10, inner=0.42),
    "sun": _round(24, inner=0.75),
    "heart": _heart(),
    "arrow": np.array(ARROW),
    "cross": np.array(CROSS),
}


class Shape(Mark):
    """A plain shape, as often filled as drawn by a line. ``size`` is its longer side as a share of
    the picture's shorter one.
    """

    def sketch(self, shape: tuple[int, int], assets: MarkAssets, size: float) -> Sketch:
        corners = OUTLINES[self.py_random.choice(list(OUTLINES))]
        side = max(8.0, min(shape) * size)
        line = max(1, round(side * self.py_random.uniform(0.02, 0.1)))
        return Sketch(drawn(corners, side, 0 if self.py_random.random() < 0.5 else line))


def drawn(corners: np.ndarray, side: float, line: int) -> np.ndarray:
    """The matte of a polygon, ``side`` pixels on its longer side; ``line`` 0 fills it."""
    low, extent = corners.min(0), np.ptp(corners, axis=0)
    scale = (side - 1 - line) / extent.max()
    at = (corners - low) * scale + line / 2
    width, height = np.ceil(extent * scale + line).astype(int) + 1
    matte = np.zeros((height, width), np.uint8)
    points = np.rint(at * 16).astype(np.int32)  # in sixteenths of a pixel
    if line:
        cv2.polylines(matte, [points], True, 255, line, cv2.LINE_AA, 4)
    else:
        cv2.fillPoly(matte, [points], 255, cv2.LINE_AA, 4)
    return matte
