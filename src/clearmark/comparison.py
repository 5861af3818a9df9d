"""What became of runs on the same budget: a table and a figure of a sweep, over its seeds.

The table is made of the sweep's ``sweep.csv`` alone, so a study that keeps that file can make it
again; the figure needs the runs' folders as well, for the way to the end.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pandas

Run = Mapping[str, float]  # figures of results.json
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


def differing(table: pandas.DataFrame) -> list[str]:
    """What the command lines of ``runs.load`` set differently, so that it tells runs apart."""
    return [key for key in table.attrs["commands"] if table[key].astype(str).nunique() > 1]


def over_seeds(table: pandas.DataFrame, figures: Sequence[str]) -> pandas.DataFrame:
    """Runs of ``runs.load`` that differ in their seed alone, as one row with 95 % intervals.

    Returns a row for each, in the order of the first run: ``seeds``, and for each figure its mean
    and the ends of the interval, ``FIGURE_low`` and ``FIGURE_high``. The index is what was set.
    """
    import pandas

    keys = [key for key in differing(table) if key != "seed"]
    names = [setting(row, keys) for _, row in table.iterrows()]
    rows = {}
    for name, group in table.groupby(np.array(names, dtype=object), sort=False):
        means = {figure: mean(group[figure].astype(float).to_list()) for figure in figures}
        ends = {
            f"{figure}{end}": value
            for figure, found in means.items()
            for end, value in zip(("", "_low", "_high"), found, strict=True)
        }
        rows[name] = {"seeds": len(group)} | ends
    return pandas.DataFrame.from_dict(rows, orient="index")


def setting(run: pandas.Series, keys: Sequence[str]) -> str:
    """What a run set of these keys, as it is typed."""
    return " ".join(f"{key}={run[key]}" for key in keys if run.notna()[key]) or "default"


class Sweep(NamedTuple):
    """What was chosen (the swept keys without the seed), and the finished jobs of each choice."""

    choice: str
    jobs: dict[str, list[str]]
    runs: dict[str, list[Run]]


def read(path: Path) -> Sweep:
    """A sweep's ``sweep.csv``, best choice first by the mean gain; failed jobs are left out."""
    with path.open(newline="", encoding="utf-8") as file:
        table = csv.DictReader(file)
        columns = list(table.fieldnames or [])
        rows = [row for row in table if not row["failed"]]
    keys = [key for key in columns[1 : columns.index("minutes")] if key != "seed"]
    figures = columns[columns.index("failed") + 1 :]
    jobs: dict[str, list[str]] = {}
    runs: dict[str, list[Run]] = {}
    for row in rows:
        name = ", ".join(row[key] or "default" for key in keys) or "as typed"
        jobs.setdefault(name, []).append(row["job"])
        runs.setdefault(name, []).append({key: float(row[key]) for key in figures if row[key]})
    gain = COLUMNS["gain"][2]
    best = sorted(runs, key=lambda name: -float(np.mean([gain(run) for run in runs[name]])))
    return Sweep(", ".join(keys) or "run", {n: jobs[n] for n in best}, {n: runs[n] for n in best})


def table(sweep: Sweep) -> str:
    """The figures of each choice as Markdown, best first: means, and intervals over seeds."""
    heads = [sweep.choice, "seeds", *(head for head, _, _ in COLUMNS.values())]
    lines = [heads, ["---"] * len(heads)]
    for name, runs in sweep.runs.items():
        row = _row(runs)
        lines.append([name, str(len(runs)), *(_cell(column, row[column]) for column in COLUMNS)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def write(path: Path, budget: str) -> str:
    """Write a finished sweep's table and figure beside its ``sweep.csv``; returns the table.

    Args:
        path: the ``sweep.csv``.
        budget: of each run, for the title.
    """
    sweep, folder = read(path), path.parent
    alone = f" {ALONE}" * (1 in map(len, sweep.jobs.values()))
    text = table(sweep)
    page = f"# Equal budget: {budget}\n\n{text}\n\n{NOTE}{alone}\n\n![gain](figure.png)\n"
    (folder / "table.md").write_text(page, encoding="utf-8")
    gains = {name: _row(runs)["gain"] for name, runs in sweep.runs.items()}
    curves = {name: [_curve(folder / job) for job in jobs] for name, jobs in sweep.jobs.items()}
    _draw(curves, gains, budget, folder)
    return text


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
    shown: list[float] = []
    for number, (name, of) in enumerate(curves.items()):
        middle, ends = _together(of)
        gain, colour = gains[name], f"C{number}"
        bar = None if math.isnan(gain.low) else [[gain.mean - gain.low], [gain.high - gain.mean]]
        for column, axis in enumerate(axes):
            spent = middle[:, column]
            axis.plot(spent, middle[:, -1], "-", marker=".", color=colour, label=name)
            axis.fill_between(spent, *ends.T, color=colour, alpha=0.15, linewidth=0)
            axis.errorbar(spent[-1], gain.mean, bar, fmt="D", color=colour, capsize=4, mec="black")
        shown += [*middle[:, -1], *gain]
    low, high = np.nanmin(shown), np.nanmax(shown)
    margin = 0.05 * (high - low) or 1.0
    axes[0].set_ylim(low - margin, high + margin)  # the interval of an early dip may leave it
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
