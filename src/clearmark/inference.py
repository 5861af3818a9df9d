"""Restore one picture of any size, in bounded memory.

A picture of up to 1.5 megapixels goes through the network whole. A larger one is cut into
overlapping tiles, one row of tiles at a time; in the overlaps one tile fades into the next.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

WHOLE = 1_500_000  # pixels
# Multiples of 64, so that pooling and patches fall in a tile as they would in the whole picture.
TILE, OVERLAP = 1024, 128


@torch.inference_mode()
def restore(
    network: nn.Module,
    image: np.ndarray,
    whole: int = WHOLE,
    tile: int = TILE,
    overlap: int = OVERLAP,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Take the mark off a picture, on the device that the network lies on.

    Pixels that the network leaves alone come back bit for bit.

    Args:
        network: maps (1, 3, H, W) in [0, 1] to a ``Restoration``; in evaluation mode.
        image: (H, W, 3) RGB, uint8 or uint16.
        whole: pixels up to which the picture goes through in one piece.
        tile: side of a tile in pixels.
        overlap: pixels that neighbouring tiles share, at most half a tile.

    Returns:
        The restored picture (H, W, 3) of the same type, and the probability of a mark per pixel
        (H, W) float32 or None if the network predicts none.
    """
    height, width = image.shape[:2]
    levels = np.iinfo(image.dtype).max
    if height * width <= whole:
        tile, overlap = max(height, width), 0
    restored = np.empty_like(image)
    mask: np.ndarray | None = None
    above: Tensor | None = None  # what the last row of tiles gave to the rows it shares with this
    for top, bottom, down in _tiles(height, tile, overlap):
        band = None
        for left, right, across in _tiles(width, tile, overlap):
            part = _run(network, image[top:bottom, left:right])
            if band is None:
                band = part.new_zeros((len(part), bottom - top, width))
            band[..., left:right] += part * across.to(part) * down.to(part)[:, None]
        assert band is not None
        if above is not None:
            band[:, :overlap] += above
        done = bottom if bottom == height else bottom - overlap
        finished, above = band[:, : done - top], band[:, done - top :].clone()
        rounded = (finished[:3] * levels).round().permute(1, 2, 0)
        restored[top:done] = rounded.cpu().numpy()
        if len(band) > 3:
            mask = np.empty((height, width), np.float32) if mask is None else mask
            mask[top:done] = finished[3].float().cpu().numpy()
    return restored, mask


def _run(network: nn.Module, image: np.ndarray) -> Tensor:
    """Restored RGB and, where predicted, the mask's probability: (3 or 4, H, W) in [0, 1]."""
    weight = next(network.parameters())
    levels = np.iinfo(image.dtype).max
    pixels = torch.from_numpy(image.copy()).to(weight.device).permute(2, 0, 1)
    restored = network(pixels[None].to(weight.dtype) / levels)
    layers = [restored.image] if restored.mask is None else [restored.image, restored.mask]
    return torch.cat(layers, 1)[0].clamp(0, 1)


def _tiles(length: int, tile: int, overlap: int) -> list[tuple[int, int, Tensor]]:
    """Start, end and weights of the tiles along one side; where two meet, the weights sum to 1."""
    starts = range(0, max(1, length - overlap), tile - overlap)
    rise = torch.sin((torch.arange(overlap) + 0.5) / overlap * torch.pi / 2) ** 2
    spans = []
    for start in starts:
        end = min(start + tile, length)
        weights = torch.ones(end - start)
        if start > 0:
            weights[:overlap] = rise
        if end < length:
            weights[end - start - overlap :] = 1 - rise
        spans.append((start, end, weights))
    return spans
