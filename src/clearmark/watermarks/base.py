"""What every mark has in common: how it is coloured, turned, placed and blended in.

A kind of mark draws a ``Sketch`` (its shape and, where it has them, its own colours) in
``sketch``; everything after that happens here, once for all kinds. All randomness comes from the
two generators that albumentations hands to a transform, and only while parameters are drawn.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import albumentations as A
import cv2
import numpy as np

from clearmark.errors import UserError
from clearmark.watermarks import finishes
from clearmark.watermarks.assets import MarkAssets
from clearmark.watermarks.finishes import Tinted
from clearmark.watermarks.pixels import blended, mixed, united

cv2.setNumThreads(0)

Range = tuple[float, float]
PALETTE = {"white": 255, "grey": 160, "black": 0}
COLOURS = (*PALETTE, "shade", "any", "own")
PLACES: dict[str, Sequence[float]] = {
    "middle": (0.5,),
    "rim": (0.04, 0.5, 0.96),
    "edge": (0.0, 0.5, 1.0),
    "anywhere": (),
    "cut": (),
}
FITS = (None, "square", "free")


class Sketch(NamedTuple):
    """A mark on its own: matte (h, w) uint8 and colour, (3,) for the whole or (h, w, 3), uint8.

    A ``flat`` one keeps its matte in whatever colour it is drawn.
    """

    matte: np.ndarray
    colour: np.ndarray | None = None
    flat: bool = False

    def plain(self) -> np.ndarray:
        """The matte that keeps the mark's features when it is drawn in one colour."""
        if self.flat or self.colour is None or self.colour.ndim == 1:
            return self.matte
        return finishes.engraved(self.matte, self.colour)


class Layer(NamedTuple):
    """A mark where it lies in the picture: opacity (h, w) and colour (h, w, 3) or (3,), uint8."""

    top: int
    left: int
    opacity: np.ndarray
    colour: np.ndarray

    @property
    def window(self) -> tuple[slice, slice]:
        height, width = self.opacity.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


class Mark(A.ImageOnlyTransform):
    """Blend one mark into a photo.

    Takes the photo as ``image`` (H, W, 3) and what to draw with as ``assets``. Where they are
    given, ``opacity`` (H, W) and ``colour`` (H, W, 3) gather the marks of a picture, several marks
    as the one that has the same effect; without ``image`` they are all that is drawn. All are
    uint8, 255 standing for 1.

    Args:
        opacity: range of the opacity where the matte is full, drawn once a mark.
        size: range of the mark's extent as a share of the picture's (each kind says of what).
        colours: weights of white, grey, black, shade (any grey) and any; a mark with colours of
            its own keeps them when "own" is drawn, and as greys when "shade" is; one without them
            never draws "own", and is of any colour where nothing else has a weight.
        rotation: range of the angle in degrees, counter-clockwise.
        tilted: probability of being rotated at all.
        outline: probability of a thin edge in the opposite tone.
        shadow: probability of a soft dark shadow below and to the right.
        feather: probability of soft edges.
        fade: probability of an opacity that falls off across the mark.
        texture: probability of an uneven opacity.
        at: where marks lie, each as likely: "middle", "rim" (a corner or the middle of an edge,
            with a margin), "edge" (the same without), "anywhere" within the picture, "cut" (the
            mark's middle is anywhere, and what lies outside is cut off).
        fit: "square" makes ``size`` the longer side of the mark as it lies there, rotated, as a
            share of the picture's shorter side; "free" draws its width and height one by one, as
            shares of the picture's, whatever its proportions. None leaves it as it was drawn.
        p: probability of the mark.

    Raises:
        UserError: an opacity beyond [0, 1], or a colour, place or fit that is none of these.
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
        feather: float = 0.0,
        fade: float = 0.0,
        texture: float = 0.0,
        at: Sequence[str] = ("middle", "rim", "anywhere"),
        fit: str | None = None,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        if not 0 <= opacity[0] <= opacity[1] <= 1:
            raise UserError(f"opacity={list(opacity)} is no range; use [low, high] within [0, 1]")
        if unknown := sorted(set(colours or {}) - set(COLOURS)):
            raise UserError(f"colours={unknown} are unknown; use {', '.join(COLOURS)}")
        if not at or set(at) - set(PLACES):
            raise UserError(f"at={list(at)} is no list of places; use {', '.join(PLACES)}")
        if fit not in FITS:
            raise UserError(f"fit={fit} is unknown; use square, free or null")
        self.opacity, self.size = tuple(opacity), tuple(size)
        self.colours = dict(colours or {"white": 0.5, "grey": 0.15, "black": 0.15, "any": 0.2})
        self.rotation, self.tilted = tuple(rotation), tilted
        self.outline, self.shadow = outline, shadow
        self.feather, self.fade, self.texture = feather, fade, texture
        self.at, self.fit = tuple(at), fit

    @abstractmethod
    def sketch(self, shape: tuple[int, int], assets: MarkAssets, size: float) -> Sketch:
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
        return ["assets"]

    def update_transform_params(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        return {**params, "shape": data["image" if "image" in data else "opacity"].shape}

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        shape = params["shape"][:2]
        sizes = [self.py_random.uniform(*self.size) for _ in range(1 + (self.fit == "free"))]
        sketch = self.finish(self.tint(self.sketch(shape, data["assets"], max(sizes))))
        turned = self.turn(sketch)
        if self.fit:
            turned = self.fitted(turned, shape, sizes)
        layer = self.place(turned, shape, self.py_random.uniform(*self.opacity))
        below = data.get("opacity")
        first = below is None or not below[layer.window].any()
        return {"layer": layer, "below": None if first else below}

    def tint(self, sketch: Sketch) -> Tinted:
        """Give the sketch one colour, unless it keeps its own."""
        weights = {n: w for n, w in self.colours.items() if n != "own" or sketch.colour is not None}
        if not any(weights.values()):
            weights = {"any": 1.0}
        name = self.py_random.choices(list(weights), list(weights.values()))[0]
        if name == "own" and sketch.colour is not None:
            return Tinted(sketch.matte, sketch.colour)
        if name == "shade" and sketch.colour is not None and sketch.colour.ndim == 3:
            grey = cv2.cvtColor(sketch.colour, cv2.COLOR_RGB2GRAY)
            return Tinted(sketch.matte, cv2.merge([grey] * 3))
        matte = sketch.plain()
        if name == "any":
            colour = [self.py_random.randrange(256) for _ in range(3)]
        elif name == "shade":
            colour = [self.py_random.randrange(256)] * 3
        else:
            jitter = self.py_random.randrange(-20, 21)
            colour = [min(max(PALETTE[name] + jitter, 0), 255)] * 3
        return Tinted(matte, np.array(colour, np.uint8))

    def finish(self, sketch: Tinted) -> Tinted:
        """Soften, fade, roughen, outline and shadow the sketch, each with its probability."""
        draw, edge = self.py_random.random, finishes.edge_of(sketch.matte)
        feather, outline, shadow = (
            draw() < share for share in (self.feather, self.outline, self.shadow)
        )
        if feather or outline or shadow:
            sketch = finishes.padded(sketch, 3 * edge)
        if feather:
            sketch = finishes.feathered(sketch, edge)
        if draw() < self.fade:
            sketch = finishes.faded(sketch, draw() * 2 * math.pi, 0.2 + 0.5 * draw())
        if draw() < self.texture:
            cells = self.py_random.randrange(4, 25)
            noise = self.random_generator.random((cells, cells), np.float32)
            sketch = finishes.textured(sketch, noise, 0.3 + 0.4 * draw())
        if outline:
            sketch = finishes.outlined(sketch, edge)
        return finishes.shadowed(sketch, edge) if shadow else sketch

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

    def fitted(self, sketch: Tinted, shape: tuple[int, int], sizes: Sequence[float]) -> Tinted:
        """Cut the empty rim off and bring the sketch to its size (see ``fit``)."""
        left, top, width, height = cv2.boundingRect(sketch.matte)
        if not width:
            return sketch
        if self.fit == "free":
            target = sizes[0] * shape[1], sizes[-1] * shape[0]
        else:
            scale = sizes[0] * min(shape) / max(width, height)
            target = width * scale, height * scale
        to = tuple(max(1, round(side)) for side in target)
        how = cv2.INTER_AREA if to[0] < width or to[1] < height else cv2.INTER_LINEAR
        window = slice(top, top + height), slice(left, left + width)
        matte, colour = sketch.matte[window], sketch.colour
        if colour.ndim == 3:
            colour = cv2.resize(colour[window], to, interpolation=how)
        return Tinted(cv2.resize(matte, to, interpolation=how), colour)

    def place(self, sketch: Tinted, shape: tuple[int, int], opacity: float) -> Layer:
        """Choose where the mark lies and cut it to the picture."""
        where = self.py_random.choice(self.at)
        extent = sketch.matte.shape
        if where == "cut":
            corner = [
                round(full * self.py_random.random() - part / 2)
                for full, part in zip(shape, extent, strict=True)
            ]
        else:
            shares = [
                self.py_random.choice(PLACES[where]) if PLACES[where] else self.py_random.random()
                for _ in shape
            ]
            corner = [
                round((full - part) * share)
                for full, part, share in zip(shape, extent, shares, strict=True)
            ]
        rows, columns = (
            slice(max(0, -at), min(part, full - at))
            for at, part, full in zip(corner, extent, shape, strict=True)
        )
        colour = sketch.colour if sketch.colour.ndim == 1 else sketch.colour[rows, columns]
        # Opacity has 256 levels, as a file that stores it would: then it inverts exactly.
        levels = cv2.convertScaleAbs(sketch.matte[rows, columns], alpha=opacity)
        return Layer(max(corner[0], 0), max(corner[1], 0), levels, colour)

    def apply(self, img: np.ndarray, layer: Layer, **params: Any) -> np.ndarray:
        marked, window = img.copy(), layer.window
        marked[window] = blended(img[window], layer.opacity, layer.colour)
        return marked

    def apply_to_opacity(
        self, opacity: np.ndarray, layer: Layer, below: np.ndarray | None, **params: Any
    ) -> np.ndarray:
        total, window = opacity.copy(), layer.window
        lone = below is None
        total[window] = layer.opacity if lone else united(layer.opacity, opacity[window])
        return total

    def apply_to_colour(
        self, colour: np.ndarray, layer: Layer, below: np.ndarray | None, **params: Any
    ) -> np.ndarray:
        total, window = colour.copy(), layer.window
        if below is not None:
            total[window] = mixed(layer.opacity, layer.colour, below[window], colour[window])
        elif layer.colour.ndim == 3:
            total[window] = layer.colour
        else:  # a row that numpy repeats is many times faster than a pixel that it repeats
            total[window] = np.full((1, layer.opacity.shape[1], 3), layer.colour)
        return total
