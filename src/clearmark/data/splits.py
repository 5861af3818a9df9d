"""What all sources of pictures have in common: three splits, and the loaders that batch them."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from torch.utils.data import DataLoader, Dataset

from clearmark.data.marked import EpochSampler, Sample

STAGES = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}


class SplitsModule(L.LightningDataModule):
    """Batches of a train, a val and a test split.

    ``datasets[split][epoch, index]`` is a sample (see ``MarkedPhotos``): a source of pictures says
    in ``dataset`` what that is.

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
        return self._loader("train", self.batch_size, self.workers)

    def val_dataloader(self) -> DataLoader[Sample]:
        return self._loader("val", self.eval_batch_size, 0)

    def test_dataloader(self) -> DataLoader[Sample]:
        return self._loader("test", self.eval_batch_size, 0)

    def _loader(self, split: str, batch_size: int, workers: int) -> DataLoader[Sample]:
        fresh = self.fresh_each_epoch and split == "train"
        sampler = EpochSampler(self.samples[split], *self.place, fresh)
        return self.loader(
            split, workers, batch_size=batch_size, sampler=sampler, drop_last=split == "train"
        )

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
            worker_init_fn=give_way if device == "cpu" else None,
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
            pin_memory=device == "cuda",
            **order,
        )


def give_way(worker: int) -> None:
    """Let the training step go first.

    A step that shares a core with a worker is held up on all cores, since its threads wait for each
    other; at the lowest priority the workers run while it waits for data.
    """
    if hasattr(os, "nice"):
        os.nice(19)
