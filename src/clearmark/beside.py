"""Beside a restored picture: its mask, a comparison, and the user's own limits to it."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np

from clearmark.pictures import Picture, PictureError, bands, eight_bits, read

LARGEST = 4_000_000
"""Pixels of each part of a comparison: whole, three of 100 megapixels take gigabytes."""


def limited(
    pixels: np.ndarray, restored: np.ndarray, hint: Path, megapixels: float | None
) -> np.ndarray:
    """The restored picture where a picture of the same size is white, the given one where black.

    A coloured hint counts by its brightness, and a clear one not at all where it is clear.

    Raises:
        PictureError: the hint cannot be read, or has another size.
    """
    try:
        where = read(hint, megapixels)
    except PictureError as error:
        raise PictureError(f"mask={hint}: {error}") from error
    if where.pixels.shape != pixels.shape:
        sizes = [f"{found.shape[1]}x{found.shape[0]}" for found in (where.pixels, pixels)]
        raise PictureError(f"mask={hint} is {sizes[0]}, the picture {sizes[1]}")
    mixed, most = np.empty_like(pixels), np.iinfo(where.pixels.dtype).max
    for rows in bands(*pixels.shape[:2]):
        share = cv2.cvtColor(where.pixels[rows], cv2.COLOR_RGB2GRAY)[..., None] / most
        if where.alpha is not None:
            share *= where.alpha[rows, :, None] / most
        change = restored[rows].astype(float) - pixels[rows]
        mixed[rows] = np.rint(pixels[rows] + share * change)
    return mixed


def of_mask(mask: np.ndarray) -> Picture:
    """A mask (H, W) in [0, 1] as a grey picture in 8 bits, white for sure of a mark."""
    grey = np.empty(mask.shape, np.uint8)
    for rows in bands(*mask.shape):
        grey[rows] = np.rint(mask[rows] * 255)
    return Picture(grey)


def side_by_side(pixels: np.ndarray, restored: np.ndarray, mask: np.ndarray | None) -> Picture:
    """Before, after and, if there is one, the mask (H, W), in 8 bits and at most ``LARGEST``."""
    parts = [_reduced(part) for part in (pixels, restored)]
    if pixels.dtype == np.uint16:
        parts = [eight_bits(part) for part in parts]
    if mask is not None:
        parts.append(np.repeat(_reduced(mask)[..., None], 3, 2))
    return Picture(np.hstack(parts))


def _reduced(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    scale = math.sqrt(LARGEST / (height * width))
    if scale >= 1:
        return pixels
    to = [max(1, int(side * scale)) for side in (width, height)]
    return cv2.resize(pixels, to, interpolation=cv2.INTER_AREA)
