"""The formation model: how a mark gets into a picture, and how it comes out again.

Per pixel, with the clean picture J, the mark's colour W and its opacity a, all in [0, 1]:

    I = (1 - a) * J + a * W          blend
    J = (I - a * W) / (1 - a)        invert, where a < 1

Everything here is a pure function of numpy arrays or of torch tensors alike: shapes only have to
broadcast, as (H, W, 1) opacity with (H, W, 3) colour, or (B, 1, H, W) with (B, 3, H, W).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Array = TypeVar("Array", "np.ndarray", "Tensor")

OPAQUE = 0.98
"""Opacity from which on the clean value is lost to 8-bit rounding (an error of 1/510 grows 50x)."""

VISIBLE = 1 / 255
"""Opacity above which a pixel belongs to the mask, as in the ILAW and PRWD sets."""


def blend(clean: Array, opacity: Array, colour: Array) -> Array:
    """Put a mark on a picture: ``I = (1 - a) J + a W``, everything in [0, 1]."""
    return clean + opacity * (colour - clean)


def invert(marked: Array, opacity: Array, colour: Array) -> Array:
    """Take a known mark off again: ``J = (I - a W) / (1 - a)``.

    Exact up to rounding where ``opacity < OPAQUE``; beyond it the division is held at the value for
    ``OPAQUE``, because nothing of J is left to recover there.
    """
    kept = 1 - opacity.clip(0, OPAQUE)
    return marked + (1 - kept) / kept * (marked - colour)


def over(
    opacity: Array, colour: Array, below_opacity: Array, below_colour: Array
) -> tuple[Array, Array]:
    """One mark equal to two laid over each other (the Porter-Duff "over" operator).

    Returns:
        The opacity ``a + (1 - a) b`` and the colour that make ``blend`` give what blending the
        lower mark and then the upper one gives. Where neither is visible the colour is the upper's.
    """
    rest = (1 - opacity) * below_opacity
    total = opacity + rest
    share = rest / (total + (total == 0))
    return total, colour + share * (below_colour - colour)


def visible(opacity: Array) -> Array:
    """The mask that belongs to an opacity map: true where ``opacity > 1/255``."""
    return opacity > VISIBLE + 1e-6
