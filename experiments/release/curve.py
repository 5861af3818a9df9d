"""Validation figures of runs that went on with each other's weights, as one curve.

python experiments/release/curve.py --after 2 outputs/release/third outputs/release/fourth

Writes curve.csv and curve.png beside this file, and prints what the last doubling brought.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from omegaconf import OmegaConf

from clearmark.callbacks import Pace

mpl.use("Agg")
import matplotlib.pyplot as plt

CSV = Path(__file__).parent / "curve.csv"
SPENT = ("train/samples", "train/seconds", "train/gmac")
FIGURES = ("val/psnr_gain", "val/rmsew", "val/rmsew_input", "val/mask_iou", "val/clean_psnr")
Rows = list[dict[str, float]]


def validations(file: Path) -> Rows:
    """The rows of a CSV that have a validation's figures."""
    names = ("stage", *SPENT, *FIGURES)
    with file.open(encoding="utf-8") as opened:
        rows = [row for row in csv.DictReader(opened) if row["val/psnr_gain"]]
    return [{name: float(row[name]) for name in names if name in row} for row in rows]


def went_on(rows: Rows, folders: list[Path]) -> Rows:
    """With the validations of further runs; each began with the best weights of the one before.

    One whose ``init`` is a last.ckpt began where that run was stopped, after its last validation.
    """
    base = dict.fromkeys(SPENT, 0.0)
    for at, folder in enumerate(folders):
        stage = rows[-1]["stage"] if rows else 0.0
        init = OmegaConf.load(folder / "config.yaml").init
        if at and Path(str(init)).name == "last.ckpt":
            base = {name: base[name] + value for name, value in stopped_at(Path(init)).items()}
        elif rows:
            own = [row for row in rows if row["stage"] == stage]
            base = max(own, key=lambda row: row["val/psnr_gain"])
        for row in validations(folder / "metrics.csv"):
            spent = {name: base[name] + row[name] for name in SPENT}
            rows = [*rows, {"stage": stage + 1, **row, **spent}]
    return rows


def stopped_at(checkpoint: Path) -> dict[str, float]:
    """What its run had spent, by the names of SPENT."""
    pace = Pace()
    pace.load_state_dict(torch.load(checkpoint, weights_only=True)["callbacks"]["Pace"])
    return {f"train/{name}": value for name, value in pace.spent.items()}


def slope(rows: Rows) -> float:
    """Decibels that the last doubling of the operations brought."""
    last = [row for row in rows if 2 * row["train/gmac"] >= rows[-1]["train/gmac"]]
    x = np.log2([row["train/gmac"] for row in last])
    return float(np.polyfit(x, [row["val/psnr_gain"] for row in last], 1)[0])


def draw(rows: Rows) -> None:
    """Gain, mask IoU and unmarked pictures over the operations of all stages."""
    figure, panels = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    labels = ("gain on validation (dB)", "mask IoU", "pictures without a mark (dB)")
    names = ("val/psnr_gain", "val/mask_iou", "val/clean_psnr")
    for axes, name, label in zip(panels, names, labels, strict=True):
        for stage in sorted({row["stage"] for row in rows}):
            own = [row for row in rows if row["stage"] == stage]
            x = [row["train/gmac"] / 1e6 for row in own]
            axes.plot(x, [row[name] for row in own], ".-", label=f"stage {stage:.0f}")
        axes.set_xlabel("million GMAC of training")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    panels[0].legend()
    figure.savefig(CSV.with_suffix(".png"), dpi=110)


def main() -> None:
    """Write the curve and its figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", nargs="+", type=Path, help="folders, in the order of training")
    parser.add_argument("--after", type=int, default=0, help="stages of curve.csv to keep")
    chosen = parser.parse_args()
    kept = validations(CSV) if chosen.after else []
    rows = went_on([row for row in kept if row["stage"] <= chosen.after], chosen.runs)
    with CSV.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["stage", *SPENT, *FIGURES])
        writer.writeheader()
        for row in rows:
            writer.writerow({k: round(v, 4) for k, v in row.items()} | {"stage": int(row["stage"])})
    draw(rows)
    print(f"{slope(rows):+.2f} dB for twice the operations, at the end")


if __name__ == "__main__":
    main()
