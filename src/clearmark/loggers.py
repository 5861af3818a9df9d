"""Loggers: the metrics of a run as a table on disk, and Weights & Biases without its chatter."""

from __future__ import annotations

import csv
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import wandb
from lightning.pytorch import loggers
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from clearmark import disk

Row = dict[str, Any]


class MetricsFile(Logger):
    """``metrics.csv``, a row for each time that something was logged.

    Lightning's own deletes what an earlier run has left, and loses all if it is killed while it
    adds a column. This one goes on where a checkpoint stands.

    Args:
        save_dir: the folder of the file.
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__()
        self.file = Path(save_dir) / "metrics.csv"
        self.rows = 0  # logged so far
        self._columns: list[str] = []
        self._new: list[Row] = []

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.file.parent)

    @rank_zero_only
    def log_metrics(self, metrics: Row, step: int | None = None) -> None:
        row = {k: v.item() if isinstance(v, Tensor) else v for k, v in metrics.items()}
        self._new.append(row | {"step": self.rows if step is None else step})
        self.rows += 1

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """They are in the run's ``config.yaml``."""

    @rank_zero_only
    def go_on(self, rows: int) -> None:
        """Take the file up as it was after so many rows; what came later is logged again."""
        kept = self._read()[:rows]
        self.rows = len(kept)
        self._columns = sorted(set().union(*kept)) if kept else []
        _write(self.file, kept, self._columns)

    @rank_zero_only
    def save(self) -> None:
        if not self._new:
            return
        with disk.going_on(self.file):  # rows that are not written wait for the next time
            columns = sorted(set(self._columns).union(*self._new))
            if columns == self._columns:
                self._append(self._new)
            else:
                before = self._read() if self._columns else []  # else it is of another run
                _write(self.file, [*before, *self._new], columns)
                self._columns = columns
            self._new = []

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()
        if disk.failed(self.file):
            rescued = Path(tempfile.gettempdir()) / f"metrics-{os.getpid()}.csv"
            rows = [*self._read(), *self._new]
            with disk.going_on(rescued):
                if not rescued.exists():
                    print(f"warning: all metrics are in {rescued}", file=sys.stderr, flush=True)
                _write(rescued, rows, sorted(set().union(*rows)))

    def _read(self) -> list[Row]:
        if not self.file.is_file():
            return []
        with self.file.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def _append(self, rows: list[Row]) -> None:
        size = self.file.stat().st_size
        try:
            with self.file.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns).writerows(rows)
        except OSError:
            os.truncate(self.file, size)  # half of them may be there
            raise


def _write(path: Path, rows: list[Row], columns: list[str]) -> None:
    with disk.whole(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(rows)


class WandbLogger(loggers.WandbLogger):
    """Lightning's logger for Weights & Biases; without a connection the run is kept on disk.

    Args:
        silent: wandb writes nothing on the terminal, neither its hints nor the run's address.
        group: runs of one group stand together; none if it is null.
        patience: seconds to wait for the server when a run begins, and twice that when it ends.
        kwargs: of Lightning's logger.
    """

    def __init__(
        self,
        silent: bool = False,
        group: str | None = None,
        patience: float = 30,
        **kwargs: Any,
    ) -> None:
        settings = wandb.Settings(silent=silent, init_timeout=patience, finish_timeout=2 * patience)
        super().__init__(settings=settings, group=group, **kwargs)
        # wandb warns of it at the start of every run.
        self._wandb_init.pop("anonymous", None)

    @property
    def experiment(self) -> Any:
        """The run; one that stays on disk if the server cannot be reached."""
        try:
            return super().experiment
        except wandb.errors.CommError:
            self._wandb_init |= {"mode": "offline", "id": None}  # wandb holds on to the other id
            print(
                "\nwarning: Weights & Biases could not be reached; the metrics are in metrics.csv, "
                f"and `wandb sync {self.save_dir}/wandb/offline-run-*` sends the run later",
                file=sys.stderr,
                flush=True,
            )
            return super().experiment

    def go_on(self) -> None:
        """Log to the run that was logged to from the same folder before, if there is one."""
        found = list(Path(self.save_dir or ".").glob("wandb/*run-*-*"))
        found.sort(key=lambda run: run.name.split("run-")[1])  # by date, offline or not
        if found:
            self._id = found[-1].name.rpartition("-")[2]
            self._wandb_init |= {"id": self._id, "resume": "allow"}
