"""The mark that a network believes in: its opacity and colour by the formation model."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from clearmark.formation import OPAQUE

SHADES = 9
"""Values of each colour that are tried at a time."""

PIXELS = 1500
"""Of the mark, that a colour is tried on at most."""


def opacity_and_colour(maps: Tensor) -> tuple[Tensor, Tensor]:
    """The opacity a and the colour W of the mark that a gain and offsets undo.

    With ``J = I + g (I - 1/2) + o`` (``models.base.corrected``) and ``J = (I - a W) / (1 - a)``
    (``formation.invert``), the gain is ``g = a / (1 - a)`` and the offset ``o = g (1/2 - W)``, so

        a = g / (1 + g)        W = 1/2 - o / g

    No mark has a gain below 0. Trained networks have them all the same: they flatten what they do
    not trust and let the offset, free at every pixel, do the rest. ``fitted_mark`` reads those.

    Args:
        maps: (B, 4, H, W), gain and three offsets, as ``Restoration.maps``.

    Returns:
        Opacity (B, 1, H, W) in [0, 1), 0 where the gain is not positive; and colour (B, 3, H, W) in
        [0, 1], of no meaning where the opacity is 0.
    """
    gain = maps[:, :1].clamp_min(0)
    colour = 0.5 - maps[:, 1:] / gain.clamp_min(torch.finfo(maps.dtype).tiny)
    return gain / (1 + gain), colour.clamp(0, 1)


def fitted_mark(
    marked: np.ndarray, restored: np.ndarray, where: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The mark of one colour that best explains what a network, of any kind, took off.

    By ``I - J = a (W - J)`` all pixels of a mark were drawn towards the same colour W, each by its
    own opacity a: W is the colour that leaves the smallest squared rest of I - J, searched on a
    grid and then on a finer one around the best; a is I - J along W - J. A mark of several colours
    gets one of them, or one between.

    Args:
        marked: (H, W, 3) in [0, 1].
        restored: the same.
        where: (H, W), true where the mark is.

    Returns:
        Opacity (H, W), in [0, ``OPAQUE``] and 0 outside the mask, and the colour (3,) in [0, 1];
        white if the mask is empty.
    """
    opacity = np.zeros(where.shape, np.float32)
    if not where.any():
        return opacity, np.ones(3)
    drawn, towards = (marked - restored)[where].astype(float), restored[where].astype(float)
    some = np.random.default_rng(0).permutation(len(drawn))[:PIXELS]
    colour = np.full(3, 0.5)
    for width in (0.5, 0.5 / (SHADES - 1)):
        steps = np.linspace(-width, width, SHADES)
        tried = colour + np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 1, 3)
        tried = tried.clip(0, 1)
        rests = [_rest(drawn[some], one - towards[some]) for one in tried]
        colour = tried[int(np.argmin(rests)), 0]
    opacity[where] = _along(drawn, colour - towards)
    return opacity, colour


def _along(drawn: np.ndarray, away: np.ndarray) -> np.ndarray:
    """Opacity (N,) of pixels that were drawn (N, 3) towards a colour that lies away (N, 3)."""
    share = (drawn * away).sum(-1) / np.maximum((away * away).sum(-1), 1e-6)
    return share.clip(0, OPAQUE)


def _rest(drawn: np.ndarray, away: np.ndarray) -> float:
    return float(np.square(drawn - _along(drawn, away)[:, None] * away).sum())
