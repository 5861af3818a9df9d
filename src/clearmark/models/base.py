"""The contract of all networks, and the two pieces that they share.

A network maps marked pictures (B, 3, H, W) in [0, 1], of any H and W, to a ``Restoration`` of the
same H and W, and starts as the identity: untrained, it gives back what it was given.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Restoration(NamedTuple):
    """A network's answer to a marked batch.

    image: (B, 3, H, W), the restored picture, not clamped to [0, 1].
    mask_logits: (B, 1, H, W), above 0 where the network sees a mark; None if it predicts no mask.
    """

    image: Tensor
    mask_logits: Tensor | None = None

    @property
    def mask(self) -> Tensor | None:
        """The probability of a mark per pixel, (B, 1, H, W) in [0, 1], or None."""
        return None if self.mask_logits is None else torch.sigmoid(self.mask_logits)


class Correction(nn.Module):
    """The last layer: maps features to the correction that turns a marked picture into a clean one.

    Taking a mark of opacity a and colour W off a pixel I is ``J = I + g I + b`` with the gain
    ``g = a / (1 - a)`` and the offset ``b = -g W`` (the inverse formation model). Both are constant
    over a mark however rich the photo's texture is, so they are what this layer predicts, and the
    mask decides where they count:

        image = marked + mask * (gain * (marked - 1/2) + offset)

    Args:
        channels: channels of the features.
        scale: the features are that many times smaller than the picture.
        mask: predict a mask; without one the correction applies everywhere.
    """

    MAPS = 4

    def __init__(self, channels: int, scale: int, mask: bool) -> None:
        super().__init__()
        self.scale, self.has_mask = scale, mask
        self.maps = nn.Conv2d(channels, self.MAPS * scale**2, 1)
        nn.init.zeros_(self.maps.weight)
        nn.init.zeros_(self.maps.bias)
        if mask:
            self.mask = nn.Conv2d(channels, scale**2, 1)
            nn.init.constant_(self.mask.bias, -2.0)

    def forward(self, features: Tensor, marked: Tensor) -> Restoration:
        """Features (B, channels, H/scale, W/scale), rounded up, and marked (B, 3, H, W)."""
        height, width = marked.shape[-2:]
        maps = F.pixel_shuffle(self.maps(features), self.scale)[..., :height, :width]
        correction = maps[:, :1] * (marked - 0.5) + maps[:, 1:]
        if not self.has_mask:
            return Restoration(marked + correction)
        logits = F.pixel_shuffle(self.mask(features), self.scale)[..., :height, :width]
        return Restoration(marked + torch.sigmoid(logits) * correction, logits)


def grow(image: Tensor, multiple: int) -> Tensor:
    """Repeat the right and bottom rim until H and W are multiples of ``multiple``."""
    height, width = image.shape[-2:]
    down, right = -height % multiple, -width % multiple
    return F.pad(image, (0, right, 0, down), mode="replicate") if down or right else image
