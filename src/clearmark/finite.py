"""Stops a run whose numbers have gone bad: a loss, weights or a figure that is NaN or infinite.

What went wrong, and the samples it went wrong on, stay in the run's folder. No checkpoint of
weights that are not finite is ever written, so the last one is good.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import lightning as L
import torch
import torch.distributed
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader

from clearmark.errors import UserError
from clearmark.removal import Removal
from clearmark.runs import BAD_BATCH, write_json

T = TypeVar("T")
EVERY = 50  # steps between two looks, where the trainer logs none


class NotFiniteError(UserError):
    """A NaN or an infinity where a run cannot go on from."""


class Step(NamedTuple):
    """A training step: its batch in the epoch, its number as in ``metrics.csv``, its loss."""

    batch: int
    number: int
    names: tuple[str, ...]
    values: Tensor  # (terms,), each with its weight


class Bad(NamedTuple):
    """What went wrong where, and whether the weights were finite until then, if that is known."""

    what: str
    split: str
    batch: int
    step: int
    terms: dict[str, float] = {}
    weights_finite: bool | None = None


class Finite(L.Callback):
    """Stops training at the first loss, weight or validation figure that is not finite.

    On one CPU every step is looked at before its gradient is taken. Elsewhere the losses stay on
    the device, which is asked once in ``log_every_n_steps`` steps, since asking waits for it: NaN
    stays NaN until then, and the first bad step is found all the same. Gradients are not looked at,
    and steps that the scaler of 16 bits leaves out do no harm; a gradient that spoils the weights
    shows in the next loss, before a validation, or before a checkpoint is written.

    Args:
        folder: where the keys of the bad batch go, as ``bad_batch.json``.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.every = 1
        self._waiting: list[Step] = []  # steps that were not looked at yet
        self._latest: Step | None = None
        self._totals: list[Tensor] = []  # what validation summed up to, batch by batch

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        alone = trainer.world_size == 1 and trainer.strategy.root_device.type == "cpu"
        self.every = 1 if alone else (trainer.log_every_n_steps or EVERY)  # type: ignore[attr-defined]
        self._waiting, self._latest = [], None

    def on_before_backward(
        self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor
    ) -> None:
        assert isinstance(pl_module, Removal)
        batch = trainer.fit_loop.epoch_loop.batch_idx
        self._latest = Step(batch, trainer.global_step, *pl_module.last_terms)
        self._waiting.append(self._latest)
        if len(self._waiting) >= self.every:
            self._look(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._look(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._totals = []
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._look(trainer)
            self._look_at_weights(trainer, pl_module.state_dict())

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any
    ) -> None:
        assert isinstance(pl_module, Removal)
        self._totals.append(pl_module.figures.totals)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn != "fit" or not self._totals:
            return
        at = _least(trainer, torch.stack(self._totals).isfinite().all(1).tolist())
        if at is not None:
            what = f"a validation figure is not finite, first in validation batch {at},"
            self._stop(trainer, Bad(what, "val", at, trainer.global_step))

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        # A run that breaks off may save in one process only: nothing to agree on with the others.
        self._look_at_weights(trainer, checkpoint["state_dict"], alone=True)

    def _look(
        self, trainer: L.Trainer, module: L.LightningModule | None = None, alone: bool = False
    ) -> None:
        """Look at the losses of the waiting steps; module: that the last of them has not changed.

        alone: the other processes do not look at the same time.
        """
        steps, self._waiting = self._waiting, []
        if not steps:
            return
        good = torch.stack([step.values for step in steps]).isfinite().all(1).tolist()
        at = _least(trainer, good, alone)
        if at is None:
            return
        batch, number, names, values = steps[at]
        # Those of an earlier step are spoilt by its own gradient by now.
        weights = _finite(module.state_dict()) if module and at == len(steps) - 1 else None
        terms = dict(zip(names, values.tolist(), strict=True))
        wrong = [name for name, value in terms.items() if not math.isfinite(value)]
        wrong = sorted(set(_gathered(trainer, wrong, alone)), key=names.index)
        what = f"loss term{'s' * (len(wrong) > 1)} {', '.join(wrong)} not finite"
        if weights is False:
            what += ", since the step before made the weights so,"
        self._stop(trainer, Bad(what, "train", batch, number, terms, weights), alone)

    def _look_at_weights(
        self, trainer: L.Trainer, weights: Mapping[str, Any], alone: bool = False
    ) -> None:
        if _finite(weights):
            return
        self._look(trainer, alone=True)  # a loss that was not finite comes first
        batch, number = self._latest[:2] if self._latest else (0, trainer.global_step)
        what = "weights not finite, made so by the gradient"
        self._stop(trainer, Bad(what, "train", batch, number, weights_finite=False), alone)

    def _stop(self, trainer: L.Trainer, bad: Bad, alone: bool = False) -> None:
        training = bad.split == "train"
        loader = trainer.train_dataloader if training else trainer.val_dataloaders
        assert isinstance(loader, DataLoader)
        before = keys(loader, bad.batch - 1) if training and bad.batch else []
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        note = bad._asdict() | {
            "terms": {n: v if math.isfinite(v) else str(v) for n, v in bad.terms.items()},
            "epoch": trainer.current_epoch,
            "learning_rate": rate,
            "precision": trainer.precision,
            "keys": _gathered(trainer, keys(loader, bad.batch), alone),
            "keys_before": _gathered(trainer, before, alone),
        }
        kept = f"the samples of the batch are in {self.folder / BAD_BATCH}"
        if trainer.is_global_zero:
            try:
                write_json(self.folder / BAD_BATCH, note)
            except OSError as error:  # a full disk, perhaps; what went wrong comes first
                kept = f"the samples of the batch could not be kept: {error.strerror}"
        causes = [f"a learning rate too high (now {rate:g}; lower optimizer.lr)"]
        causes += ["precision=16 (try bf16)"] * (trainer.precision == "16-mixed")
        causes += ["that loss term"] * bool(bad.terms) + ["a bad picture in the batch"]
        raise NotFiniteError(
            f"{bad.what} at step {bad.step} (epoch {trainer.current_epoch}, batch {bad.batch}); "
            f"last good checkpoint: {_last(trainer)}; likely causes: {', '.join(causes)}; {kept}"
        )


def keys(loader: DataLoader[Any], batch: int) -> list[list[int]]:
    """(epoch, index) of the samples of a batch of the epoch under way, in this process."""
    order = loader.batch_sampler
    assert order is not None
    step = getattr(order, "step", 1)
    skipped = getattr(order, "seen", 0) // step  # before a resume
    found = next(itertools.islice(iter(order), batch - skipped, None), [])
    return [[int(number) for number in key] for key in found]


def _finite(weights: Mapping[str, Any]) -> bool:
    sums = [w.sum() for w in weights.values() if isinstance(w, Tensor) and w.is_floating_point()]
    # The sum of finite numbers may be none; that of others never is finite.
    if not sums or bool(torch.stack([s.float() for s in sums]).isfinite().all()):
        return True
    return all(bool(w.isfinite().all()) for w in weights.values() if isinstance(w, Tensor))


def _last(trainer: L.Trainer) -> str:
    """The checkpoint to go on from, or a word."""
    kept = trainer.checkpoint_callback
    if isinstance(kept, ModelCheckpoint):
        for path in (kept.last_model_path, kept.best_model_path):
            if path and Path(path).is_file():
                return path
    return "none yet"


def _least(trainer: L.Trainer, good: list[bool], alone: bool = False) -> int | None:
    """Where the first bad one is, over all processes."""
    found = good.index(False) if False in good else None
    if trainer.world_size == 1 or alone:
        return found
    if trainer.strategy.reduce_boolean_decision(found is None, all=True):
        return None
    return min(_gathered(trainer, [] if found is None else [found]))


def _gathered(trainer: L.Trainer, mine: list[T], alone: bool = False) -> list[T]:
    """What all processes have, one after the other."""
    if trainer.world_size == 1 or alone:
        return mine
    everyone: list[list[T]] = [[]] * trainer.world_size
    torch.distributed.all_gather_object(everyone, mine)
    return [one for part in everyone for one in part]
