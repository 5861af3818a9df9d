"""What marks are drawn with: the fonts, icons and phrases of one split.

They travel with each sample under the key ``assets``, so that one list of transforms serves train,
validation and test without any of them ever seeing another's marks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import ImageFont

from clearmark.errors import UserError

EMBEDDED = Path(__file__).parents[1] / "assets"
ICON_KINDS = {".png"}
FONT_KINDS = {".ttf", ".otf", ".ttc"}


@dataclass(frozen=True)
class MarkAssets:
    """Fonts, icons (H, W, 4 RGBA uint8) and phrases of one split."""

    fonts: tuple[Path, ...]
    icons: tuple[np.ndarray, ...]
    phrases: tuple[str, ...]

    @classmethod
    def load(cls, split: str, root: Path = EMBEDDED) -> MarkAssets:
        """Read ``root/{fonts,icons}/split/*`` and ``root/phrases/split.txt``.

        Raises:
            UserError: a folder or the phrase list is missing or empty.
        """
        lines = root / "phrases" / f"{split}.txt"
        phrases = lines.read_text(encoding="utf-8").splitlines() if lines.is_file() else []
        found = cls(
            fonts=tuple(_files(root / "fonts" / split, FONT_KINDS)),
            icons=tuple(read_icon(path) for path in _files(root / "icons" / split, ICON_KINDS)),
            phrases=tuple(line for line in phrases if line.strip()),
        )
        if not (found.fonts and found.icons and found.phrases):
            raise UserError(
                f"no marks for split '{split}' under {root}: need fonts/{split}/*.ttf, "
                f"icons/{split}/*.png and phrases/{split}.txt with at least one line"
            )
        return found

    def short(self, letters: int) -> tuple[str, ...]:
        """The phrases of at most so many letters (all of them, if none)."""
        return _short(self.phrases, letters) or self.phrases

    def fonts_for(self, text: str) -> tuple[Path, ...]:
        """The fonts that have a glyph for every character of ``text`` (all of them, if none)."""
        return _fonts_for(self.fonts, text) or self.fonts


def _files(folder: Path, kinds: set[str]) -> list[Path]:
    return sorted(p for p in folder.glob("*") if p.suffix.lower() in kinds)


def read_icon(path: Path) -> np.ndarray:
    """An icon as RGBA uint8 (H, W, 4); a grey PNG is taken as the matte of a black icon."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise UserError(f"cannot read the icon {path}: not a PNG; remove it or save it again")
    if image.ndim == 2:
        return np.dstack([np.zeros((*image.shape, 3), np.uint8), image])
    if image.shape[2] == 3:
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGBA)
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA)


@lru_cache(maxsize=512)
def font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    """A font at a size in pixels; kept, because opening one costs more than drawing a word."""
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=64)
def _short(phrases: tuple[str, ...], letters: int) -> tuple[str, ...]:
    return tuple(phrase for phrase in phrases if len(phrase) <= letters)


@lru_cache(maxsize=4096)
def _fonts_for(fonts: tuple[Path, ...], text: str) -> tuple[Path, ...]:
    letters = set(text) - {" "}
    return tuple(path for path in fonts if all(has_glyph(path, letter) for letter in letters))


@cache
def has_glyph(path: Path, letter: str) -> bool:
    """Whether a font draws a character."""
    # A font draws every character it lacks as the same box, that of a code point nobody uses;
    # some fonts list characters that they leave blank.
    drawn, lacking = (font(path, 24).getmask(text) for text in (letter, "\U0010fffe"))
    return drawn.getbbox() is not None and bytes(drawn) != bytes(lacking)
