"""The first tab: a picture in, the restored one and the mask out, as files."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from clearmark import pictures, released
from clearmark.inference import Watch
from clearmark.pictures import Picture
from clearmark.remover import Remover, load

WIDEST = 2048
"""Longer side in pixels of what the page shows; a result is downloaded at its own size."""


class Models:
    """The removers that a visitor may choose from, by name.

    Args:
        ckpt: a path or name as ``clearmark.load`` takes it, chosen first; None takes the best.
        device: as ``clearmark.load`` takes it.

    Raises:
        UserError: ``ckpt`` or the device cannot be used.
    """

    def __init__(self, ckpt: Path | None, device: str | None) -> None:
        self.first, self.device = str(ckpt or released.BEST), device
        self.names = list(dict.fromkeys([self.first, released.BEST, *released.names()]))
        self._loaded: dict[str, Remover] = {}
        self[self.first]  # a visitor does not wait for it

    def __getitem__(self, name: str) -> Remover:
        if name not in self._loaded:
            self._loaded[name] = load(name, self.device)
        return self._loaded[name]


@dataclass(frozen=True)
class Removed:
    """Files for the page: before, after and mask as shown, and the result to download."""

    before: Path
    after: Path
    mask: Path | None
    result: Path
    said: str


def remove(
    source: Path, remover: Remover, folder: Path, megapixels: float | None, watch: Watch
) -> Removed:
    """Restore a picture as ``predict.py`` does.

    Args:
        source: the picture; its kind is that of the result, where there is a writer for it.
        remover: of the marks.
        folder: an empty one for the files.
        megapixels: larger pictures are refused before they are decoded.
        watch: goes through the tiles of a large picture.

    Raises:
        PictureError: the picture is broken or too large, or the result cannot be written.
    """
    kind = pictures.as_written(source).suffix
    picture = pictures.fitting(pictures.read(source, megapixels), kind)
    began = time.perf_counter()
    restored, mask = remover.restore(picture.pixels, watch=watch)
    seconds = time.perf_counter() - began
    result = folder / f"{source.stem}_restored{kind}"
    save(result, replace(picture, pixels=restored))
    height, width = restored.shape[:2]
    said = [f"{width} x {height} pixels in {seconds:.1f} s"]
    if mask is not None:
        said.append(f"a mark is seen on {(mask > 0.5).mean():.1%} of them")
    said += picture.losses
    return Removed(
        show(folder / "before.jpg", picture.pixels),
        show(folder / "after.jpg", restored),
        None if mask is None else show(folder / "mask.jpg", (mask * 255).round().astype(np.uint8)),
        result,
        "; ".join(said),
    )


def show(path: Path, pixels: np.ndarray) -> Path:
    """Write a picture (H, W, 3) or (H, W) for the page, in 8 bits and of a size for a screen."""
    scale = WIDEST / max(pixels.shape[:2])
    if scale < 1:
        to = [max(1, round(extent * scale)) for extent in pixels.shape[1::-1]]
        pixels = cv2.resize(pixels, to, interpolation=cv2.INTER_AREA)
    save(path, Picture(pixels if pixels.dtype == np.uint8 else pictures.eight_bits(pixels)))
    return path


def save(path: Path, picture: Picture) -> None:
    """Write a picture.

    Raises:
        PictureError: it cannot be written.
    """
    try:
        pictures.write(path, picture)
    except OSError as error:
        why = error.strerror or error
        raise pictures.PictureError(f"{path.name} cannot be written: {why}") from error
