"""Validation figures of runs that went on with each other's weights, as one curve.

python experiments/release/curve.py outputs/FIRST outputs/SECOND

Writes curve.csv and curve.png beside this file, and prints the slope at the end.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
SPENT = ("train/samples", "train/seconds", "train/gmac")
FIGURES = ("val/psnr_gain", "val/rmsew", "val/rmsew_input", "val/mask_iou", "val/clean_psnr")


def curve(folders: list[Path]) -> list[dict[str, float]]:
    """A row for each validation; what was spent goes on where the run before ended."""
    rows: list[dict[str, float]] = []
    for number, folder in enumerate(folders):
        before = rows[-1] if rows else dict.fromkeys(SPENT, 0.0)
        with (folder / "metrics.csv").open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["val/psnr_gain"]:
                    spent = {name: before[name] + float(row[name]) for name in SPENT}
                    found = {name: float(row[name]) for name in FIGURES}
                    rows.append({"stage": number + 1, **spent, **found})
    return rows


def slope(rows: list[dict[str, float]]) -> float:
    """Decibels that a doubling of the samples brings, by the second half of the first stage."""
    first = [row for row in rows if row["stage"] == 1]
    half = first[len(first) // 2 :]
    x = np.log2([row["train/samples"] for row in half])
    return float(np.polyfit(x, [row["val/psnr_gain"] for row in half], 1)[0])


def main() -> None:
    """Write the curve and its figure."""
    rows = curve([Path(name) for name in sys.argv[1:]])
    with (HERE / "curve.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({k: round(v, 4) for k, v in row.items()} for row in rows)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for stage in sorted({row["stage"] for row in rows}):
        own = [row for row in rows if row["stage"] == stage]
        x = [row["train/samples"] / 1000 for row in own]
        left.plot(x, [row["val/psnr_gain"] for row in own], ".-", label=f"stage {stage:.0f}")
        right.plot(x, [row["val/mask_iou"] for row in own], ".-", label=f"stage {stage:.0f}")
    left.set_ylabel("gain on validation (dB)")
    right.set_ylabel("mask IoU on validation")
    for axes in (left, right):
        axes.set_xlabel("thousand samples seen")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(HERE / "curve.png", dpi=110)
    print(f"{slope(rows):+.2f} dB for twice the samples, at the end of the first stage")


if __name__ == "__main__":
    main()
