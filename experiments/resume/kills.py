"""Kills a small run at random moments, lets it go on, and compares it with one that was left alone.

``python experiments/resume/kills.py``; ``--kills 20 --seed 0`` are the defaults.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch

ROOT = Path(__file__).resolve().parents[2]
# A small network, six steps of training between two checkpoints, every row of metrics.
SMALL = [
    *("model=unet", "model.widths=[8,16]", "activation=rrelu", "trainer=cpu", "logger=csv"),
    *("trainer.max_epochs=3", "data.samples_per_epoch=166", "data.batch_size=8", "data.crop=64"),
    *("data.val_samples=16", "data.test_samples=16", "threads=1", "print_config=false"),
    *("callbacks.last.every=6", "trainer.log_every_n_steps=1", "~callbacks.progress"),
    *("+callbacks.where._target_=kills.Where", "+callbacks.where.folder=${folder}"),
]
TIMES = (
    *("wall_seconds", "training_seconds", "samples_per_second"),
    *("train/samples_per_second", "train/seconds", "seconds", "spent"),
)
WORKERS = (0, 1, 2, 4)
STEPS = 60  # of the whole run


class Where(L.Callback):
    """Notes in a file what the run is doing, so that a kill can be told from the next."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.file: int | None = None

    def note(self, trainer: L.Trainer, doing: str) -> None:
        if self.file is None:
            self.file = os.open(f"{self.folder}/where", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        line = f"epoch {trainer.current_epoch}, step {trainer.global_step}: {doing}"
        os.pwrite(self.file, line.ljust(100).encode(), 0)

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        self.note(trainer, "training step")

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        self.note(trainer, "last batch of the epoch" if last else "between two steps")

    def on_save_checkpoint(self, trainer: L.Trainer, *args: Any) -> None:
        self.note(trainer, "writing a checkpoint")

    def on_validation_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        self.note(trainer, "validation")

    def on_validation_end(self, trainer: L.Trainer, *args: Any) -> None:
        self.note(trainer, "end of validation")

    def on_train_epoch_end(self, trainer: L.Trainer, *args: Any) -> None:
        self.note(trainer, "end of an epoch")

    def on_train_end(self, trainer: L.Trainer, *args: Any) -> None:
        self.note(trainer, "end of training")

    def on_test_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        self.note(trainer, "test")


def differences(one: Path, other: Path) -> list[str]:
    """What differs between two finished runs, times left out; nothing if they are the same.

    Compared bit for bit: every value of ``last.ckpt`` and ``best.ckpt`` (weights, optimizer,
    schedule, counts, random numbers), every cell of ``metrics.csv``, and ``results.json``.
    """
    found = []
    for name in ("last.ckpt", "best.ckpt", "metrics.csv", "results.json"):
        a, b = (dict(_leaves(_content(run, name))) for run in (one, other))
        found += [f"{name} {key}" for key in a.keys() | b.keys() if not _same(a, b, key)]
    return sorted(found)


def _content(run: Path, name: str) -> Any:
    if name.endswith(".ckpt"):
        return torch.load(run / "checkpoints" / name, weights_only=True)
    if name.endswith(".csv"):
        with (run / name).open(newline="") as file:
            return list(csv.DictReader(file))
    return json.loads((run / name).read_text())


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, (dict, list, tuple)):
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            if key not in TIMES:
                yield from _leaves(child, f"{path}/{key}")
    else:
        yield path, node


def _same(a: dict[str, Any], b: dict[str, Any], key: str) -> bool:
    if key not in a or key not in b:
        return False
    if isinstance(a[key], torch.Tensor) and isinstance(b[key], torch.Tensor):
        return a[key].dtype == b[key].dtype and torch.equal(a[key], b[key])
    return type(a[key]) is type(b[key]) and bool(a[key] == b[key])


def start(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """Begin to train in a folder."""
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    here = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "CLEARMARK_TRUST": "kills"}
    return subprocess.Popen(
        [sys.executable, "src/train.py", *SMALL, f"hydra.run.dir={folder}", *words],
        cwd=ROOT,
        env=os.environ | here,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    """Wait for a run, which has to end well."""
    _, said = process.communicate()
    if process.returncode:
        raise RuntimeError(said.decode())


def kill(process: subprocess.Popen[bytes], folder: Path, step: int, delay: float) -> str:
    """Kill a run and its workers some seconds after it has come to a step, or has begun for 0.

    Says what it was doing.
    """
    note = folder / "where"
    while process.poll() is None and step and _step(note) < step:
        time.sleep(0.002)
    try:
        process.wait(delay)
        return "had ended"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    doing = note.read_text().strip() if note.is_file() else ""
    half = ", half a checkpoint beside" if list(folder.glob("checkpoints/*.part")) else ""
    note.unlink(missing_ok=True)  # the next process has done nothing yet
    return f"{doing or 'starting'}{half}"


def _step(note: Path) -> int:
    words = note.read_text().split() if note.is_file() else []
    return int(words[3].rstrip(":")) if len(words) > 3 else -1


def main() -> None:
    """Print a line for each run, and how many came out the same."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    draw, base = random.Random(given.seed), Path(tempfile.mkdtemp())
    finish(start(base / "whole"))
    good = 0
    for number in range(given.kills):
        folder, workers = base / str(number), draw.choice(WORKERS)
        # A step in each part of the run, and up to half a second; a few are killed once more.
        steps = [round(STEPS * (number + draw.random()) / given.kills)]
        steps += [draw.randint(steps[0], STEPS)] * (number % 4 == 3)
        words = ("resume=auto", f"data.workers={workers}")
        fell = [kill(start(folder, *words), folder, at, draw.random() / 2) for at in steps]
        after = draw.choice(WORKERS)
        finish(start(folder, "resume=auto", f"data.workers={after}"))
        found = differences(base / "whole", folder)
        good += not found
        verdict = f"differs in {len(found)}: {found[:3]}" if found else "the same"
        print(
            f"{number + 1:2} | {' | then '.join(fell)} | {workers} workers | {verdict}", flush=True
        )
        if not found:
            shutil.rmtree(folder)
    print(f"{good}/{given.kills}")
    shutil.rmtree(base) if good == given.kills else print(f"the runs are in {base}")


if __name__ == "__main__":
    main()
