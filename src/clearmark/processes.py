"""How a run of several processes ends, and a run that a cluster stops: in order, and all of it.

Lightning starts the processes and shares the gradients. But its answer to SIGTERM waits for the
other processes in the midst of a step, and its answer to SLURM's SIGUSR1 saves there; here both
wait for the step's end.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.utilities.exceptions import SIGTERMException

from clearmark import ranks
from clearmark.cli import AGAIN

# Exit statuses of a run that was asked to stop; of several, the highest counts.
STATUS = {signal.SIGINT: 128 + signal.SIGINT, signal.SIGTERM: 128 + signal.SIGTERM}
if hasattr(signal, "SIGUSR1"):
    STATUS[signal.SIGUSR1] = AGAIN


class Together(L.Callback):
    """Stops all processes between the same two steps, where ``Last`` saves, and lets none hang.

    SIGUSR1, by which a cluster says that the time is nearly up, stops any run: with exit status 75,
    for "put it in the queue again". SIGTERM and Ctrl-C stop one of several processes here, after a
    validation or test that is under way; ``Last`` listens to them in a run of one.

    If one process fails, it says so, and the others end.
    """

    def __init__(self) -> None:
        self.status = 0  # to exit with, once a signal came
        self._process = 0  # that listens; the workers that make samples inherit its handlers

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._listen(trainer, signal.SIGTERM, signal.SIGINT)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._listen(trainer, signal.SIGTERM)  # and let the test end

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx % trainer.accumulate_grad_batches:
            return  # gradients are pending
        status = self.status
        if trainer.world_size > 1:
            highest = torch.tensor(status, device=trainer.strategy.root_device)
            dist.all_reduce(highest, dist.ReduceOp.MAX)
            status = int(highest)
        if status:
            raise SIGTERMException(status)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        if trainer.world_size == 1 or isinstance(exception, SIGTERMException):
            return
        if trainer.is_global_zero:
            # The others may wait for this one for long.
            launcher: Any = trainer.strategy.launcher
            atexit.register(launcher.kill, signal.SIGKILL)
        elif isinstance(exception, KeyboardInterrupt) or ranks.lost(exception):
            os._exit(0)  # at an error Lightning would kill the first process, which may be saving
        else:
            _outlast(3)  # all may have the same to say
            atexit.register(_part)

    def _listen(self, trainer: L.Trainer, *if_several: signal.Signals) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        self._process = os.getpid()
        wanted = [number for number in STATUS if STATUS[number] == AGAIN]
        for number in [*wanted, *if_several * (trainer.world_size > 1)]:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._note)

    def _note(self, number: int, frame: Any) -> None:
        if os.getpid() != self._process:
            return
        self.status = max(self.status, STATUS[signal.Signals(number)])
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the second does not wait
        if ranks.rank() == 0:
            os.write(2, b"\nstopping after this step\n")


def _part() -> None:
    """Let the others know at last, and see the first process end: it would be killed earlier."""
    if dist.is_initialized():
        dist.destroy_process_group()
    _outlast(10)


def _outlast(seconds: float) -> None:
    """Wait for the process that has started this one to end, or to end this one."""
    parent, until = os.getppid(), time.monotonic() + seconds
    while os.getppid() == parent and time.monotonic() < until:
        time.sleep(0.1)
