"""Marks of lines from corner to corner: a cross or a net, often around a name in the middle."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from clearmark.watermarks.assets import MarkAssets
from clearmark.watermarks.base import Mark, Sketch


class Lines(Mark):
    """Both diagonals of the picture or a net of parallels to them. ``size`` is the lines' width as
    a share of the picture's shorter side.

    Args:
        of: the mark in the middle, which the lines stop short of; null for none. Only its drawing
            and its ``size`` are used.
        net: probability of a net instead of a cross.
        mark: what all marks take (see ``Mark``); they fill the picture, so ``at`` has no effect.
    """

    def __init__(self, of: Mark | None = None, net: float = 0.3, **mark: Any) -> None:
        super().__init__(**mark)
        self.of, self.net = of, net

    def set_random_state(self, random_generator: Any, py_random: Any) -> None:
        super().set_random_state(random_generator, py_random)
        if self.of is not None:
            self.of.set_random_state(random_generator, py_random)

    def sketch(self, shape: tuple[int, int], assets: MarkAssets, size: float) -> Sketch:
        count = self.py_random.randint(2, 5) if self.py_random.random() < self.net else 1
        matte = net(shape, count, max(1, round(min(shape) * size)))
        if self.of is None:
            return Sketch(matte)
        middle = self.of.sketch(shape, assets, self.py_random.uniform(*self.of.size)).plain()
        room = [max(0, full - part) // 2 for full, part in zip(shape, middle.shape, strict=True)]
        window = tuple(
            slice(gap, gap + min(full, part))
            for gap, full, part in zip(room, shape, middle.shape, strict=True)
        )
        matte[window] = middle[: shape[0], : shape[1]]
        return Sketch(matte)


def net(shape: tuple[int, int], count: int, line: int) -> np.ndarray:
    """The matte (H, W) of the diagonals and ``count - 1`` parallels on each side of both."""
    height, width = shape
    matte = np.zeros(shape, np.uint8)
    for step in range(1 - count, count):
        shift = round(width * step / count)
        for left, right in ((0, width - 1), (width - 1, 0)):
            ends = (left + shift, 0), (right + shift, height - 1)
            cv2.line(matte, *ends, 255, line, cv2.LINE_AA)
    return matte
