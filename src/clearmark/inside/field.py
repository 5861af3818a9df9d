"""How far a network looks: the effective receptive field, measured by gradients.

After Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural
Networks", 2016: what an output pixel owes to each input pixel is the gradient's absolute value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

SHARE = 0.95
"""Of the gradient, that the effective field holds."""


class Field(NamedTuple):
    """What an output pixel owes to the pixels around it.

    gradient: (2 R + 1, 2 R + 1), its mean absolute value by distance from the output pixel, which
        lies in the middle; sums to 1.
    size: side in pixels of the smallest square around the output pixel that holds ``SHARE`` of it.
    reach: side of the smallest one that holds all of it.
    """

    gradient: np.ndarray
    size: int
    reach: int


def decision(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """What a network decides for each pixel, before it is gated: mask logits, or the correction.

    The restored picture itself would not do: a pixel owes most of it to itself, passed through.
    """

    def decide(marked: Tensor) -> Tensor:
        restored = network(marked)
        if restored.mask_logits is not None:
            return restored.mask_logits
        return restored.image - marked

    return decide


def receptive_field(
    output: Callable[[Tensor], Tensor],
    picture: Tensor,
    pixels: Sequence[tuple[int, int]] | None = None,
    batch: int = 8,
) -> Field:
    """Measure how far an output looks, by the gradients of some of its pixels.

    What lies beyond the picture cannot be seen here: a field may be larger than twice the distance
    from the pixels to the rim.

    Args:
        output: maps (B, 3, H, W) to (B, C, H, W), each picture on its own.
        picture: (1, 3, H, W), where it is measured.
        pixels: rows and columns of the output pixels; None takes four in the middle, since those of
            a cell that a network sees as one look in different directions.
        batch: pixels at a time.
    """
    height, width = picture.shape[-2:]
    if pixels is None:
        top, left = height // 2 - 2, width // 2 - 2
        pixels = [(top, left), (top + 1, left + 2), (top + 2, left + 1), (top + 3, left + 3)]
    radius = max(height, width) - 1
    total = np.zeros((2 * radius + 1,) * 2)
    for start in range(0, len(pixels), batch):
        some = pixels[start : start + batch]
        copies = picture.expand(len(some), -1, -1, -1).clone().requires_grad_()
        with torch.enable_grad():
            answers = output(copies)
            chosen = torch.stack([answers[n, :, y, x] for n, (y, x) in enumerate(some)]).sum()
            gradients = torch.autograd.grad(chosen, copies)[0].abs().sum(1).double().cpu().numpy()
        for (row, column), gradient in zip(some, gradients, strict=True):
            top, left = radius - row, radius - column
            total[top : top + height, left : left + width] += gradient
    return Field(*_sized(total / max(total.sum(), np.finfo(float).tiny)))


def _sized(gradient: np.ndarray) -> tuple[np.ndarray, int, int]:
    """The gradient cut to what it reaches, and the two sides."""
    radius = len(gradient) // 2
    away = np.abs(np.arange(-radius, radius + 1))
    distance = np.maximum(away[:, None], away[None])
    held = np.bincount(distance.ravel(), gradient.ravel()).cumsum()
    inner = int(np.searchsorted(held, SHARE - 1e-9))
    reach = int(distance[gradient > 0].max(initial=0))
    if not gradient.any():
        inner = 0
    middle = slice(radius - reach, radius + reach + 1)
    return gradient[middle, middle], 2 * inner + 1, 2 * reach + 1
