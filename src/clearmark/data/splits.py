"""What all sources of pictures have in common: three splits, and the loaders that batch them."""

from __future__ import annotations

import os
import signal
import warnings
from abc import abstractmethod
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset

from clearmark.data.marked import FixedSampler, Sample
from clearmark.data.order import Counted, EpochBatches, Order
from clearmark.errors import UserError

STOPS = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, n)]
GRACE = 30  # seconds that a worker lives on after SIGTERM
STAGES = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}


class SplitsModule(L.LightningDataModule):
    """Batches of a train, a val and a test split.

    ``datasets[split][epoch, index]`` is a sample (see ``MarkedPhotos``): a source of pictures says
    in ``dataset`` what that is. A checkpoint holds how many samples of an epoch were seen, and a
    run that takes it up goes on with the others.

    Args:
        samples: samples of an epoch of each split.
        batch_size: samples per training step.
        eval_batch_size: samples per validation or test step.
        workers: processes that make training samples; 0 makes them in the training process.
        fresh_each_epoch: False trains on the same samples in every epoch.
    """

    def __init__(
        self,
        samples: Mapping[str, int],
        batch_size: int = 16,
        eval_batch_size: int = 8,
        workers: int = 0,
        fresh_each_epoch: bool = True,
    ) -> None:
        super().__init__()
        self.samples, self.fresh_each_epoch = dict(samples), fresh_each_epoch
        self.batch_size, self.eval_batch_size, self.workers = batch_size, eval_batch_size, workers
        self.datasets: dict[str, Dataset[Sample]] = {}
        self._resumed = 0, 0

    @abstractmethod
    def dataset(self, split: str) -> Dataset[Sample]:
        """The samples of "train", "val" or "test", by (epoch, index)."""

    @property
    def broken(self) -> dict[Path, str]:
        """The files that were left out so far, each with the reason."""
        return {p: why for d in self.datasets.values() for p, why in d.broken.items()}  # type: ignore[attr-defined]

    def setup(self, stage: str) -> None:
        for split in STAGES[stage]:
            if split not in self.datasets:
                self.datasets[split] = self.dataset(split)

    def train_dataloader(self) -> DataLoader[Sample]:
        return self.loader("train", self.workers, batch_sampler=self.batches())

    def val_dataloader(self) -> DataLoader[Sample]:
        return self._loader("val", self.eval_batch_size)

    def test_dataloader(self) -> DataLoader[Sample]:
        return self._loader("test", self.eval_batch_size)

    def batches(self) -> EpochBatches:
        """The training batches, by number; samples that fill no step of an epoch are left out."""
        step = self.batch_size * self.place[1]
        length = self.samples["train"] // step * step or self.samples["train"]
        return self.batches_of(Counted(length), length)

    def batches_of(self, order: Order, length: int) -> EpochBatches:
        """The training batches of an order, ``length`` samples an epoch, where a run stands."""
        fresh = self.fresh_each_epoch
        return EpochBatches(order, length, self.batch_size, *self.place, fresh, *self._resumed)

    def _loader(self, split: str, batch_size: int) -> DataLoader[Sample]:
        sampler = FixedSampler(self.samples[split], *self.place)
        return self.loader(split, 0, batch_size=batch_size, sampler=sampler)

    def state_dict(self) -> dict[str, int]:
        """Where training stands: what comes next, ``samples`` into ``epoch``, in steps of so many.

        The trainer's own count of the steps that were done; what workers made ahead is not seen.
        """
        if self.trainer is None:
            return {}
        loop = self.trainer.fit_loop
        epochs, batches = loop.epoch_progress.state_dict(), loop.epoch_loop.batch_progress
        counted, steps = epochs["current"], batches.state_dict()["current"]["processed"]
        epoch = counted["processed"]
        if epoch == counted["ready"]:  # between two epochs
            steps = 0
        elif steps >= self.trainer.num_training_batches:
            epoch, steps = epoch + 1, 0
        step = self.trainer.world_size * self.batch_size
        return {"epoch": epoch, "samples": steps * step, "step": step}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on where a checkpoint stands.

        Raises:
            UserError: it stands within an epoch, and steps had another size.
        """
        epoch, samples = state_dict["epoch"], state_dict["samples"]
        step = self.batch_size * (self.trainer.world_size if self.trainer else 1)
        if samples and step != state_dict["step"]:
            raise UserError(
                f"the checkpoint stands {samples} samples into an epoch in steps of "
                f"{state_dict['step']}, this run has steps of {step} (data.batch_size times "
                "trainer.devices); use the same, or a checkpoint of an epoch's end"
            )
        self._resumed = epoch, samples
        # Lightning looks for a loader with a state of its own; here the module has it.
        warnings.filterwarnings("ignore", "You're resuming from a checkpoint that ended before")

    @property
    def place(self) -> tuple[int, int]:
        """Which process this is, and of how many."""
        trainer = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer else (0, 1)

    def loader(self, split: str, workers: int, **order: Any) -> DataLoader[Sample]:
        """Batches of a split in an order: what a ``DataLoader`` takes for that."""
        device = self.trainer.strategy.root_device.type if self.trainer else "cpu"
        return DataLoader(
            self.datasets[split],
            num_workers=workers,
            # One alone would not keep up by what the steps leave over, and these would wait for it.
            worker_init_fn=partial(start_worker, device == "cpu" and workers > 1),
            generator=torch.Generator(),  # of its own: a loader draws a number when it begins
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
            pin_memory=device == "cuda",
            **order,
        )


def start_worker(give_way: bool, worker: int) -> None:
    """Leave it to the training process to stop, whose step wants its data, and let that go first.

    A signal to a run often reaches all of its processes.
    """
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    # Batches are handed over by name: of file descriptors, which are usual, the training process
    # asks for one a tensor, and waits. What removes the names is a process of torch's that begins
    # here, and ignores the signals that are ignored now.
    torch.multiprocessing.set_sharing_strategy("file_system")
    torch.empty(1).share_memory_()
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))
    if give_way:
        run_when_idle()


def run_when_idle() -> None:
    """Take a core only when nobody else wants it, and give it back at once.

    A step that shares a core with a worker is held up on all cores, since its threads wait for each
    other. Linux lets a process of the lowest priority (nice 19) end its slice of time first.
    """
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    elif hasattr(os, "nice"):
        os.nice(19)
