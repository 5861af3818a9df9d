"""Marks of a band across the picture with text in it, and the strip with a number at its rim."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np

from clearmark.watermarks.assets import MarkAssets
from clearmark.watermarks.base import Mark, Range, Sketch
from clearmark.watermarks.text import lettering


class Band(Mark):
    """A band from side to side with a line of text. ``size`` is its height as a share of the
    picture's.

    Its own colours are a dark, a light or a coloured ground and letters that stand out from it;
    with one colour for all, letters stand out by their opacity alone.

    Args:
        ground: range of the ground's opacity as a share of the letters'.
        repeat: probability that the text is repeated along the band.
        mark: what all marks take (see ``Mark``).
    """

    def __init__(self, ground: Range = (0.3, 0.7), repeat: float = 0.3, **mark: Any) -> None:
        super().__init__(**mark)
        self.ground, self.repeat = tuple(ground), repeat

    def sketch(self, shape: tuple[int, int], assets: MarkAssets, size: float) -> Sketch:
        height = max(10, round(shape[0] * size))
        width = math.ceil(math.hypot(*shape)) + height if self.tilted else shape[1]
        text = self.py_random.choice(assets.phrases)
        path = self.py_random.choice(assets.fonts_for(text))
        letters = lettering(text, path, shape[1] * 0.9, tallest=height * 0.7)
        letters = letters[:height, :width]
        count = 1
        if self.py_random.random() < self.repeat:
            count = max(1, width // (letters.shape[1] + height))
        inked = np.zeros((height, width), np.uint8)
        top, cell = (height - letters.shape[0]) // 2, width // count
        # One line stands in the middle, or at the left as an agency's number does.
        share = self.py_random.choice((0.02, 0.5)) if count == 1 and not self.tilted else 0.5
        for number in range(count):
            left = number * cell + int((cell - letters.shape[1]) * share)
            inked[top : top + letters.shape[0], left : left + letters.shape[1]] = letters
        ground = round(255 * self.py_random.uniform(*self.ground))
        # (1 - t) of the ground and t of the letters, both for the opacity and for the colour.
        matte = cv2.convertScaleAbs(inked, alpha=(255 - ground) / 255, beta=ground)
        return Sketch(matte, self.two_tones(inked))

    def two_tones(self, inked: np.ndarray) -> np.ndarray:
        """The colour (h, w, 3) of letters on a ground."""
        kind = self.py_random.choice(("dark", "light", "coloured"))
        draw = self.py_random.randrange
        tone = [draw(30, 226) for _ in range(3)] if kind == "coloured" else [draw(40)] * 3
        ground, ink = np.array(tone), np.full(3, 255 if np.mean(tone) < 140 else 0)
        if kind == "light":
            ground, ink = 255 - ground, 255 - ink
        steps = np.linspace(0, 1, 256)[:, None]
        table = np.rint(ground + steps * (ink - ground)).astype(np.uint8)
        return cv2.LUT(cv2.merge([inked] * 3), table[None])
