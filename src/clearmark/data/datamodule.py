"""The LightningDataModule: three splits of marked photos that share neither photos nor marks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import albumentations as A
import lightning as L
from torch.utils.data import DataLoader

from clearmark.data.marked import EpochSampler, MarkedPhotos, Sample, Transform
from clearmark.data.photos import Photos, list_photos, split_of
from clearmark.errors import UserError
from clearmark.watermarks import MarkAssets
from clearmark.watermarks.assets import EMBEDDED


class PhotosModule(L.LightningDataModule):
    """Marks clean photos on the fly.

    Args:
        watermark: transform that blends marks in.
        root: folder of clean photos, split by a hash of each file's name; None takes the embedded
            photos, which come split.
        augment: albumentations of the clean training picture of ``size``.
        size: side in pixels of the square that is cut from a photo and marked.
        crop: side of the square of it that training looks at; validation and test see all of it.
        on_mark: share of the training crops that are sure to hold a piece of the mark.
        unmarked: share of the training pictures without any mark.
        short_side: larger photos are reduced to that many pixels on the shorter side.
        samples_per_epoch: training samples that make an epoch.
        val_samples: validation samples, the same ones each time.
        test_samples: test samples, the same ones for every run.
        fresh_each_epoch: False trains on the same ``samples_per_epoch`` samples in every epoch.
        batch_size: samples per training step.
        eval_batch_size: samples per validation or test step.
        workers: processes that make samples; 0 makes them in the training process.
        cache_mb: decoded photos are kept in memory up to that many megabytes.
        seed: of the training samples.
        eval_seed: of the validation and test samples; leave it alone, or runs do not compare.
    """

    def __init__(
        self,
        watermark: Transform,
        root: str | None = None,
        augment: Sequence[Transform] = (),
        size: int = 256,
        crop: int = 128,
        on_mark: float = 0.7,
        unmarked: float = 0.1,
        short_side: int = 512,
        samples_per_epoch: int = 4096,
        val_samples: int = 64,
        test_samples: int = 248,
        fresh_each_epoch: bool = True,
        batch_size: int = 16,
        eval_batch_size: int = 8,
        workers: int = 0,
        cache_mb: int = 2000,
        seed: int = 0,
        eval_seed: int = 0,
    ) -> None:
        super().__init__()
        if crop > size:
            raise UserError(f"data.crop={crop} exceeds data.size={size}; use {size} or less")
        self.watermark, self.root, self.augment = watermark, root, list(augment)
        self.size, self.crop, self.on_mark, self.unmarked = size, crop, on_mark, unmarked
        self.short_side, self.cache_mb, self.workers = max(short_side, size), cache_mb, workers
        self.samples = {"train": samples_per_epoch, "val": val_samples, "test": test_samples}
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.fresh_each_epoch, self.seed, self.eval_seed = fresh_each_epoch, seed, eval_seed
        self.datasets: dict[str, MarkedPhotos] = {}

    def setup(self, stage: str) -> None:
        splits = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}[stage]
        for split in splits:
            if split not in self.datasets:
                self.datasets[split] = self.dataset(split)

    def dataset(self, split: str) -> MarkedPhotos:
        """The samples of a split: augmented and cropped for train, whole for val and test."""
        training = split == "train"
        augment = self.augment if training else []
        return MarkedPhotos(
            self.photos(split),
            MarkAssets.load(split),
            geometry=A.Compose([A.RandomCrop(self.size, self.size), *augment]),
            watermark=self.watermark,
            seed=self.seed if training else self.eval_seed,
            unmarked=self.unmarked if training else 0.0,
            crop=self.crop if training and self.crop < self.size else None,
            on_mark=self.on_mark,
            in_order=not training,
        )

    def photos(self, split: str) -> Photos:
        """The clean photos of a split."""
        if self.root is None:
            paths = list_photos(EMBEDDED / "photos" / split)
        else:
            every = list_photos(Path(self.root))
            paths = [path for path in every if split_of(path) == split]
            if not paths:
                raise UserError(
                    f"data.root={self.root} has {len(every)} photos and none falls into the split "
                    f"'{split}' (80 % train, 10 % val, 10 % test by file name); add more photos"
                )
        photos = Photos(paths, self.short_side, self.size, self.cache_mb)
        if not len(photos):
            raise UserError(f"all {len(paths)} photos of the split '{split}' are broken")
        return photos

    @property
    def broken(self) -> dict[Path, str]:
        """The photos that were left out so far, each with the reason."""
        return {p: why for d in self.datasets.values() for p, why in d.photos.broken.items()}

    def train_dataloader(self) -> DataLoader[Sample]:
        return self._loader("train", self.batch_size, self.workers)

    def val_dataloader(self) -> DataLoader[Sample]:
        return self._loader("val", self.eval_batch_size, 0)

    def test_dataloader(self) -> DataLoader[Sample]:
        return self._loader("test", self.eval_batch_size, 0)

    def _loader(self, split: str, batch_size: int, workers: int) -> DataLoader[Sample]:
        trainer = self.trainer
        rank, world = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        fresh = self.fresh_each_epoch and split == "train"
        return DataLoader(
            self.datasets[split],
            batch_size=batch_size,
            sampler=EpochSampler(self.samples[split], rank, world, fresh),
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
            drop_last=split == "train",
            pin_memory=trainer is not None and trainer.strategy.root_device.type == "cuda",
        )
