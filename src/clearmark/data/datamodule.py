"""Clean photos, marked on the fly: three splits that share neither photos nor marks."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import albumentations as A

from clearmark.data.marked import MarkedPhotos, Transform
from clearmark.data.photos import Photos, list_photos, split_below
from clearmark.data.splits import SplitsModule
from clearmark.errors import UserError
from clearmark.watermarks import MarkAssets
from clearmark.watermarks.assets import EMBEDDED


class PhotosModule(SplitsModule):
    """Marks clean photos on the fly.

    Args:
        watermark: transform that blends marks in.
        root: folder of clean photos, split by its folders train, val and test, or without them by
            a hash of each file's name; None takes the embedded photos, which come split.
        train_photos: train on that many photos only, drawn by the seed; None takes all.
        stand_in: take the embedded photos of a split where ``root`` has none for it, and say so.
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
        linear: share of the pictures whose marks are blended in linear light.
        degradation: transform of the marked pictures alone, of all splits (see ``MarkedPhotos``).
        mask_above: change of a pixel from which on it is masked (see ``MarkedPhotos``).
    """

    def __init__(
        self,
        watermark: Transform,
        root: str | None = None,
        train_photos: int | None = None,
        stand_in: bool = False,
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
        linear: float = 0.0,
        degradation: Transform | None = None,
        mask_above: int | None = None,
    ) -> None:
        samples = {"train": samples_per_epoch, "val": val_samples, "test": test_samples}
        super().__init__(samples, batch_size, eval_batch_size, workers, fresh_each_epoch)
        if crop > size:
            raise UserError(f"data.crop={crop} exceeds data.size={size}; use {size} or less")
        self.watermark, self.root, self.augment = watermark, root, list(augment)
        self.train_photos, self.stand_in = train_photos, stand_in
        self.size, self.crop, self.on_mark, self.unmarked = size, crop, on_mark, unmarked
        self.short_side, self.cache_mb = max(short_side, size), cache_mb
        self.seed, self.eval_seed = seed, eval_seed
        self.linear, self.degradation, self.mask_above = linear, degradation, mask_above

    def dataset(self, split: str) -> MarkedPhotos:
        """The samples of a split: augmented and cropped for train, whole for val and test."""
        training = split == "train"
        return MarkedPhotos(
            self.photos(split),
            MarkAssets.load(split),
            geometry=self.geometry(split),
            watermark=self.watermark,
            seed=self.seed if training else self.eval_seed,
            unmarked=self.unmarked if training else 0.0,
            crop=self.crop if training and self.crop < self.size else None,
            on_mark=self.on_mark,
            in_order=not training,
            linear=self.linear,
            degradation=self.degradation,
            mask_above=self.mask_above,
        )

    def geometry(self, split: str) -> A.Compose:
        """What becomes of a clean photo of a split before it is marked."""
        augment = self.augment if split == "train" else []
        return A.Compose([A.RandomCrop(self.size, self.size), *augment])

    def photos(self, split: str) -> Photos:
        """The clean photos of a split."""
        paths = self._listed(split)
        if split == "train" and self.train_photos is not None:
            paths = self._drawn(paths, self.train_photos)
        photos = Photos(paths, self.short_side, self.size, self.cache_mb)
        if not len(photos):
            raise UserError(f"all {len(paths)} photos of the split '{split}' are broken")
        return photos

    def _listed(self, split: str) -> list[Path]:
        """The files of a split, broken ones too."""
        embedded = EMBEDDED / "photos" / split
        if self.root is None:
            return list_photos(embedded)
        root = Path(self.root).expanduser()
        every = list_photos(root)
        if paths := [path for path in every if split_below(root, path) == split]:
            return paths
        none = f"data.root={self.root}: none of its {len(every)} photos falls into '{split}'"
        if not self.stand_in:
            raise UserError(
                f"{none} (by its folders train, val and test, or else by file name: 80 % train, "
                "10 % val, 10 % test); add more photos, or data.stand_in=true for the embedded ones"
            )
        paths = list_photos(embedded)
        print(f"{none}; {len(paths)} embedded ones stand in")
        return paths

    def _drawn(self, paths: Sequence[Path], count: int) -> list[Path]:
        """So many of the paths; fewer are among those that more would be."""
        if not 0 < count <= len(paths):
            raise UserError(
                f"data.train_photos={count}: the training split has {len(paths)} photos; use 1 to "
                f"{len(paths)}, or null for all"
            )
        return random.Random(self.seed).sample(sorted(paths), len(paths))[:count]
