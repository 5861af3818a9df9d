"""What of the machine each job of a multirun gets, and how jobs in other processes end."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from clearmark import sweeps
from clearmark.errors import UserError

USUAL = {"launcher": "local", "sweeper": "grid"}

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # or it tells its makers of each start
os.environ.setdefault("RAY_worker_niceness", "0")  # or jobs give way to all else on the machine


class Processes(Callback):
    """Hydra's callback for launchers whose jobs are processes of this machine."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        # A launcher ends its processes when an exception comes, as at Ctrl-C.
        signal.signal(signal.SIGTERM, _stop)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        # Joblib's own way to start processes cannot start those that make samples.
        multiprocessing.set_start_method(None, force=True)


def _stop(number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt(128 + number)


def register_resolvers() -> None:
    """Make known to configs what they compute before anything heavy is imported.

    ``${cores:most}``: the CPU cores that this process may use, at most that many.
    ``${share:jobs}``: the cores that each of so many jobs side by side may use, one at least.
    ``${least:a,b}``: the lesser of two numbers.
    ``${unless:a,b}``: b, or null if a is given.
    ``${sweep:}``: the last two parts of the sweep's folder, or null in a single run.
    ``${direction:figure}``: whether to "maximize" or to "minimize" it.
    """

    def cores(most: int) -> int:
        mine = getattr(os, "sched_getaffinity", None)
        return min(most, len(mine(0)) if mine else os.cpu_count() or 1)

    def share(jobs: Any) -> int | None:
        if not isinstance(jobs, int) or jobs < 1:
            return None  # refused by its range later
        return max(1, cores(2**16) // jobs)

    def least(a: int | None, b: int) -> int | None:
        return None if a is None else min(a, b)

    def unless(a: Any, b: Any) -> Any:
        return b if a is None else None

    def sweep() -> str | None:
        if not sweeps.in_one():
            return None
        return "/".join(Path(str(HydraConfig.get().sweep.dir)).parts[-2:])

    def direction(figure: str) -> str:
        return "minimize" if sweeps.less_is_better(figure) else "maximize"

    for resolver in (cores, share, least, unless, sweep, direction):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)


def check() -> None:
    """Refuse a launcher or sweeper where there is one job only.

    Raises:
        UserError: it is not the usual one.
    """
    if not HydraConfig.initialized() or sweeps.in_one():
        return
    for group, usual in USUAL.items():
        choice = HydraConfig.get().runtime.choices.get(group, usual)
        if choice != usual:
            raise UserError(f"{group}={choice} is for many runs; add -m, or leave {group}= out")
