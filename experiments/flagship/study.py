"""What the parts of the flagship are worth: one thing otherwise at a time, for equal training time.

python experiments/flagship/study.py outputs/flagship
python experiments/tables.py flagship outputs/flagship

Each row is two seeds of two minutes of the flagship as it was before this study, and the words of
the row (``COMMON``, ``PARTS``), side by side on two cores. The same command goes on with what was
broken off.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

from matplotlib.figure import Figure

from clearmark import comparison

ROOT = Path(__file__).resolve().parents[2]
COMMON = (
    *("experiment=study", "model=unblend", "model.widths=[64,96,128]", "model.extremes=[]"),
    *("budget=2min", "seed=0,1", "launcher=joblib"),
)
PARTS = {
    "": "as it was",
    # the network
    "model.scale=2": "body at half of the resolution",
    "model.scale=8": "body at an eighth",
    "model.widths=[64,96]": "a level less",
    "model.widths=[64,96,128,128]": "a level more",
    "model.widths=[32,48,64]": "half as wide",
    "model.widths=[32,48,64] model.extremes=[1,5,17]": "the same, shown extremes: as it is now",
    "model.blocks=2": "deeper",
    "model.finest=1": "one block at the finest level, not three",
    "activation=silu": "SiLU",
    "model=unet model.widths=[64,96,128]": "gain and offset by the pixel, no fill",
    # what it is told
    "loss.terms.correction.weight=0": "no term for the bare correction",
    "loss.terms.mark.weight=0": "no term for marked pixels",
    "loss.terms.mask_dice.weight=0": "no Dice",
    "+loss.terms.ssim={weight:0.3,loss:{_target_:clearmark.losses.SSIMLoss}}": "SSIM as well",
    # what it is shown
    "data.crop=80": "smaller crops",
    "data.crop=160": "larger crops",
    "data.batch_size=8": "batches of 8, not 16",
    "data.on_mark=0.3": "fewer crops sure of a mark",
    "data.unmarked=0.3": "more pictures without a mark",
    # how its weights move
    "callbacks=ema": "averaged weights",
    "optimizer=adam": "Adam",
}
"""What is typed behind ``COMMON``, and what that means."""


def folder_of(out: Path, words: str) -> Path:
    """Where the sweep of a row lies."""
    return out / ("".join(c if c.isalnum() else "_" for c in words) or "default")


def train(out: Path, words: str) -> None:
    """Train the two seeds of a row, or what is missing of them."""
    more = [f"hydra.sweep.dir={folder_of(out, words)}", "resume=auto"]
    command = [sys.executable, ROOT / "src" / "train.py", *COMMON, *words.split(), *more]
    if status := subprocess.run(command, cwd=ROOT).returncode:
        sys.exit(status)  # it has said why


def gathered(out: Path) -> Path:
    """All rows in one ``sweep.csv``, as if what is typed were one key."""
    rows: list[dict[str, str]] = []
    for words in PARTS:
        with (folder_of(out, words) / "sweep.csv").open(newline="", encoding="utf-8") as file:
            typed = {"typed": f"`{words}`" if words else ""}
            rows += [{"job": row["job"]} | typed | row for row in csv.DictReader(file)]
    with (out / "sweep.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
    return out / "sweep.csv"


def draw(sweep: comparison.Sweep, path: Path) -> None:
    """The gain of each row, seed by seed, beside that of the network as it was."""
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    axis = figure.subplots()
    for at, words in enumerate(PARTS):
        gains = [run["test/psnr_gain"] for run in sweep.runs[f"`{words}`" if words else "default"]]
        axis.plot(gains, [at] * len(gains), "o", color="C0", alpha=0.5)
        axis.plot(sum(gains) / len(gains), at, "D", color="C0", mec="black")
        if not words:
            axis.axvspan(min(gains), max(gains), color="C1", alpha=0.2)
    axis.set_yticks(range(len(PARTS)), PARTS.values())
    axis.invert_yaxis()
    axis.set_xlabel("PSNR gain (dB) on the test split: two seeds and their mean")
    axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main(out: str = "outputs/flagship") -> None:
    """Train what is missing, then write ``sweep.csv`` and ``figure.png``."""
    folder = Path(out).absolute()
    for words in PARTS:
        train(folder, words)
    draw(comparison.read(gathered(folder)), folder / "figure.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
