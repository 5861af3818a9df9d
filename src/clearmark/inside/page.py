"""Findings on one page, and each part of it on an axis of its own, as notebooks want it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from clearmark import disk
from clearmark.inside.attribution import Deletion
from clearmark.inside.field import SHARE, Field
from clearmark.inside.findings import Findings
from clearmark.inside.layers import Activation, mosaic

COLUMNS = 6
STAGES = 2 * COLUMNS
"""Stages of a network that are shown at most."""

Draw = Callable[[Axes], None]


def picture(axis: Axes, pixels: np.ndarray, title: str, **how: Any) -> None:
    """A picture (H, W, 3) or a map (H, W), both in [0, 1] unless ``how`` says otherwise."""
    if pixels.ndim == 2:
        how = {"cmap": "gray", "vmin": 0, "vmax": 1} | how
    axis.imshow(pixels.clip(0, 1) if pixels.ndim == 3 else pixels, interpolation="nearest", **how)
    axis.set_title(title, fontsize=9)
    axis.set_axis_off()


def attribution(axis: Axes, values: np.ndarray, marked: np.ndarray, title: str) -> None:
    """An attribution (S, S) over the picture in grey: red speaks for the answer, blue against."""
    most = max(float(np.quantile(np.abs(values), 0.995)), float(np.finfo(np.float32).tiny))
    strength = (np.abs(values) / most).clip(0, 1)[..., None] ** 0.7
    sign = np.where(values[..., None] > 0, (0.85, 0.05, 0.1), (0.05, 0.2, 0.85))
    ground = 0.55 + 0.45 * marked.mean(2, keepdims=True)
    picture(axis, ground * (1 - strength) + sign * strength, title)


def colour(axis: Axes, values: np.ndarray, seen: np.ndarray, title: str) -> None:
    """The colour (S, S, 3) of a mark where it is seen, on a chequered ground."""
    rows, columns = np.indices(seen.shape) // 8
    ground = np.where((rows + columns) % 2, 0.55, 0.7)[..., None]
    picture(axis, np.where(seen[..., None], values, ground), title)


def filters(axis: Axes, found: Tensor) -> None:
    """The first layer's filters (N, 3, k, k), each stretched to [0, 1]."""
    columns = int(np.ceil(np.sqrt(2 * len(found))))
    side = found.shape[-1]
    title = f"first layer: {len(found)} filters of {side}x{side} pixels"
    picture(axis, mosaic(found, columns), title)


def stage(axis: Axes, found: Activation) -> None:
    """The nine channels of a stage that vary most."""
    count = min(9, len(found.maps))
    columns = int(np.ceil(np.sqrt(count)))
    channels, height, width = found.maps.shape
    title = f"{found.name}: {channels} of {width}x{height}"
    picture(axis, mosaic(found.maps, columns, count), title, cmap="magma")


def field(axis: Axes, found: Field) -> None:
    """The gradient around an output pixel, as the logarithm, and the square that holds most."""
    radius, half = len(found.gradient) // 2, found.size / 2
    logs = np.log10(np.maximum(found.gradient / max(found.gradient.max(), 1e-30), 1e-6))
    span = (-radius - 0.5, radius + 0.5)
    axis.imshow(logs, cmap="magma", vmin=-3, extent=(*span, *span[::-1]), interpolation="nearest")
    box = np.array([-1, 1, 1, -1, -1]) * half, np.array([-1, -1, 1, 1, -1]) * half
    axis.plot(*box, color="white", linewidth=1)
    shown = min(radius, max(found.size, 8)) + 0.5
    axis.set(xlim=(-shown, shown), ylim=(shown, -shown))
    axis.set_yticks([])
    axis.tick_params(labelsize=7)
    axis.set_title(f"{SHARE:.0%} of a pixel's field: {found.size}x{found.size} pixels", fontsize=9)


def deleted(axis: Axes, found: Deletion) -> None:
    """How the answer changes with the share of the pixels that is deleted."""
    for name in ("named", "random", "least"):
        share = 100 * getattr(found, name) / max(found.all, 1e-12)
        axis.plot(100 * found.shares, share, marker=".", label=name)
    axis.axhline(100, color="grey", linestyle=":")
    axis.set_title("% of the answer lost with % of pixels", fontsize=9)
    axis.set_box_aspect(1)
    axis.yaxis.tick_right()
    axis.tick_params(labelsize=7)
    axis.legend(fontsize=7)


def sheet(found: Findings, title: str) -> Figure:
    """All of it on one page."""
    rows = [_found(found), _why(found), *_stages(found)]
    if found.truth:
        rows.insert(1, _true(found))
    high = 2.75 * len(rows)
    figure = Figure(figsize=(2.6 * COLUMNS, high + 0.4))
    figure.suptitle(title, fontsize=11, y=1 - 0.12 / high)
    margins = {"left": 0.02, "right": 0.99, "bottom": 0.02, "top": 1 - 0.65 / high}
    grid = figure.add_gridspec(len(rows), COLUMNS, wspace=0.12, hspace=0.2, **margins)
    for number, row in enumerate(rows):
        for column, (width, draw) in row.items():
            draw(figure.add_subplot(grid[number, column : column + width]))
    return figure


def write(figure: Figure, path: Path) -> None:
    """Write a page as PNG; it is whole or not there.

    Raises:
        OSError: it cannot be written.
    """
    with disk.whole(path) as beside:
        figure.savefig(beside, dpi=110, format="png")


Row = dict[int, tuple[int, Draw]]  # column -> width in columns, and what is drawn there


def _row(*draws: Draw | None) -> Row:
    return {column: (1, draw) for column, draw in enumerate(draws) if draw is not None}


def _shown(pixels: np.ndarray | None, title: str, **how: Any) -> Draw | None:
    return None if pixels is None else lambda axis: picture(axis, pixels, title, **how)


def _found(found: Findings) -> Row:
    def marked(axis: Axes) -> None:
        asked = found.question.pixel
        picture(axis, found.marked, "marked; + is asked about" if asked else "marked")
        if asked:
            axis.plot(asked[1], asked[0], "+", color="red", markersize=12, markeredgewidth=2)

    difference = (0.5 + 2 * (found.restored - found.marked)).clip(0, 1)
    return _row(
        marked,
        _shown(found.restored, "restored"),
        _shown(difference, "restored - marked, x2 around grey"),
        _shown(found.mask, "mask: probability of a mark"),
        _shown(found.opacity, "opacity of what was taken off"),
        lambda axis: colour(axis, found.colour, found.opacity > 0, "its one colour"),
    )


def _true(found: Findings) -> Row:
    truth, clean = found.truth, found.truth.get("clean")
    opacity, true = truth.get("opacity"), truth.get("colour")

    def true_colour(axis: Axes) -> None:
        if opacity is not None and true is not None:
            colour(axis, true, opacity > 0, "true colour")
        else:
            axis.set_axis_off()

    words = [f"{name}: {value:.3g}" for name, value in found.figures.items()]

    def figures(axis: Axes) -> None:
        axis.text(0, 0.95, "\n".join(["Against the truth", "", *words]), va="top", fontsize=10)
        axis.set_axis_off()

    error = None if clean is None else (4 * np.abs(found.restored - clean)).clip(0, 1)
    return _row(
        figures,
        _shown(clean, "clean"),
        _shown(error, "|restored - clean|, x4"),
        _shown(truth.get("mask"), "true mask"),
        _shown(opacity, "true opacity"),
        true_colour,
    )


def _why(found: Findings) -> Row:
    row = _row(
        lambda axis: attribution(axis, found.gradients, found.marked, "integrated gradients"),
        lambda axis: attribution(axis, found.occluded, found.marked, "occlusion"),
        lambda axis: deleted(axis, found.deleted),
        lambda axis: field(axis, found.field),
    )
    if found.filters is not None:
        kernels = found.filters
        row[4] = (2, lambda axis: filters(axis, kernels))
    return row


def _stages(found: Findings) -> list[Row]:
    count = min(STAGES, len(found.stages))
    chosen = [
        found.stages[i] for i in np.linspace(0, len(found.stages) - 1, count).round().astype(int)
    ]

    def drawn(one: Activation) -> Draw:
        return lambda axis: stage(axis, one)

    return [
        _row(*(drawn(one) for one in chosen[start : start + COLUMNS]))
        for start in range(0, count, COLUMNS)
    ]
