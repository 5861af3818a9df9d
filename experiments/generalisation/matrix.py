"""Test each network of the study's sweep on each kind of mark; leave results.csv and figure.png.

python src/train.py experiment=generalisation
python experiments/generalisation/matrix.py multirun/DATE/TIME
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

HERE = Path(__file__).parent
KINDS = ("text", "logo", "tiled", "stamp", "default")


def main(sweep: str) -> None:
    """The gain of every run on every kind, one a line."""
    with (Path(sweep) / "sweep.csv").open(newline="", encoding="utf-8") as file:
        runs = {row["job"]: row for row in csv.DictReader(file) if not row["failed"]}
    rows = []
    for job, run in sorted(runs.items(), key=lambda item: int(item[0])):
        with tempfile.TemporaryDirectory() as folder:
            words = [f"ckpt={Path(sweep) / job}", f"watermark={','.join(KINDS)}"]
            words += ["data.test_samples=124", "threads=1", f"hydra.sweep.dir={folder}"]
            subprocess.run([sys.executable, "src/evaluate.py", "-m", *words], check=True)
            with (Path(folder) / "sweep.csv").open(newline="", encoding="utf-8") as file:
                found = {row["watermark"]: row for row in csv.DictReader(file)}
        for kind in KINDS:
            gain = found[kind]["test/psnr_gain"]
            rows.append([run["watermark"], run["seed"], kind, gain])
    with (HERE / "results.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["trained", "seed", "tested", "gain"], *rows])
    draw(rows)


def draw(rows: list[list[str]]) -> None:
    """The mean gain of each training on each kind."""
    means = np.array(
        [
            [np.mean([float(r[3]) for r in rows if (r[0], r[2]) == (trained, on)]) for on in KINDS]
            for trained in KINDS
        ]
    )
    figure = Figure(figsize=(6, 4.4), layout="constrained")
    axis = figure.subplots()
    largest = np.abs(means).max()
    shown = axis.imshow(means, cmap="RdBu", vmin=-largest, vmax=largest)
    for at, value in np.ndenumerate(means):
        shade = "white" if abs(value) > 0.6 * largest else "black"
        axis.text(at[1], at[0], f"{value:+.2f}", ha="center", va="center", color=shade)
    axis.set_xticks(range(len(KINDS)), KINDS)
    axis.set_yticks(range(len(KINDS)), KINDS)
    axis.set(xlabel="tested on", ylabel="trained on")
    figure.colorbar(shown, label="PSNR gain (dB)")
    figure.savefig(HERE / "figure.png", dpi=110)


if __name__ == "__main__":
    main(sys.argv[1])
