"""Marks repeated over the whole picture, as preview pictures carry them."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np

from clearmark.watermarks.assets import MarkAssets
from clearmark.watermarks.base import Mark, Range, Sketch
from clearmark.watermarks.finishes import Tinted


class Tiled(Mark):
    """Another mark's sketch repeated over the picture, rotated, every second row shifted.

    Args:
        of: the mark that is repeated; only its drawing and its ``size`` are used.
        spacing: range of the gap between copies as a share of the copy's extent.
        mark: what all marks take (see ``Mark``); ``rotation`` turns the whole grid.
    """

    def __init__(self, of: Mark, spacing: Range = (0.3, 1.0), **mark: Any) -> None:
        super().__init__(**mark)
        self.of, self.spacing = of, tuple(spacing)

    def set_random_state(self, random_generator: Any, py_random: Any) -> None:
        super().set_random_state(random_generator, py_random)
        self.of.set_random_state(random_generator, py_random)

    def sketch(self, shape: tuple[int, int], assets: MarkAssets, size: float) -> Sketch:
        copy = self.of.sketch(shape, assets, self.py_random.uniform(*self.of.size)).plain()
        gaps = [max(4, int(side * self.py_random.uniform(*self.spacing))) for side in copy.shape]
        row = cv2.copyMakeBorder(copy, 0, gaps[0], 0, gaps[1], cv2.BORDER_CONSTANT)
        shift = self.py_random.choice((0, row.shape[1] // 2))
        grid = np.vstack([row, np.roll(row, shift, axis=1)])
        return Sketch(repeated(grid, shape, self._angle(), self._start(grid)), None)

    def turn(self, sketch: Tinted) -> Tinted:
        """The grid was turned while it was laid out."""
        return sketch

    def _angle(self) -> float:
        turned = self.py_random.random() < self.tilted
        return self.py_random.uniform(*self.rotation) if turned else 0.0

    def _start(self, grid: np.ndarray) -> tuple[int, int]:
        return self.py_random.randrange(grid.shape[1]), self.py_random.randrange(grid.shape[0])


def repeated(
    grid: np.ndarray, shape: tuple[int, int], angle: float, start: tuple[int, int]
) -> np.ndarray:
    """Cover (H, W) with copies of ``grid``, turned by ``angle`` degrees, from ``start`` (x, y)."""
    height, width = shape
    side = math.ceil(math.hypot(height, width)) if angle else max(height, width)
    copies = [
        math.ceil((side + at) / extent) for at, extent in zip(start[::-1], grid.shape, strict=True)
    ]
    field = np.tile(grid, copies)[start[1] : start[1] + side, start[0] : start[0] + side]
    if not angle:
        return np.ascontiguousarray(field[:height, :width])
    matrix: np.ndarray = cv2.getRotationMatrix2D((side / 2, side / 2), angle, 1.0)
    matrix[:, 2] += np.array([width - side, height - side]) / 2
    return cv2.warpAffine(field, matrix, (width, height))
