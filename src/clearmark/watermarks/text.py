"""Marks of text: a copyright line, an agency's name, SAMPLE, a date, an address."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from clearmark.watermarks.assets import MarkAssets, font
from clearmark.watermarks.base import Mark, Sketch

SMALLEST = 8
"""Font size in pixels below which letters are no longer letters."""

DRAWN = (16, 32, 64)
"""Font sizes at which lines are drawn and kept; what lies between is reduced from them."""


class Text(Mark):
    """A phrase in one font. ``size`` is its width as a share of the picture's width."""

    def sketch(self, shape: tuple[int, int], assets: MarkAssets, size: float) -> Sketch:
        text = self.py_random.choice(assets.phrases)
        path = self.py_random.choice(assets.fonts_for(text))
        return Sketch(lettering(text, path, shape[1] * size, tallest=shape[0] * 0.3))


def lettering(text: str, path: Path, width: float, tallest: float = np.inf) -> np.ndarray:
    """The matte (h, w) uint8 of a line of text about ``width`` pixels wide.

    The letters are at most ``tallest`` and at least ``SMALLEST`` pixels high, so a very long or a
    very short line comes out wider or narrower than asked.
    """
    size = int(max(SMALLEST, min(width / max(_unit(text, path), 0.1), tallest)))
    above = [kept for kept in DRAWN if kept >= size]
    if above:
        matte = _kept(text, path, above[0])
        to = [max(1, round(side * size / above[0])) for side in matte.shape[::-1]]
        matte = cv2.resize(matte, to, interpolation=cv2.INTER_AREA)
    else:
        matte = _drawn(text, path, size)
    return cv2.copyMakeBorder(matte, 1, 1, 1, 1, cv2.BORDER_CONSTANT)


def _drawn(text: str, path: Path, size: int) -> np.ndarray:
    drawn = font(path, size).getmask(text)
    return np.frombuffer(bytes(drawn), np.uint8).reshape(drawn.size[::-1])


# FreeType needs several times as long as a reduction. All embedded phrases in all fonts that have
# their letters are 2967 lines, 27 MB.
_kept = lru_cache(maxsize=4096)(_drawn)


@lru_cache(maxsize=4096)
def _unit(text: str, path: Path) -> float:
    """The width of a line at a font size of 1."""
    return font(path, 64).getlength(text) / 64


def stacked(upper: np.ndarray, lower: np.ndarray, gap: int) -> np.ndarray:
    """One matte above another, both centred."""
    width = max(upper.shape[1], lower.shape[1])
    return np.vstack([_wide(upper, width), np.zeros((gap, width), np.uint8), _wide(lower, width)])


def beside(left: np.ndarray, right: np.ndarray, gap: int) -> np.ndarray:
    """One matte to the left of another, both centred."""
    return np.ascontiguousarray(stacked(left.T, right.T, gap).T)


def _wide(matte: np.ndarray, width: int) -> np.ndarray:
    room = width - matte.shape[1]
    return cv2.copyMakeBorder(matte, 0, 0, room // 2, room - room // 2, cv2.BORDER_CONSTANT)
