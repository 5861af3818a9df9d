"""Residual network (He et al., 2015) for restoration: one resolution, blocks that add to it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from clearmark.models.base import Correction, Restoration, grow


class ResNet(nn.Module):
    """A stack of residual blocks at one scale; dilation widens what a block sees.

    Args:
        activation: builds the activation inside each block.
        width: channels.
        dilations: one residual block each; 1, 2, 4, 8 sees 61 cells of ``scale`` pixels.
        scale: blocks work at a resolution that many times smaller than the picture.
        mask: predict where the mark is.
    """

    def __init__(
        self,
        activation: Callable[[], nn.Module],
        width: int = 32,
        dilations: tuple[int, ...] = (1, 2, 4, 8, 4, 2, 1),
        scale: int = 4,
        mask: bool = True,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.stem = nn.Conv2d(3 * scale**2, width, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(width, d, activation) for d in dilations))
        self.correction = Correction(width, scale, mask)

    def forward(self, marked: Tensor) -> Restoration:
        """Restore (B, 3, H, W)."""
        features = self.stem(F.pixel_unshuffle(grow(marked, self.scale) - 0.5, self.scale))
        return self.correction(self.blocks(features), marked)


class Block(nn.Module):
    """x + conv(activation(conv(x))), normalised."""

    def __init__(self, width: int, dilation: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False),
            nn.BatchNorm2d(width),
            activation(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, features: Tensor) -> Tensor:
        return features + self.layers(features)
