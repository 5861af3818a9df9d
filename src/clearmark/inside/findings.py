"""Everything that is to be seen inside a network at one picture, gathered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from clearmark.data.marked import Sample, as_tensors
from clearmark.errors import UserError
from clearmark.formation import VISIBLE
from clearmark.inside.attribution import (
    Deletion,
    Question,
    background,
    deletion,
    integrated_gradients,
    occlusion,
    question,
)
from clearmark.inside.field import Field, decision, receptive_field
from clearmark.inside.layers import Activation, activations, first_filters
from clearmark.inside.mark import fitted_mark, opacity_and_colour
from clearmark.metrics import per_image
from clearmark.models.base import Restoration

SMALLEST = 32
"""Pixels a side that a picture must have at least."""

AROUND = 320
"""Side in pixels to which a picture is mirrored to measure how far the network looks."""

CELL = 16
"""A window begins at a multiple of it, so that cells and pooling fall as in the whole picture."""


class Window(NamedTuple):
    """A square of a picture: its first row and column, and its side."""

    top: int
    left: int
    side: int

    def of(self, pixels: np.ndarray) -> np.ndarray:
        """The part of (H, W, ...) that lies in it."""
        return pixels[self.top : self.top + self.side, self.left : self.left + self.side]


def window(
    changed: np.ndarray, side: int, pixel: tuple[int, int] | None = None, name: str = "input"
) -> Window:
    """The square of a picture where most is changed, or that has a pixel in its middle.

    Args:
        changed: (H, W), how much the network changes each pixel, or anything of that shape if a
            pixel is given.
        side: in pixels; a smaller picture gives a smaller window.
        pixel: row and column.
        name: what the user calls the picture, for errors.

    Raises:
        UserError: the picture is too small, or the pixel lies outside.
    """
    height, width = changed.shape
    if min(changed.shape) < SMALLEST:
        raise UserError(
            f"{name} has {width}x{height} pixels, too few to see anything; "
            f"give at least {SMALLEST}x{SMALLEST}"
        )
    side = min(side, height, width)
    tops, lefts = (np.r_[: extent - side : CELL, extent - side] for extent in changed.shape)
    if pixel is None:
        sums = cv2.integral(changed.astype(np.float64))
        rim = side // 4  # what lies in the middle counts twice, or marks would lie at the rim
        score = _sums(sums, tops, lefts, side) + _sums(
            sums, tops + rim, lefts + rim, side - 2 * rim
        )
        row, column = np.unravel_index(int(score.argmax()), score.shape)
    else:
        if not all(0 <= at < extent for at, extent in zip(pixel, changed.shape, strict=True)):
            raise UserError(
                f"pixel=[{pixel[1]},{pixel[0]}] lies outside {name}, which has {width}x{height} "
                "pixels"
            )
        row, column = (
            np.abs(starts + side // 2 - at).argmin()
            for starts, at in zip((tops, lefts), pixel, strict=True)
        )
    return Window(int(tops[row]), int(lefts[column]), side)


def _sums(integral: np.ndarray, tops: np.ndarray, lefts: np.ndarray, side: int) -> np.ndarray:
    """The sums over the squares that begin in these rows and columns."""
    above, below = integral[tops], integral[tops + side]
    sums: np.ndarray = (below - above)[:, lefts + side] - (below - above)[:, lefts]
    return sums


@dataclass
class Findings:
    """What is seen inside a network at a square picture of S x S pixels.

    Pictures are (S, S, 3) and maps (S, S), float32; values lie in [0, 1] but for attributions.

    Args:
        marked, restored: the picture, and what the network makes of it.
        mask: the probability of a mark, or None.
        opacity, colour: of the mark that the network took off, by ``fitted_mark``; the
            opacity is 0 where it saw none.
        truth: clean, mask, opacity and colour, as far as they are known.
        filters, stages, field: see ``layers`` and ``field``.
        question: what is asked of the network; and how the answer comes about:
        gradients, occluded: attributions.
        deleted: the check of ``gradients``.
        figures: how far the network is right, as far as the truth is known.
    """

    marked: np.ndarray
    restored: np.ndarray
    mask: np.ndarray | None
    opacity: np.ndarray
    colour: np.ndarray
    filters: Tensor | None
    stages: list[Activation]
    field: Field
    question: Question
    gradients: np.ndarray
    occluded: np.ndarray
    deleted: Deletion
    truth: dict[str, np.ndarray]
    figures: dict[str, float]


def look(
    network: nn.Module,
    sample: Sample,
    of: str = "pixel",
    pixel: tuple[int, int] | None = None,
    steps: int = 64,
    patch: int = 16,
) -> Findings:
    """Look inside a network as it restores a picture.

    Args:
        network: in evaluation mode, on any device.
        sample: uint8 arrays: ``marked`` (S, S, 3), and what is known of clean, mask, opacity and
            colour.
        of: what to ask, see ``question``.
        pixel: row and column of what is asked about, see ``question``.
        steps: of ``integrated_gradients``.
        patch: of ``occlusion``.

    Raises:
        UserError: the question makes no sense, or Captum is not installed.
    """
    weight = next(network.parameters())
    one = {key: torch.from_numpy(values.copy())[None] for key, values in sample.items()}
    known = "opacity" in one or "mask" in one
    batch = as_tensors(one if known else one | {"mask": one["marked"][..., 0]}, weight.dtype)
    batch = {key: values.to(weight.device).contiguous() for key, values in batch.items()}
    marked = batch["marked"]
    with torch.no_grad():
        restored: Restoration = network(marked)
    asked = question(network, marked, of, pixel)
    away = background(marked)
    gradients = integrated_gradients(asked.answer, marked, away, steps)
    opacity, colour = _taken_off(marked, restored)
    names = ("clean", "mask", "opacity", "colour")
    truth: dict[str, np.ndarray] = {k: _array(batch[k]) for k in names if k in one}
    if known:
        truth["mask"] = _array(batch["mask"])
    return Findings(
        marked=_array(marked),
        restored=_array(restored.image.clamp(0, 1)),
        mask=None if restored.mask is None else _array(restored.mask),
        opacity=opacity,
        colour=colour,
        filters=_filters(network),
        stages=activations(network, marked),
        field=receptive_field(decision(network), _mirrored(marked)),
        question=asked,
        gradients=gradients.float().cpu().numpy(),
        occluded=occlusion(asked.answer, marked, away, patch).float().cpu().numpy(),
        deleted=deletion(asked.answer, marked, away, gradients),
        truth=truth,
        figures=_figures(restored, batch, opacity, colour) if "clean" in one and known else {},
    )


def _mirrored(marked: Tensor) -> Tensor:
    """(1, 3, S, S) with its mirror images around it."""
    rim = max(0, AROUND - marked.shape[-1]) // 2
    grown = np.pad(marked.cpu().numpy(), ((0, 0), (0, 0), (rim, rim), (rim, rim)), "symmetric")
    return torch.from_numpy(grown).to(marked)


def _taken_off(marked: Tensor, restored: Restoration) -> tuple[np.ndarray, np.ndarray]:
    """Opacity (S, S) and colour (S, S, 3) of the mark, where the network sees one."""
    image = _array(restored.image.clamp(0, 1))
    where = np.abs(image - _array(marked)).max(2) > VISIBLE
    if restored.mask is not None:
        where &= _array(restored.mask) > 0.5
    opacity, colour = fitted_mark(_array(marked), image, where)
    return opacity, np.broadcast_to(colour.astype(np.float32), image.shape)


def _figures(
    restored: Restoration, batch: dict[str, Tensor], opacity: np.ndarray, colour: np.ndarray
) -> dict[str, float]:
    """How right the network is; errors are mean absolute ones over the part of the mark it saw."""
    found = per_image(restored, batch)
    names = {
        "psnr_input": "PSNR of marked",
        "psnr": "PSNR of restored",
        "mask_f1": "F1 of the mask",
    }
    figures = {said: float(found[name]) for name, said in names.items() if name in found}
    if not {"opacity", "colour"} <= batch.keys():
        return figures
    true = _array(batch["opacity"])
    both = (true > VISIBLE) & (opacity > 0)
    if not both.any():
        return figures
    figures["error of the opacity"] = float(np.abs(opacity - true)[both].mean())
    figures["error of the colour"] = float(np.abs(colour - _array(batch["colour"]))[both].mean())
    if restored.maps is not None:
        figures["true opacity"] = float(true[both].mean())
        implied = _array(opacity_and_colour(restored.maps)[0])
        figures["opacity of its gains"] = float(implied[both].mean())
    return figures


def _filters(network: nn.Module) -> Tensor | None:
    try:
        return first_filters(network)
    except UserError:
        return None


def _array(values: Tensor) -> np.ndarray:
    """(S, S, 3) or (S, S) of (1, C, S, S)."""
    picture: np.ndarray = values[0].detach().float().permute(1, 2, 0).cpu().numpy()
    return picture[..., 0] if picture.shape[2] == 1 else picture
