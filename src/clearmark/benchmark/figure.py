"""One sheet of examples: the first small picture of each family, marked, restored and clean."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from clearmark.benchmark.frozen import MarkBench
from clearmark.benchmark.removers import Remover

BLOCKS = 2
"""Families beside each other."""

GAP = 0.1
"""Width of the gap between them, in pictures."""

COLUMNS = ("marked", "restored", "clean")


def examples(
    bench: MarkBench, remover: Remover, rows: pd.DataFrame, title: str, path: Path
) -> None:
    """Write the sheet as a picture; ``rows`` are those of ``measure``."""
    firsts = rows.drop_duplicates("family")
    high = math.ceil(len(firsts) / BLOCKS)
    widths = ([1.0] * len(COLUMNS) + [GAP]) * BLOCKS
    size = 2.1 * sum(widths), 2.3 * high + 0.4
    figure = Figure(figsize=size)
    figure.suptitle(title, y=1 - 0.1 / size[1])
    # Fixed margins: a layout engine would draw everything twice.
    rim = {"left": 0.005, "right": 0.995, "bottom": 0.005, "top": 1 - 0.55 / size[1]}
    grid = rim | {"wspace": 0.03, "hspace": 0.12, "width_ratios": widths}
    axes = figure.subplots(high, len(widths), squeeze=False, gridspec_kw=grid)
    for axis in axes.flat:
        axis.set_axis_off()
    for place, (index, row) in enumerate(firsts.iterrows()):
        sample = bench[int(str(index))]
        pictures = (sample.marked, remover(sample)[0], sample.clean)
        block = axes[place % high][place // high * (len(COLUMNS) + 1) :]
        said = (row["family"].replace("_", " "), f"{row['psnr']:.1f} dB", "clean")
        if row["area"] > 0:
            said = (f"{said[0]}, {row['psnr_input']:.1f} dB", *said[1:])
        for axis, picture, words in zip(block, pictures, said, strict=False):
            axis.imshow(picture)
            axis.set_title(words, fontsize=9)
    figure.savefig(path, dpi=110)
