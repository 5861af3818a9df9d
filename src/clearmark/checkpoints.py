"""The checkpoints of a run: the best one, and the last one, from which training goes on exactly."""

from __future__ import annotations

import io
import os
import signal
import threading
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from clearmark import disk
from clearmark.loggers import MetricsFile
from clearmark.runs import LAST

STATE = "resume"
"""What a checkpoint holds beside Lightning's own: rows, random numbers, whether it is over."""

STEP, VALIDATION, END = "step", "validation", "end"  # what a last checkpoint was written before


class Checkpoints(ModelCheckpoint):
    """Keeps the best checkpoint. Its state names no folder, so that a run may be moved."""

    def setup(self, *args: Any, **kwargs: Any) -> None:
        with warnings.catch_warnings():
            # A run that goes on finds its own.
            warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
            super().setup(*args, **kwargs)

    def state_dict(self) -> dict[str, Any]:
        return _placed(super().state_dict() | {"dirpath": ""}, None)

    def _update_best_and_save(self, current: Tensor, trainer: L.Trainer, *more: Any) -> None:
        before = vars(self) | {"best_k_models": dict(self.best_k_models)}
        super()._update_best_and_save(current, trainer, *more)
        if trainer.strategy.broadcast(disk.failed(Path(self.best_model_path))):
            vars(self).update(before)  # the one that is there stays the best, until one is better

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        here = {"dirpath": self.dirpath}
        super().load_state_dict(_placed(state_dict, Path(str(self.dirpath))) | here)
        self.current_score = state_dict["current_score"]


def _placed(state: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    """The files that a state names, in a folder or by their names alone."""

    def placed(path: str) -> str:
        name = Path(path).name
        return str(folder / name) if folder and name else name

    files = {key: placed(state[key]) for key in state if key.endswith("_path")}
    kept = {placed(path): score for path, score in state["best_k_models"].items()}
    return {**state, **files, "best_k_models": kept}


class Last(L.Callback):
    """Keeps ``last.ckpt``, from which training goes on as if it had never stopped.

    It is written where nothing is under way: between two steps, before each validation, which is
    then done again, and after the last epoch. SIGTERM and Ctrl-C stop a run there as well; those of
    several processes see ``Together``. A run that breaks off within a step leaves the file as it
    was.

    It has to stand before callbacks that log when a step begins, or their rows would come twice.

    Args:
        folder: where the checkpoint goes.
        every: optimizer steps between two of them.
    """

    def __init__(self, folder: str, every: int = 100) -> None:
        self.path, self.every = Path(folder) / LAST, every
        self.signal: int | None = None  # that asked the run to stop
        self._saved = 0  # the optimizer step of the last one
        self._before: str | None = None  # what comes after the one that is being written
        self._loaded: dict[str, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._listen(trainer)
        if self._loaded:
            torch.set_rng_state(self._loaded["random"])
            if "random_cuda" in self._loaded:
                torch.cuda.set_rng_state(self._loaded["random_cuda"], trainer.strategy.root_device)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._listen(trainer)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step - self._saved >= self.every and _rests(trainer, batch_idx):
            self._save(trainer, STEP)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            # After a resume Lightning has counted the validation that it now begins.
            trainer.fit_loop.epoch_loop.val_loop.batch_progress.total.reset_on_restart()
            self._save(trainer, VALIDATION)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._save(trainer, END)

    def on_validation_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        self._stop()

    def on_test_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        self._stop()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        stopped = trainer.state.fn == "fit" and isinstance(exception, SIGTERMException)
        if not stopped or trainer.global_step <= self._saved:
            return
        epochs = trainer.fit_loop.epoch_progress.current
        batches = trainer.fit_loop.epoch_loop.batch_progress.current
        if epochs.ready == epochs.completed:
            if trainer.max_steps == -1:
                self._save(trainer, END)
        elif _rests(trainer, batches.completed):
            self._save(trainer, STEP)

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._before is None:
            return
        rows = [logger.rows for logger in trainer.loggers if isinstance(logger, MetricsFile)]
        state = {"rows": sum(rows), "random": torch.get_rng_state(), "stopped": trainer.should_stop}
        if trainer.strategy.root_device.type == "cuda":
            state["random_cuda"] = torch.cuda.get_rng_state(trainer.strategy.root_device)
        checkpoint[STATE] = state
        loops = checkpoint["loops"]["fit_loop"]
        if self._before == STEP:
            # The next batch has been counted, but Lightning's resume counts it again.
            batches = loops["epoch_loop.batch_progress"]
            batches["is_last_batch"] = False
            for count in (batches["total"], batches["current"]):
                count["ready"] = count["started"] = count["processed"] = count["completed"]
        elif self._before == VALIDATION:
            # How Lightning tells that a validation was under way; else it leaves it out.
            for count in map(loops["epoch_loop.val_loop.batch_progress"].get, ("total", "current")):
                count["ready"] = count["started"] = count["processed"] + 1

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn != "fit":
            return
        self._loaded, self._saved = checkpoint[STATE], checkpoint["global_step"]
        trainer.should_stop = self._loaded["stopped"]
        for logger in trainer.loggers:
            if isinstance(logger, MetricsFile):
                logger.go_on(self._loaded["rows"])

    def _save(self, trainer: L.Trainer, before: str) -> None:
        for logger in trainer.loggers:
            logger.save()
        self._before = before
        try:
            trainer.save_checkpoint(self.path)
        finally:
            self._before = None
        self._saved = trainer.global_step
        if isinstance(trainer.checkpoint_callback, ModelCheckpoint):
            trainer.checkpoint_callback.last_model_path = str(self.path)

    def _stop(self) -> None:
        """Break off: what is under way is done again after a resume."""
        if self.signal is not None:
            raise SIGTERMException

    def _listen(self, trainer: L.Trainer) -> None:
        """Stop at the next step, not in the midst of one, when the first signal comes."""
        if trainer.world_size > 1 or threading.current_thread() is not threading.main_thread():
            return
        lightning = signal.getsignal(signal.SIGTERM)

        def stop(number: int, frame: Any) -> None:
            self.signal = number
            signal.signal(signal.SIGINT, signal.default_int_handler)  # the second does not wait
            os.write(2, b"\nstopping after this step\n")
            if callable(lightning):
                lightning(signal.SIGTERM, frame)

        signal.signal(signal.SIGTERM, stop)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, stop)


def _rests(trainer: L.Trainer, batches: int) -> bool:
    """Whether Lightning can go on after so many batches of an epoch: no gradients are pending."""
    within = 0 < batches < trainer.num_training_batches
    return within and batches % trainer.accumulate_grad_batches == 0


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it: a full disk leaves no half of one."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)  # Lightning's would leave another copy on a full disk
        with disk.going_on(Path(path)), disk.whole(Path(path)) as beside:
            beside.write_bytes(content.getbuffer())
