"""Restore one picture of any size, in bounded memory.

A picture of up to 1.5 megapixels goes through the network whole. A larger one goes in overlapping
tiles, and the middle of each is kept. What depends on the picture as a whole is gathered from all
tiles beforehand, or set right at the end, so that nothing tells where it was cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from clearmark.models.base import SeesWhole, strength, sureness, trusted

WHOLE = 1_500_000  # pixels
# The embedded networks look 160 pixels around them, half of what two tiles share: their layers
# 128, and the windows of extremes 32 further. Tiles begin at multiples of 192, so that pooling
# (64) and the patches of conv_fc (24) fall as in the whole.
TILE, OVERLAP = 1664, 320
UNSEEN = 0.5 / 255  # a difference that rounding to 8 bits makes, too


class Span(NamedTuple):
    """What a tile shows along one side of the picture, and what is kept of it."""

    start: int
    end: int
    first: int
    last: int  # the first pixel that is not kept

    @property
    def shown(self) -> slice:
        return slice(self.start, self.end)

    @property
    def kept(self) -> slice:
        return slice(self.first, self.last)

    def inside(self, cell: int = 1) -> slice:
        """What is kept, counted from the start, in cells of so many pixels."""
        return slice((self.first - self.start) // cell, -(-(self.last - self.start) // cell))


Tile = tuple[Span, Span]
"""Down and across."""
Watch = Callable[[Sequence[Tile]], Iterable[Tile]]
"""Goes through tiles and shows how far it is, as ``rich.progress.track`` and ``tqdm`` do."""


@torch.inference_mode()
def restore(
    network: nn.Module,
    image: np.ndarray,
    whole: int = WHOLE,
    tile: int = TILE,
    overlap: int = OVERLAP,
    with_mask: bool = True,
    watch: Watch | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Take the mark off a picture, on the device that the network lies on.

    Pixels that the network leaves alone come back bit for bit.

    Args:
        network: maps (1, 3, H, W) in [0, 1] to a ``Restoration``; in evaluation mode.
        image: (H, W, 3) RGB, uint8 or uint16.
        whole: pixels up to which the picture goes through in one piece.
        tile: side of a tile in pixels.
        overlap: pixels that neighbouring tiles share, at most half a tile.
        with_mask: false saves the four bytes a pixel that the mask takes.
        watch: goes through the tiles of a large picture, up to three times.

    Returns:
        The restored picture (H, W, 3) of the same type, and the probability of a mark per pixel
        (H, W) float32 or None if it is not wanted or the network predicts none.
    """
    height, width = image.shape[:2]
    if height * width <= whole:
        return _whole(network, image, with_mask)
    watch = watch or iter
    across = _spans(width, tile, overlap)
    tiles = [(down, right) for down in _spans(height, tile, overlap) for right in across]
    overview = None
    if isinstance(network, SeesWhole):
        overview = _overview(network, image, watch(tiles))
    restored = np.empty_like(image)
    mask: np.ndarray | None = None
    sure, left = 0.0, tiles
    while left:
        written = []
        for at in watch(left):
            part = _part(network, image, at, overview)
            down, right = at[0].kept, at[1].kept
            sure = max(sure, part.sure)
            written.append((at, sure, part.change.abs().max().item()))
            _write(part.marked.add_(part.change, alpha=sure**2), restored[down, right])
            if with_mask and part.mask is not None:
                mask = np.empty((height, width), np.float32) if mask is None else mask
                mask[down, right] = part.mask.float().cpu().numpy()
        # Tiles that were restored before the surest one was met got too little of their change.
        left = [at for at, then, most in written if (sure**2 - then**2) * most > UNSEEN]
    return restored, mask


def _whole(
    network: nn.Module, image: np.ndarray, with_mask: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    answer, restored = network(_unit(network, image)), np.empty_like(image)
    _write(answer.image[0], restored)
    if not with_mask or answer.mask is None:
        return restored, None
    return restored, answer.mask[0, 0].float().cpu().numpy()


class Part(NamedTuple):
    """What becomes of a tile, where it is kept.

    marked: (3, h, w), the picture.
    change: (3, h, w), what is added to it, times the square of how sure the picture is of a mark.
    mask: (h, w), the probability of a mark, or None.
    sure: how sure this tile is.
    """

    marked: Tensor
    change: Tensor
    mask: Tensor | None
    sure: float


def _part(network: nn.Module, image: np.ndarray, at: Tile, overview: Tensor | None) -> Part:
    given = _unit(network, image[at[0].shown, at[1].shown])
    answer = network(given) if overview is None else network(given, overview)
    inside = (..., at[0].inside(), at[1].inside())
    marked, mask = given[inside][0], answer.mask
    if mask is None or answer.filled is None:
        change = answer.image[inside][0] - marked
        return Part(marked, change, None if mask is None else mask[inside][0, 0], 1.0)
    mask = mask[inside]
    trust = trusted(mask, answer.floor)
    change = (answer.filled[inside][0] - marked).mul_(strength(trust)[0])
    return Part(marked, change, mask[0, 0], sureness(trust).item())


def _overview(network: SeesWhole, image: np.ndarray, tiles: Iterable[Tile]) -> Tensor:
    """What ``base.pooled`` would give of the survey of the whole picture: (1, 2C, 1, 1)."""
    total, count, peaks = torch.zeros(()), 0, []
    for down, right in tiles:
        found = network.survey(_unit(network, image[down.shown, right.shown]))
        found = found[0, :, down.inside(network.multiple), right.inside(network.multiple)]
        total = total + found.sum((1, 2)).double().cpu()
        count += found[0].numel()
        peaks.append(found.amax((1, 2)))
    peak = torch.stack(peaks).amax(0)
    return torch.cat([(total / count).to(peak), peak])[None, :, None, None]


def _unit(network: nn.Module, image: np.ndarray) -> Tensor:
    """(1, 3, H, W) in [0, 1], where the network lies."""
    weight = next(network.parameters())
    pixels = torch.from_numpy(image.copy()).to(weight.device).permute(2, 0, 1)
    return pixels[None].to(weight.dtype).div_(np.iinfo(image.dtype).max)


def _write(unit: Tensor, to: np.ndarray) -> None:
    """(3, H, W) as the integers of a picture (H, W, 3)."""
    levels = np.iinfo(to.dtype).max
    to[:] = (unit.clamp(0, 1) * levels).round().permute(1, 2, 0).cpu().numpy()


def _spans(length: int, tile: int, overlap: int) -> list[Span]:
    """The tiles along one side; each pixel is kept of one of them."""
    starts = range(0, max(1, length - overlap), tile - overlap)
    cuts = [0, *(start + overlap // 2 for start in starts[1:]), length]
    return [
        Span(start, min(start + tile, length), first, last)
        for start, first, last in zip(starts, cuts, cuts[1:], strict=False)
    ]
