"""The formation model: how a mark gets into a picture, and how it comes out again.

Per pixel, with the clean picture J, the mark's colour W and its opacity a, all in [0, 1]:

    I = (1 - a) * J + a * W          blend
    J = (I - a * W) / (1 - a)        invert, where a < 1

Pictures hold sRGB values and most programs blend those; some blend the light that they stand for
(``blend_linear``, ``invert_linear``). The opacity is then a share of light, and the colour stays
an sRGB value.

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


def to_linear(srgb: Array) -> Array:
    """The light in [0, 1] that an sRGB value in [0, 1] stands for (IEC 61966-2-1)."""
    dark = srgb <= 0.04045
    return dark * srgb / 12.92 + ~dark * ((srgb.clip(0.04045, 1) + 0.055) / 1.055) ** 2.4


def to_srgb(light: Array) -> Array:
    """The sRGB value of light, both in [0, 1]: the inverse of ``to_linear``."""
    dark = light <= 0.0031308
    return dark * light * 12.92 + ~dark * (1.055 * light.clip(0.0031308, 1) ** (1 / 2.4) - 0.055)


def blend_linear(clean: Array, opacity: Array, colour: Array) -> Array:
    """Put a mark on a picture in linear light: ``blend`` of the light that the values stand for."""
    return to_srgb(blend(to_linear(clean), opacity, to_linear(colour)))


def invert_linear(marked: Array, opacity: Array, colour: Array) -> Array:
    """Take a known mark off again that was blended in linear light (see ``invert``).

    Where rounding of I leaves less light than none, or more than all, J is black or white.
    """
    return to_srgb(invert(to_linear(marked), opacity, to_linear(colour)).clip(0, 1))


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
