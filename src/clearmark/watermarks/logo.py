"""Marks of logos: an icon, or a wordmark made of an icon, a name and a frame."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from clearmark.watermarks import finishes
from clearmark.watermarks.assets import MarkAssets
from clearmark.watermarks.base import Layer, Mark, Sketch
from clearmark.watermarks.finishes import Tinted
from clearmark.watermarks.text import beside, lettering, stacked


class Logo(Mark):
    """An icon or a wordmark. ``size`` is its longer side as a share of the picture's shorter one.

    Args:
        wordmark: probability of a wordmark instead of an icon alone.
        framed: probability that a wordmark stands in a frame.
        flat: one opacity all over, with hard edges; a coloured icon drawn in one colour is its
            silhouette then, and not denser where it is lighter, which keeps its features.
        mark: what all marks take (see ``Mark``).
    """

    def __init__(
        self, wordmark: float = 0.4, framed: float = 0.3, flat: bool = False, **mark: Any
    ) -> None:
        super().__init__(**mark)
        self.wordmark, self.framed, self.flat = wordmark, framed, flat

    def sketch(self, shape: tuple[int, int], assets: MarkAssets, size: float) -> Sketch:
        icon = self.py_random.choice(assets.icons)
        side = max(8.0, min(shape) * size)
        if self.py_random.random() >= self.wordmark:
            return self.parted(_scaled(icon, side))
        return Sketch(self.wordmark_of(self.parted(icon).plain(), side, assets))

    def place(self, sketch: Tinted, shape: tuple[int, int], opacity: float) -> Layer:
        return super().place(finishes.hardened(sketch) if self.flat else sketch, shape, opacity)

    def wordmark_of(self, matte: np.ndarray, side: float, assets: MarkAssets) -> np.ndarray:
        """The matte of an icon and a name, ``side`` pixels on the longer side."""
        name = self.py_random.choice(assets.short(14))
        path = self.py_random.choice(assets.fonts_for(name))
        if self.py_random.random() < 0.5:
            matte = stacked(_scaled(matte, side * 0.5), lettering(name, path, side), 3)
        else:
            letters = lettering(name, path, side * 0.7)
            height = max(8.0, min(letters.shape[0] * 1.4, side * 0.3))
            matte = beside(_scaled(matte, height), letters, max(2, int(height / 6)))
        if self.py_random.random() < self.framed:
            edge = max(1, round(side / 60))
            matte = cv2.copyMakeBorder(matte, *(4 * edge,) * 4, cv2.BORDER_CONSTANT)
            matte = cv2.copyMakeBorder(matte, *(edge,) * 4, cv2.BORDER_CONSTANT, value=255)
        return matte

    def parted(self, icon: np.ndarray) -> Sketch:
        """An icon (h, w, 4) as matte and colour."""
        matte, colour = cv2.extractChannel(icon, 3), cv2.cvtColor(icon, cv2.COLOR_RGBA2RGB)
        return Sketch(matte, colour, self.flat)


def _scaled(icon: np.ndarray, side: float) -> np.ndarray:
    height, width = icon.shape[:2]
    scale = side / max(height, width)
    to = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(icon, to, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
