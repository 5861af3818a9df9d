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
    filled: (B, 3, H, W), the picture corrected at every pixel, whatever the mask says; None if it
        is the image itself.
    floor: probability of a mark up to which a pixel stays as it is.
    maps: (B, 4, H, W), the gain and the three offsets that undo the mark (see ``corrected``); None
        if the network predicts none. ``clearmark.inside.opacity_and_colour`` reads them.
    """

    image: Tensor
    mask_logits: Tensor | None = None
    filled: Tensor | None = None
    floor: float = 0.0
    maps: Tensor | None = None

    @property
    def mask(self) -> Tensor | None:
        """The probability of a mark per pixel, (B, 1, H, W) in [0, 1], or None."""
        return None if self.mask_logits is None else torch.sigmoid(self.mask_logits)


class SeesWhole(nn.Module):
    """A network that asks something of the picture as a whole.

    A picture that comes in tiles is surveyed first; what that gives, ``pooled`` over all tiles, is
    the overview that ``forward(marked, overview)`` then takes with each of them.

    multiple: side in pixels of what a place of the survey stands for.
    """

    multiple: int

    def survey(self, marked: Tensor) -> Tensor:
        """(B, C, H / multiple, W / multiple), rounded up, of (B, 3, H, W)."""
        raise NotImplementedError


def pooled(survey: Tensor) -> Tensor:
    """Mean and maximum over all places: (B, 2C, 1, 1) of (B, C, H, W)."""
    mean, peak = survey.mean((2, 3), keepdim=True), survey.amax((2, 3), keepdim=True)
    return torch.cat([mean, peak], 1)


MAPS = 4
"""What a network predicts per pixel to undo a mark: a gain, and an offset for each colour."""

PATCH = 8
"""Side in pixels of the patch that has to look marked before anything is changed."""


def corrected(marked: Tensor, maps: Tensor, mask_logits: Tensor | None) -> Restoration:
    """Undo a mark with the gain and offset that a network predicts.

    Taking a mark of opacity a and colour W off a pixel I is ``J = I + g I + b`` with the gain
    ``g = a / (1 - a)`` and the offset ``b = -g W`` (the inverse formation model). Both are constant
    over a mark however rich the photo's texture is, which makes them easy to predict:

        filled = marked + gain * (marked - 1/2) + offset

    Args:
        marked: (B, 3, H, W).
        maps: (B, 4, H, W), the gain and the three offsets; all 0 leave the picture as it is.
        mask_logits: (B, 1, H, W), or None to correct everywhere (see ``gated``).
    """
    correction = torch.addcmul(maps[:, 1:], maps[:, :1], marked - 0.5)
    return gated(marked, correction, mask_logits, maps=maps)


def gated(
    marked: Tensor,
    correction: Tensor,
    mask_logits: Tensor | None,
    floor: float = 0.0,
    maps: Tensor | None = None,
) -> Restoration:
    """Correct the picture where the mask says so.

        filled = marked + correction
        image = marked + sure^2 * mask^1.5 * correction

    ``sure`` is the mask's highest mean over a patch, one number a picture: the picture is touched
    where the network is sure of a mark, instead of a little everywhere (the exponents are of
    ``experiments/default_run``).

    Args:
        marked: (B, 3, H, W).
        correction: (B, 3, H, W), what is added to the picture.
        mask_logits: (B, 1, H, W), or None to correct everywhere.
        floor: probability of a mark up to which a pixel stays as it is, to the bit.
        maps: (B, 4, H, W), what the correction was made of, to be handed on.
    """
    filled = marked + correction
    if mask_logits is None:
        return Restoration(filled, maps=maps)
    mask = trusted(torch.sigmoid(mask_logits), floor)
    image = torch.addcmul(marked, sureness(mask).square() * strength(mask), correction)
    return Restoration(image, mask_logits, filled, floor, maps)


def trusted(mask: Tensor, floor: float) -> Tensor:
    """The mask of ``gated``: 0 up to the floor, and from there to 1 as before."""
    return F.relu(mask - floor) / (1 - floor) if floor else mask


def sureness(mask: Tensor) -> Tensor:
    """How sure a mask (B, 1, H, W) is of a mark: (B, 1, 1, 1), its highest mean over a patch."""
    patch = (min(PATCH, mask.shape[-2]), min(PATCH, mask.shape[-1]))
    return F.avg_pool2d(mask, patch).amax((2, 3), keepdim=True)


def strength(mask: Tensor) -> Tensor:
    """Which share of the correction a pixel gets if the picture is sure of a mark."""
    return mask.pow(1.5)


class Correction(nn.Module):
    """The last layer of a convolutional network: from features to ``corrected``.

    Args:
        channels: channels of the features.
        scale: the features are that many times smaller than the picture.
        mask: predict a mask.
    """

    def __init__(self, channels: int, scale: int, mask: bool) -> None:
        super().__init__()
        self.scale = scale
        self.maps = nn.Conv2d(channels, MAPS * scale**2, 1)
        nn.init.zeros_(self.maps.weight)
        nn.init.zeros_(self.maps.bias)  # type: ignore[arg-type]
        self.mask = nn.Conv2d(channels, scale**2, 1) if mask else None
        if self.mask is not None:
            nn.init.zeros_(self.mask.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor, marked: Tensor) -> Restoration:
        """Features (B, channels, H / scale, W / scale), rounded up, and marked (B, 3, H, W)."""
        height, width = marked.shape[-2:]

        def full(maps: Tensor) -> Tensor:
            return F.pixel_shuffle(maps, self.scale)[..., :height, :width]

        logits = None if self.mask is None else full(self.mask(features))
        return corrected(marked, full(self.maps(features)), logits)


def grow(image: Tensor, multiple: int) -> Tensor:
    """Repeat the right and bottom rim until H and W are multiples of ``multiple``."""
    height, width = image.shape[-2:]
    down, right = -height % multiple, -width % multiple
    if torch.compiler.is_exporting() or down or right:  # a graph is for pictures of all sizes
        return F.pad(image, (0, right, 0, down), mode="replicate")
    return image
