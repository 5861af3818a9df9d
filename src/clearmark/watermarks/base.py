"""What every mark has in common: how it is coloured, turned, placed and blended in.

A kind of mark draws a ``Sketch`` (its shape and, where it has them, its own colours) in
``sketch``; everything after that happens here, once for all kinds. All randomness comes from the
two generators that albumentations hands to a transform, and only while parameters are drawn.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import albumentations as A
import cv2
import numpy as np

from clearmark.errors import UserError
from clearmark.formation import blend, over
from clearmark.watermarks.assets import MarkAssets

cv2.setNumThreads(0)

Range = tuple[float, float]
PALETTE = {"white": 255, "grey": 160, "black": 0}
COLOURS = (*PALETTE, "any", "own")


class Sketch(NamedTuple):
    """A mark on its own: matte (h, w) uint8 and colour, (3,) for the whole or (h, w, 3), uint8."""

    matte: np.ndarray
    colour: np.ndarray | None = None


class Tinted(NamedTuple):
    """A sketch whose colour is settled, (3,) for the whole or (h, w, 3), uint8."""

    matte: np.ndarray
    colour: np.ndarray


class Layer(NamedTuple):
    """A mark where it lies in the picture: opacity (h, w) and colour (h, w, 3) or (3,), uint8."""

    top: int
    left: int
    opacity: np.ndarray
    colour: np.ndarray


class Mark(A.ImageOnlyTransform):
    """Blend one mark into a photo.

    Takes the photo as ``image`` (H, W, 3) and what to draw with as ``assets``. Where they are
    given, ``opacity`` (H, W) and ``colour`` (H, W, 3) gather the marks of a picture, several marks
    as the one that has the same effect. All are uint8, 255 standing for 1.

    Args:
        opacity: range of the opacity where the matte is full, drawn once a mark.
        size: range of the mark's extent as a share of the picture's (each kind says of what).
        colours: weights of white, grey, black and any; a mark with colours of its own keeps them
            when "own" is drawn, and one without them is then of any colour.
        rotation: range of the angle in degrees, counter-clockwise.
        tilted: probability of being rotated at all.
        outline: probability of a thin edge in the opposite tone.
        shadow: probability of a soft dark shadow below and to the right.
        p: probability of the mark.

    Raises:
        UserError: an opacity beyond [0, 1], or a colour that is none of these.
    """

    def __init__(
        self,
        opacity: Range = (0.3, 0.7),
        size: Range = (0.3, 0.8),
        colours: dict[str, float] | None = None,
        rotation: Range = (-45.0, 45.0),
        tilted: float = 0.3,
        outline: float = 0.1,
        shadow: float = 0.15,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        if not 0 <= opacity[0] <= opacity[1] <= 1:
            raise UserError(f"opacity={list(opacity)} is no range; use [low, high] within [0, 1]")
        if unknown := sorted(set(colours or {}) - set(COLOURS)):
            raise UserError(f"colours={unknown} are unknown; use {', '.join(COLOURS)}")
        self.opacity, self.size = tuple(opacity), tuple(size)
        self.colours = dict(colours or {"white": 0.5, "grey": 0.15, "black": 0.15, "any": 0.2})
        self.rotation, self.tilted = tuple(rotation), tilted
        self.outline, self.shadow = outline, shadow

    @abstractmethod
    def sketch(self, shape: tuple[int, int], assets: MarkAssets) -> Sketch:
        """Draw the mark for a picture of ``shape`` (H, W), unrotated and without opacity."""

    @property
    def targets(self) -> dict[str, Callable[..., np.ndarray]]:
        return {
            "image": self.apply,
            "opacity": self.apply_to_opacity,
            "colour": self.apply_to_colour,
        }

    @property
    def targets_as_params(self) -> list[str]:
        return ["image", "assets"]

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        shape = data["image"].shape[:2]
        sketch = self.decorate(self.tint(self.sketch(shape, data["assets"])))
        layer = self.place(self.turn(sketch), shape, self.py_random.uniform(*self.opacity))
        return {"layer": layer, "below": data.get("opacity")}

    def tint(self, sketch: Sketch) -> Tinted:
        """Give the sketch one colour, unless it keeps its own."""
        weights = {n: w for n, w in self.colours.items() if n != "own" or sketch.colour is not None}
        if not any(weights.values()):
            weights = {"any": 1.0}
        name = self.py_random.choices(list(weights), list(weights.values()))[0]
        if name == "own" and sketch.colour is not None:
            return Tinted(sketch.matte, sketch.colour)
        if name == "any":
            colour = [self.py_random.randrange(256) for _ in range(3)]
        else:
            jitter = self.py_random.randrange(-20, 21)
            colour = [min(max(PALETTE[name] + jitter, 0), 255)] * 3
        return Tinted(sketch.matte, np.array(colour, np.uint8))

    def decorate(self, sketch: Tinted) -> Tinted:
        """Lay an outline and a shadow under the sketch, each with its probability."""
        draw = self.py_random.random
        outlined, shadowed = draw() < self.outline, draw() < self.shadow
        if not (outlined or shadowed):
            return sketch
        edge = max(1, round(min(sketch.matte.shape) / 40))
        sketch = _padded(sketch, 3 * edge)
        if outlined:
            kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * edge + 1, 2 * edge + 1))
            tone = 0 if sketch.colour.mean() > 127 else 255
            sketch = _under(sketch, cv2.dilate(sketch.matte, kernel), tone)
        if shadowed:
            moved = np.roll(sketch.matte, (edge, edge), axis=(0, 1))
            soft = cv2.GaussianBlur(moved, (0, 0), edge) * np.float32(0.6)
            sketch = _under(sketch, soft.astype(np.uint8), 0)
        return sketch

    def turn(self, sketch: Tinted) -> Tinted:
        """Rotate the sketch, growing its frame to hold it."""
        if self.py_random.random() >= self.tilted:
            return sketch
        angle = self.py_random.uniform(*self.rotation)
        height, width = sketch.matte.shape
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
        cos, sin = abs(matrix[0, 0]), abs(matrix[0, 1])
        wide, high = math.ceil(width * cos + height * sin), math.ceil(width * sin + height * cos)
        matrix[:, 2] += (wide - width) / 2, (high - height) / 2
        return Tinted(
            cv2.warpAffine(sketch.matte, matrix, (wide, high)),
            sketch.colour
            if sketch.colour.ndim == 1
            # Bleed the colours outwards, or the soft rim of the matte would turn black.
            else cv2.warpAffine(
                sketch.colour, matrix, (wide, high), borderMode=cv2.BORDER_REPLICATE
            ),
        )

    def place(self, sketch: Tinted, shape: tuple[int, int], opacity: float) -> Layer:
        """Choose where the mark lies and cut it to the picture.

        A third each: the middle, the rim (a corner or the middle of an edge), and anywhere.
        """
        where = self.py_random.choice(("middle", "rim", "anywhere"))
        at = {"middle": (0.5,), "rim": (0.04, 0.5, 0.96)}.get(where)
        room = [full - part for full, part in zip(shape, sketch.matte.shape, strict=True)]
        shares = [self.py_random.choice(at) if at else self.py_random.random() for _ in room]
        top, left = (round(gap * share) for gap, share in zip(room, shares, strict=True))
        height, width = shape
        rows = slice(max(0, -top), min(sketch.matte.shape[0], height - top))
        columns = slice(max(0, -left), min(sketch.matte.shape[1], width - left))
        colour = sketch.colour if sketch.colour.ndim == 1 else sketch.colour[rows, columns]
        # Opacity has 256 levels, as a file that stores it would: then it inverts exactly.
        levels = np.rint(sketch.matte[rows, columns] * np.float32(opacity)).astype(np.uint8)
        return Layer(max(top, 0), max(left, 0), levels, colour)

    def apply(self, img: np.ndarray, layer: Layer, **params: Any) -> np.ndarray:
        marked, window = img.copy(), _window(layer)
        opacity: np.ndarray = layer.opacity / np.float32(255)
        for channel in range(3):  # a plane at a time: four times faster than broadcasting to RGB
            plane = marked[window][..., channel]
            colour = layer.colour[..., channel].astype(np.float32)
            plane[:] = np.rint(blend(plane, opacity, colour))
        return marked

    def apply_to_opacity(self, opacity: np.ndarray, layer: Layer, **params: Any) -> np.ndarray:
        total, window = opacity.copy(), _window(layer)
        share: np.ndarray = layer.opacity / np.float32(255)
        total[window] = np.rint(blend(total[window], share, np.full_like(share, 255)))
        return total

    def apply_to_colour(
        self, colour: np.ndarray, layer: Layer, below: np.ndarray | None, **params: Any
    ) -> np.ndarray:
        mixed, window = colour.copy(), _window(layer)
        if below is None or not below[window].any():
            for channel in range(3):
                mixed[window][..., channel] = layer.colour[..., channel]
            return mixed
        above: np.ndarray = layer.opacity[..., None] / np.float32(255)
        under: np.ndarray = below[window][..., None] / np.float32(255)
        upper = layer.colour.astype(np.float32)
        mixed[window] = np.rint(over(above, upper, under, mixed[window])[1])
        return mixed


def _window(layer: Layer) -> tuple[slice, slice]:
    height, width = layer.opacity.shape
    return slice(layer.top, layer.top + height), slice(layer.left, layer.left + width)


def _padded(sketch: Tinted, border: int) -> Tinted:
    sides = (border,) * 4
    matte = cv2.copyMakeBorder(sketch.matte, *sides, cv2.BORDER_CONSTANT)
    if sketch.colour.ndim == 1:
        return Tinted(matte, sketch.colour)
    return Tinted(matte, cv2.copyMakeBorder(sketch.colour, *sides, cv2.BORDER_REPLICATE))


def _under(sketch: Tinted, below: np.ndarray, tone: int) -> Tinted:
    """The sketch over a one-toned shape of the same frame."""
    top = sketch.matte / np.float32(255)
    total = top + (1 - top) * (below / np.float32(255))
    share: np.ndarray = 1 - top / np.maximum(total, np.float32(1e-6))
    colour = np.empty((*total.shape, 3), np.uint8)
    for channel in range(3):
        own = sketch.colour[..., channel].astype(np.float32)
        colour[..., channel] = np.rint(blend(own, share, np.full_like(share, tone)))
    return Tinted(np.rint(total * np.float32(255)).astype(np.uint8), colour)
