"""What networks became of on the same budget: a table and a figure of a sweep, over its seeds.

``table.csv`` holds every figure with the ends of its 95 % interval, ``table.md`` the same to read,
``figure.png`` the gain along the way.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clearmark.sweeps import RESULTS

Run = Mapping[str, float]  # the content of results.json
LEVEL = 0.95

# Column -> heading, digits, value of a run.
COLUMNS: dict[str, tuple[str, int, Callable[[Run], float]]] = {
    "gain": ("gain (dB)", 2, lambda run: run["test/psnr_gain"]),
    "rmsew": ("RMSEw", 3, lambda run: run["test/rmsew"] / run["test/rmsew_input"]),
    "unmarked": ("unmarked (dB)", 1, lambda run: run["test/clean_psnr"]),
    "samples": ("samples", 0, lambda run: run["samples_seen"]),
    "seconds": ("seconds", 0, lambda run: run["training_seconds"]),
    "training_gmac": ("GMAC in training", 0, lambda run: run["training_gmac"]),
    "gmac": ("GMAC at 256x256", 2, lambda run: run["gmac"]),
    "parameters": ("parameters", 0, lambda run: run["parameters"]),
}
WITH_INTERVAL = ("gain", "rmsew", "unmarked")  # to read; the others hardly depend on the seed

# Column of metrics.csv -> label.
AXES = {
    "train/seconds": "seconds of training",
    "train/samples": "samples seen",
    "train/gmac": "GMAC in training",
}
VALIDATION = "val/psnr_gain"
NOTE = (
    "Test split, best checkpoint by validation; mean [95 % interval over seeds, t-distribution]. "
    "RMSEw is a share of doing nothing's; `unmarked` is the PSNR of what becomes of pictures "
    "without a mark. Seconds are of training steps, validation left out; GMAC in training are "
    "three times those of the forward passes."
)
ALONE = "A row of one seed has no interval."


class Mean(NamedTuple):
    """Over seeds; the ends of the interval are NaN for one seed, which has none."""

    mean: float
    low: float = math.nan
    high: float = math.nan


def mean(values: Sequence[float]) -> Mean:
    """Mean and 95 % interval of Student's t-distribution."""
    centre = float(np.mean(values))
    if len(values) < 2:
        return Mean(centre)
    from scipy.stats import t

    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = error * float(t.ppf((1 + LEVEL) / 2, len(values) - 1))
    return Mean(centre, centre - half, centre + half)


def write(runs: Mapping[str, Sequence[Path]], budget: str, folder: Path) -> str:
    """Write the table and the figure of finished runs into a folder; returns the table to read.

    Args:
        runs: the folders of each network's runs, one a seed.
        budget: of each run, for the title.
        folder: of the sweep.
    """
    found = {name: [_results(path) for path in paths] for name, paths in runs.items()}
    rows = {name: _row(of) for name, of in found.items()}
    rows = dict(sorted(rows.items(), key=lambda item: -item[1]["gain"].mean))
    seeds = {name: len(found[name]) for name in rows}
    with (folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        ends = [f"{column}{end}" for column in COLUMNS for end in ("", "_low", "_high")]
        table.writerow(["network", "seeds", *ends])
        for name, row in rows.items():
            values = [value for column in COLUMNS for value in row[column]]
            table.writerow([name, seeds[name], *("" if math.isnan(v) else v for v in values)])
    heads = ["network", "seeds", *(head for head, _, _ in COLUMNS.values())]
    lines = [heads, ["---"] * len(heads)]
    for name, row in rows.items():
        lines.append([name, str(seeds[name]), *(_cell(column, row[column]) for column in COLUMNS)])
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    alone = f" {ALONE}" * (1 in seeds.values())
    page = f"# Equal budget: {budget}\n\n{text}\n\n{NOTE}{alone}\n\n![gain](figure.png)\n"
    (folder / "table.md").write_text(page, encoding="utf-8")
    gains = {name: row["gain"] for name, row in rows.items()}
    _draw({name: [_curve(path) for path in runs[name]] for name in rows}, gains, budget, folder)
    return text


def _results(run: Path) -> Run:
    content: Run = json.loads((run / RESULTS).read_text(encoding="utf-8"))
    return content


def _row(of: Sequence[Run]) -> dict[str, Mean]:
    return {name: mean([value(run) for run in of]) for name, (_, _, value) in COLUMNS.items()}


def _cell(column: str, value: Mean) -> str:
    digits = COLUMNS[column][1]
    said = f"{value.mean:,.{digits}f}"
    if column not in WITH_INTERVAL or math.isnan(value.low):
        return said
    return f"{said} [{value.low:,.{digits}f}, {value.high:,.{digits}f}]"


def _curve(run: Path) -> np.ndarray:
    """A row for each validation (V, 4): what was spent, in the order of ``AXES``, and the gain."""
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get(VALIDATION)]
    return np.array([[float(row[name]) for name in (*AXES, VALIDATION)] for row in rows])


def _together(curves: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the curves of several seeds (V, 4), and the interval of the gain (V, 2).

    The n-th validations of all belong together; where a run has fewer, the others are thinned.
    """
    length = min(map(len, curves))
    places = np.linspace(0, 1, length)
    same = [
        np.stack([np.interp(places, np.linspace(0, 1, len(c)), column) for column in c.T], axis=1)
        for c in curves
    ]
    ends = [mean([curve[at, -1] for curve in same])[1:] for at in range(length)]
    return np.mean(same, axis=0), np.array(ends)


def _draw(
    curves: Mapping[str, Sequence[np.ndarray]],
    gains: Mapping[str, Mean],
    budget: str,
    folder: Path,
) -> None:
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(12, 4.4), layout="constrained")
    axes = figure.subplots(1, len(AXES), sharey=True)
    for number, (name, of) in enumerate(curves.items()):
        middle, ends = _together(of)
        gain, colour = gains[name], f"C{number}"
        bar = None if math.isnan(gain.low) else [[gain.mean - gain.low], [gain.high - gain.mean]]
        for column, axis in enumerate(axes):
            spent = middle[:, column]
            axis.plot(spent, middle[:, -1], "-", marker=".", color=colour, label=name)
            axis.fill_between(spent, *ends.T, color=colour, alpha=0.15, linewidth=0)
            axis.errorbar(spent[-1], gain.mean, bar, fmt="D", color=colour, capsize=4, mec="black")
    for axis, label in zip(axes, AXES.values(), strict=True):
        axis.set_xlabel(label)
        axis.set_xlim(left=0)
        axis.xaxis.set_major_formatter(EngFormatter(sep=" "))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("PSNR gain (dB)")
    axes[0].legend(loc="best")
    seeds = sorted({len(of) for of in curves.values()})
    over = f"{'-'.join(map(str, seeds))} seeds, 95 % interval" if seeds != [1] else "one seed"
    figure.suptitle(f"Budget {budget} each: lines on validation, diamonds on test ({over})")
    figure.savefig(folder / "figure.png", dpi=110)
