"""Eight short trainings by each launcher: the same figures, bit for bit, and how long each took.

``python experiments/launchers/compare.py`` on a quiet machine; a number behind it is the samples
that each job trains on (default 640).
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LAUNCHERS = ("local", "joblib", "ray")
WORDS = [
    *("-m", "seed=0,1", "optimizer=adam,sgd", "loss=removal,mse", "threads=1"),
    *("logger=csv", "print_config=false", "data.val_samples=16", "data.test_samples=16"),
    *("data.workers=0", "trainer.max_epochs=1", "callbacks.progress.refresh_rate=0"),
]
SPEED = {"samples_per_second", "training_seconds", "wall_seconds"}


def sweep(launcher: str, samples: int, folder: Path) -> tuple[float, list[dict[str, Any]]]:
    """Run the jobs; returns the seconds that the command took, and the figures of each job."""
    words = [*WORDS, f"data.samples_per_epoch={samples}", f"launcher={launcher}"]
    command = [sys.executable, "src/train.py", *words, f"hydra.sweep.dir={folder}"]
    began = time.perf_counter()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    found = [json.loads((folder / str(job) / "results.json").read_text()) for job in range(8)]
    return seconds, [{k: v for k, v in job.items() if k not in SPEED} for job in found]


def main(samples: int = 640) -> None:
    """Print a row for each launcher, and keep them as results.csv beside this file.

    Args:
        samples: of each job's training.
    """
    rows, first = [], None
    for launcher in LAUNCHERS:
        with tempfile.TemporaryDirectory() as folder:
            seconds, figures = sweep(launcher, samples, Path(folder, "sweep"))
        first = first or (seconds, figures)
        same = "yes" if repr(figures) == repr(first[1]) else "no"
        rows.append([launcher, samples, f"{seconds:.1f}", f"{first[0] / seconds:.2f}", same])
        print("{}: {} samples a job, {} s, {} times as fast, same figures: {}".format(*rows[-1]))
    with Path(__file__).with_name("results.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["launcher", "samples", "seconds", "ratio", "same_figures"])
        table.writerows(rows)
    if any(row[-1] == "no" for row in rows):
        sys.exit("error: the figures differ")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
