"""Whether a known mark is still in a picture: a matched filter over all places, no network.

A mark of opacity a and colour W adds a (W - J) to the clean picture J. The filter looks for that in
what a blur takes away from the picture, weighs each pixel by how little else is going on there, and
takes the place where it fits best. Clean photos say how well it fits by chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from scipy import fft

FINE, COARSE = 1.0, 3.0
"""Standard deviations in pixels of two blurs: what is finer than the one is looked at, within what
surrounds it as far as the other reaches."""

ROUNDING = 1 / 255
"""How much a pixel may differ without meaning anything: one of 255 levels."""


class Grid(NamedTuple):
    """A mark repeated every so many pixels; every second row may be shifted by half of that."""

    rows: int
    columns: int


class Detector:
    """Looks for one mark of one size, at any place and of any opacity.

    Args:
        matte: the mark's own transparency (h, w) uint8.
        colour: of the mark, (h, w, 3) or (3,) uint8.
        grid: how the mark is repeated over the picture; None looks for a single one inside of it.
    """

    def __init__(self, matte: np.ndarray, colour: np.ndarray, grid: Grid | None = None) -> None:
        self.extent, self.grid = matte.shape, grid
        self.rim = math.ceil(3 * FINE)
        share = matte[..., None] / np.float32(255)
        layers = np.dstack([share * (colour / np.float32(255)), share])  # a W, and a
        layers = np.pad(layers, ((self.rim, self.rim), (self.rim, self.rim), (0, 0)))
        *light, plain = cv2.split(_detail(layers))
        # The detail of a (W - J), J even as far as the mark's edges reach: that of a W less J a's.
        self.filters = np.stack([*light, -plain])
        cross = [-2 * plain * part for part in light]
        self.powers = np.stack([np.square(light).sum(0), *cross, plain**2])
        self.threshold = math.inf
        self.spectra = lru_cache(maxsize=4)(self._spectra)

    def score(self, picture: np.ndarray) -> float:
        """How well the mark fits where it fits best, of (H, W, 3) uint8, larger than the mark.

        sum(t d / v) / sqrt(sum(t^2 / v)) over pixels and channels: d is the picture less its blur,
        v the local mean of d^2, t = detail(a W) - J detail(a) the mark's trace with the blurred
        picture for J. Of noise of that variance each place has a standard normal score.
        """
        values = picture / np.float32(255)
        detail, around = _detail(values), cv2.GaussianBlur(values, (0, 0), COARSE)
        weight = 1 / (cv2.GaussianBlur((detail**2).mean(2), (0, 0), COARSE) + ROUNDING**2)
        evidence = detail * weight[..., None]
        fit = [*cv2.split(evidence), (evidence * around).sum(2)]
        power = [weight, *cv2.split(around * weight[..., None]), (around**2).sum(2) * weight]
        shape = picture.shape[:2]
        sides = self._sides(shape)
        total, square = (
            fft.irfft2((fft.rfft2(np.stack(maps), sides) * spectra).sum(0), sides)
            for maps, spectra in zip((fit, power), self.spectra(sides), strict=True)
        )
        floor = 1e-5 * float(square.max())  # of rounding, where nothing of the mark lies inside
        pairs = zip(self._places(total, shape), self._places(square, shape), strict=True)
        return max(float((fits / np.sqrt(np.maximum(own, floor))).max()) for fits, own in pairs)

    def _sides(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Of the plane that the mark moves over: it comes in again where it has wholly gone out."""
        needed = [side + own + 2 * self.rim for side, own in zip(shape, self.extent, strict=True)]
        if self.grid is None:
            rows, columns = (fft.next_fast_len(side, real=True) for side in needed)
        else:  # whole periods, so that copies meet
            rows = math.ceil(needed[0] / 2 / self.grid.rows) * 2 * self.grid.rows
            columns = math.ceil(needed[1] / self.grid.columns) * self.grid.columns
        return rows, columns

    def _spectra(self, sides: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        return fft.rfft2(self.filters, sides).conj(), fft.rfft2(self.powers, sides).conj()

    def _places(self, sums: np.ndarray, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
        """The sums at every place: of one mark, or of all copies for each start of the grid."""
        if self.grid is None:
            rows, columns = (side - own + 1 for side, own in zip(shape, self.extent, strict=True))
            yield np.roll(sums, (self.rim, self.rim), (0, 1))[:rows, :columns]
            return
        rows, columns = self.grid
        parts = sums.reshape(-1, 2 * rows, sums.shape[1] // columns, columns).sum((0, 2))
        even, odd = parts[:rows], parts[rows:]
        yield even + odd
        for one, other in ((even, odd), (odd, even)):
            yield one + np.roll(other, -(columns // 2), axis=1)


def threshold(scores: Sequence[float], rate: float) -> float:
    """The score that a further clean photo exceeds with a probability of at most ``rate``.

    The k-th largest of n scores, k the largest number with k / (n + 1) <= rate: the next photo of
    the same kind is as likely to come in at any of the n + 1 ranks (split conformal prediction).

    Raises:
        ValueError: too few scores for that rate; it takes 1 / rate - 1.
    """
    rank = math.floor(rate * (len(scores) + 1) + 1e-9)
    if not rank:
        raise ValueError(f"{len(scores)} scores are too few for a rate of {rate}")
    return sorted(scores, reverse=True)[rank - 1]


def _detail(values: np.ndarray) -> np.ndarray:
    """What a blur takes away."""
    return values - cv2.GaussianBlur(values, (0, 0), FINE)
