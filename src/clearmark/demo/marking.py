"""The second tab: a mark on a clean picture, and what is left of it after a removal."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from clearmark import pictures
from clearmark.demo.removing import save, show
from clearmark.errors import UserError
from clearmark.formation import visible
from clearmark.inference import Watch
from clearmark.metrics import PSNR_CEILING
from clearmark.remover import Remover
from clearmark.watermarks import MarkAssets, Own

LONGEST = 60
"""Letters of a mark; more would not be read on a picture."""

NOTHING = MarkAssets((), (), ())  # a mark of the visitor's own needs none of the embedded ones


@dataclass(frozen=True)
class Wish:
    """The mark that a visitor asks for.

    text, logo: one of the two; the logo is a picture with transparency.
    opacity: in [0, 1], times the logo's own.
    size: of the longer side, as a share of the picture's shorter one.
    colour: of a text: white, grey or black.
    place: middle, rim or anywhere; a tiled one is everywhere.
    """

    text: str
    logo: Path | None
    opacity: float
    size: float
    angle: float
    colour: str
    place: str
    tiled: bool

    def drawn(self, megapixels: float | None) -> Own:
        """The transform that draws it.

        Raises:
            UserError: the logo cannot be read or has no transparency, or the text cannot be drawn.
        """
        how: dict[str, Any] = {
            "opacity": (self.opacity, self.opacity),
            "size": (self.size, self.size),
            "copies": (self.size, self.size),
            "rotation": (self.angle, self.angle),
            "tilted": float(self.angle != 0),
            "at": (self.place,),
            "tiled": float(self.tiled),
            "megapixels": megapixels,
        }
        if self.logo is None:
            return Own(_words(self.text), colours={self.colour: 1.0}, **how)
        try:
            return Own(str(self.logo), **how)
        except UserError as error:
            # A visitor knows the file by its name, and not where it lies here.
            raise UserError(str(error).replace(str(self.logo), self.logo.name)) from error


@dataclass(frozen=True)
class Held:
    """How a mark held: PSNR in dB to the clean picture, of all of it and where the mark lies.

    remains: root mean square error there after the removal, as a share of that before it.
    found: share of the mark's pixels that the network saw as marked; None if it does not say.
    """

    marked: float
    marked_there: float
    restored: float
    restored_there: float
    remains: float
    found: float | None


@dataclass(frozen=True)
class Marked:
    """Files for the page, as ``Removed``, and the figures."""

    marked: Path
    restored: Path
    rest: Path
    result: Path
    held: Held


def mark(
    source: Path,
    wish: Wish,
    remover: Remover,
    folder: Path,
    megapixels: float | None,
    watch: Watch,
) -> Marked:
    """Put a mark on a clean picture and try to take it off again (see ``removing.remove``).

    Raises:
        PictureError: the picture is broken or too large, or the result cannot be written.
        UserError: there is no such mark, or it cannot be seen.
    """
    draw = wish.drawn(megapixels)
    picture = pictures.fitting(pictures.read(source, megapixels), ".webp")  # 8 bits
    clean = picture.pixels
    draw.set_random_seed(0)  # the same mark again if only its opacity is changed
    made = draw(image=clean, opacity=np.zeros(clean.shape[:2], np.uint8), assets=NOTHING)
    marked, there = made["image"], visible(made["opacity"] / np.float32(255))
    if not there.any():
        raise UserError("the mark is too small or too faint to be seen; raise its size or opacity")
    restored, mask = remover.restore(marked, watch=watch)
    result = folder / f"{source.stem}_marked.png"
    save(result, replace(picture, pixels=marked))
    rest = cv2.convertScaleAbs(cv2.absdiff(restored, clean), alpha=4)
    return Marked(
        show(folder / "marked.jpg", marked),
        show(folder / "restored.jpg", restored),
        show(folder / "rest.jpg", rest),
        result,
        held(clean, marked, restored, there, mask),
    )


def held(
    clean: np.ndarray,
    marked: np.ndarray,
    restored: np.ndarray,
    there: np.ndarray,
    mask: np.ndarray | None,
) -> Held:
    """The figures of three pictures (H, W, 3) uint8, where the mark lies and is seen (H, W)."""
    before, after = _psnr(marked[there], clean[there]), _psnr(restored[there], clean[there])
    return Held(
        _psnr(marked, clean),
        before,
        _psnr(restored, clean),
        after,
        10 ** ((before - after) / 20),
        None if mask is None else float((mask[there] > 0.5).mean()),
    )


def _psnr(one: np.ndarray, other: np.ndarray) -> float:
    return min(cv2.PSNR(one, other), PSNR_CEILING)


def _words(text: str) -> str:
    """A text that is drawn as it is; ``Own`` would open a file of that name."""
    words = " ".join(text.split())
    if not words:
        raise UserError("there is no mark; type a text or give a logo")
    if len(words) > LONGEST:
        raise UserError(f"a text of {len(words)} letters is too long; give {LONGEST} or fewer")
    try:
        named = Path(words).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        named = False
    if named:
        raise UserError("that text is the name of a file here; give the file as a logo")
    return words
