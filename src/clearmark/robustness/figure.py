"""One figure: how often the mark is found and how much of it remains, and a photo to look at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from clearmark.robustness.measure import NOTHING

STYLES = ("-", "--", ":", "-.")
PANELS = {"found": "photos in which it is found (%)", "psnr_mark": "PSNR in the mark (dB)"}


def draw(
    means: pd.DataFrame, share: float, pictures: Mapping[str, np.ndarray], title: str, path: Path
) -> None:
    """Write the figure as a picture.

    Args:
        means: of ``measure.summary``.
        share: of photos from which on a setting holds, a line in the upper row.
        pictures: one photo, under the names to be written above.
        title: of the whole.
        path: of the picture.
    """
    places = list(means["place"].unique())
    wide = max(2 * len(places), len(pictures)) / 2
    figure = Figure(figsize=(3.6 * wide + 0.6, 10), layout="constrained")
    figure.suptitle(title, parse_math=False)
    parts: Any = figure.subfigures(2, 1, height_ratios=[2.2, 1])
    upper, lower = parts
    axes = upper.subplots(2, len(places), sharex=True, sharey="row", squeeze=False)
    for row, column in zip(axes, PANELS, strict=True):
        for axis, place in zip(row, places, strict=True):
            _curves(axis, means[means["place"] == place], column)
        row[0].set_ylabel(PANELS[column])
    for axis, place in zip(axes[0], places, strict=True):
        axis.set_title(place)
        axis.axhline(100 * share, color="black", linewidth=0.8)
        axis.set_ylim(-3, 103)
    for axis in axes[1]:
        axis.set_xlabel("opacity")
    colours = {name: f"C{i}" for i, name in enumerate(means["remover"].unique())}
    keys = [
        Line2D([], [], color=colour, label=f"after {n}" if n != NOTHING else "marked")
        for n, colour in colours.items()
    ]
    upper.legend(handles=keys, loc="outside upper center", ncols=len(keys))
    for axis, (name, picture) in zip(
        np.atleast_1d(lower.subplots(1, len(pictures))), pictures.items(), strict=True
    ):
        axis.imshow(picture)
        axis.set_title(name, fontsize=10)
        axis.set_axis_off()
    figure.savefig(path, dpi=110)


def _curves(axis: Axes, means: pd.DataFrame, column: str) -> None:
    """A line for each remover (colour) and drawing of the mark (style)."""
    times = 100 if column == "found" else 1
    removers = list(means["remover"].unique())
    drawings = list(means.groupby(["size", "spacing"], sort=True))
    for style, ((size, gap), part) in zip(STYLES * len(drawings), drawings, strict=False):
        for name, line in part.groupby("remover", sort=False):
            colour = f"C{removers.index(name)}"
            axis.plot(line["opacity"], times * line[column], style, color=colour, marker=".")
        label = f"size {size:g}" + f", gap {gap:g}" * bool(gap)
        axis.plot([], [], style, color="grey", label=label)
    if column == "found":
        axis.legend(loc="lower right", fontsize=8)
    axis.grid(alpha=0.3)
