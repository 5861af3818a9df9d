"""The user's own mark: a picture with transparency, or a line of text.

There is only this one, so training, validation and test all draw it: their figures say how well a
network takes this mark off photos that it has not seen, and nothing of other marks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np
from PIL import ImageFont

from clearmark import pictures
from clearmark.errors import UserError
from clearmark.watermarks.assets import EMBEDDED, MarkAssets, has_glyph
from clearmark.watermarks.base import Mark, Range, Sketch
from clearmark.watermarks.text import lettering
from clearmark.watermarks.tiled import Tiled, repeated

Drawing = Callable[[float], Sketch]
"""Draws the mark so that its longer side is about so many pixels."""

FILES = {
    *(".png", ".webp", ".tif", ".tiff", ".gif", ".avif", ".jpg", ".jpeg", ".bmp", ".heic"),
    *(".svg", ".pdf", ".psd", ".eps"),
}
"""Endings of what can only be meant as a file; anything else that is no file is a text."""

FONTS = EMBEDDED / "fonts" / "train"
FONT = FONTS / "Roboto-Medium.ttf"
LARGEST, SMALLEST = 1024, 32
"""The longer side in pixels of the largest and the smallest copy that a picture is drawn from."""


class Own(A.OneOf):
    """The user's own mark, once on a picture or repeated over all of it.

    Splits share it, as there is no other; photos stay disjoint. A picture keeps its colours, and
    its alpha times the opacity drawn is the mark's opacity. Who knows how the mark lies in the
    pictures to be restored says so and learns faster: ``at=[rim] size=[0.2,0.2] tilted=0 tiled=0``.

    Args:
        mark: a picture with alpha, or a text.
        font: a .ttf or .otf file for a text; None takes an embedded one that has its letters.
        opacity: range of the opacity where the mark's own is full.
        size: range of its longer side as a share of the picture's shorter one.
        colours: weights of colours as ``Mark`` takes them; None keeps those of a picture, and draws
            a text mostly in white.
        rotation: range of the angle in degrees, of a single mark and of a grid alike.
        tilted: probability of being rotated at all.
        at: where a single mark lies (see ``Mark``).
        tiled: share of the pictures with the mark repeated over all of them.
        copies: ``size`` of the copies there.
        spacing: range of the gap between copies as a share of the copy's extent.
        megapixels: a larger picture is refused before it is decoded.
        p: probability of the mark.

    Raises:
        UserError: the mark or the font cannot be read, the picture has no alpha or nothing but, or
            the font lacks a letter.
    """

    def __init__(
        self,
        mark: str,
        font: str | None = None,
        opacity: Range = (0.3, 0.7),
        size: Range = (0.3, 0.9),
        colours: dict[str, float] | None = None,
        rotation: Range = (-45.0, 45.0),
        tilted: float = 0.3,
        at: Sequence[str] = ("middle", "rim", "anywhere"),
        tiled: float = 0.2,
        copies: Range = (0.2, 0.45),
        spacing: Range = (0.2, 1.0),
        megapixels: float = 16.0,
        p: float = 1.0,
    ) -> None:
        if not 0 <= tiled <= 1:
            raise UserError(f"watermark.tiled={tiled} is no share; give a number, 0 to 1")
        drawing: Drawing
        if _is_file(mark):
            drawing, usual = _Picture(Path(mark).expanduser(), megapixels), {"own": 1.0}
        else:
            drawing, usual = _Line(mark, font), {"white": 0.7, "grey": 0.15, "black": 0.15}
        shared: dict[str, Any] = {
            "opacity": opacity,
            "colours": colours or usual,
            "rotation": rotation,
            "tilted": tilted,
            "outline": 0.0,
            "shadow": 0.0,
        }
        once = _Once(drawing, size=size, at=at, p=1 - tiled, **shared)
        grid = _Repeated(_Once(drawing, size=copies), spacing, p=tiled, **shared)
        super().__init__([once, grid], p=p)


class _Once(Mark):
    """What is drawn by ``drawing``."""

    def __init__(self, drawing: Drawing, **mark: Any) -> None:
        super().__init__(**mark)
        self.drawing = drawing

    def sketch(self, shape: tuple[int, int], assets: MarkAssets, size: float) -> Sketch:
        return self.drawing(max(8.0, min(shape) * size))


class _Repeated(Tiled):
    """A grid of copies that keep their colours."""

    def sketch(self, shape: tuple[int, int], assets: MarkAssets, size: float) -> Sketch:
        copy = self.of.sketch(shape, assets, self.py_random.uniform(*self.of.size))
        planes = [copy.matte, *([] if copy.colour is None else cv2.split(copy.colour))]
        gaps = [
            max(4, int(side * self.py_random.uniform(*self.spacing))) for side in planes[0].shape
        ]
        shift = self.py_random.choice((0, (planes[0].shape[1] + gaps[1]) // 2))
        grids: list[np.ndarray] = []
        for plane in planes:
            # Colours reach into the gaps, or the soft rim of a turned copy would turn black.
            border = cv2.BORDER_REPLICATE if grids else cv2.BORDER_CONSTANT
            row = cv2.copyMakeBorder(plane, 0, gaps[0], 0, gaps[1], border)
            grids.append(np.vstack([row, np.roll(row, shift, axis=1)]))
        angle, start = self._angle(), self._start(grids[0])
        larger = shape[0] + 2, shape[1] + 2  # the corners of a turned field are blended with black
        matte, *colour = (repeated(grid, larger, angle, start)[1:-1, 1:-1] for grid in grids)
        return Sketch(np.ascontiguousarray(matte), cv2.merge(colour) if colour else None)


class _Line:
    """Draws a text in one font."""

    def __init__(self, text: str, font: str | None) -> None:
        if not text.strip():
            raise UserError('mark is empty; give a transparent PNG or a text, as mark="© Jane Doe"')
        self.text = text
        if font is None:
            fonts = [FONT, *sorted(FONTS.iterdir())]
            self.font = next((path for path in fonts if not _lacking(text, path)), FONT)
        else:
            self.font = Path(font).expanduser()
            _check_font(self.font)
        if lacking := _lacking(text, self.font):
            raise UserError(
                f"mark={text}: the font {self.font.name} has no glyph for {' '.join(lacking)}; "
                "give one that has, as watermark.font=FILE.ttf"
            )

    def __call__(self, side: float) -> Sketch:
        return Sketch(lettering(self.text, self.font, side, tallest=side))


class _Picture:
    """Draws a picture: from the next larger of copies that halve in size, which is cheap."""

    def __init__(self, path: Path, megapixels: float) -> None:
        pixels, alpha = _read(path, megapixels)
        light = pixels * (alpha[..., None] / np.float32(255))
        share = alpha / np.float32(255)
        self.sketches: list[Sketch] = []
        side = min(LARGEST, max(alpha.shape))
        while not self.sketches or side >= SMALLEST:
            light, share = (_scaled(values, side) for values in (light, share))
            colour = _colours(light, share).round().clip(0, 255).astype(np.uint8)
            self.sketches.append(Sketch((share * 255).round().astype(np.uint8), colour))
            side //= 2

    def __call__(self, side: float) -> Sketch:
        large = [s for s in self.sketches if max(s.matte.shape) >= side]
        chosen = large[-1] if large else self.sketches[0]
        assert chosen.colour is not None
        return Sketch(_scaled(chosen.matte, side), _scaled(chosen.colour, side))


def _is_file(mark: str) -> bool:
    path = Path(mark).expanduser()
    if path.is_dir():
        raise UserError(f"mark={mark} is a folder; give a transparent PNG, or a text")
    if path.is_file():
        return True
    if path.suffix.lower() in FILES:
        raise UserError(f"mark={mark} does not exist; give a transparent PNG, or a text")
    return False


def _read(path: Path, megapixels: float) -> tuple[np.ndarray, np.ndarray]:
    """Colours (h, w, 3) and alpha (h, w) of a picture, uint8, without its empty rim."""
    try:
        # Asked as a file that has transparency and no 16 bits.
        picture = pictures.fitting(pictures.read(path, megapixels), ".webp")
    except pictures.PictureError as error:
        raise UserError(f"mark={path}: {error}") from error
    if picture.alpha is None or picture.alpha.min() == 255:
        raise UserError(
            f"mark={path} has no transparency, so the mark would be all of the picture; make its "
            "ground transparent and save it as PNG"
        )
    left, top, width, height = cv2.boundingRect(picture.alpha)
    if not width:
        raise UserError(f"mark={path} is transparent all over; give a picture with a mark in it")
    window = slice(top, top + height), slice(left, left + width)
    return picture.pixels[window], picture.alpha[window]


def _scaled(values: np.ndarray, side: float) -> np.ndarray:
    """(h, w) or (h, w, 3) with ``side`` pixels on the longer side."""
    scale = side / max(values.shape[:2])
    to = [max(1, round(extent * scale)) for extent in values.shape[1::-1]]
    return cv2.resize(values, to, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _colours(light: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The colours (h, w, 3) of ``light``, colour times alpha, and alpha (h, w).

    Where nothing is to be seen, programs save any colour, black mostly, which would darken the
    mark's rim when it is scaled or turned: there it is that of the surroundings.
    """
    seen = share[..., None]
    own = light / np.where(seen > 0, seen, 1)
    if share.all():
        return own
    half = tuple((extent + 1) // 2 for extent in share.shape[::-1])
    small = (cv2.resize(values, half, interpolation=cv2.INTER_AREA) for values in (light, share))
    around = cv2.resize(_colours(*small), share.shape[::-1])
    return np.where(seen > 0, own, around)


def _check_font(path: Path) -> None:
    try:
        ImageFont.truetype(str(path), 24)
    except OSError as error:
        why = "does not exist" if not path.is_file() else "is no font that can be read"
        raise UserError(f"watermark.font={path} {why}; give a .ttf or .otf file") from error


def _lacking(text: str, path: Path) -> list[str]:
    """The letters that a font does not have, in their order."""
    return [
        letter for letter in dict.fromkeys(text) if letter != " " and not has_glyph(path, letter)
    ]
