"""Pairs of marked and clean pictures from disk: the published sets, and the user's own.

What is not there is inferred: the mask from the opacity, or else from the difference of the two.
"""

from __future__ import annotations

import random
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
from torch.utils.data import DataLoader, Dataset

from clearmark.data.layouts import CARVED, Listing, Pair, divide, read_listing, sources
from clearmark.data.marked import Sample, Transform
from clearmark.data.photos import SPLITS, read_photo
from clearmark.data.splits import SplitsModule
from clearmark.errors import UserError
from clearmark.watermarks.pixels import differs

TARGETS = {"clean": "image", "colour": "image", "opacity": "mask"}
DIFFERS = 15  # of 255, summed over the channels: CLWD's rule for its masks
PAINTED = 25  # of 255: a mask's file says "mark" above a tenth of white, as published code reads it


class Pairs(Dataset[Sample]):
    """Pairs of one split, by (epoch, index).

    A sample holds uint8 arrays: ``marked`` and ``clean`` (H, W, 3), ``mask`` (H, W) in {0, 255},
    and, where the set has them, ``opacity`` (H, W) and ``colour`` (H, W, 3).

    Args:
        listing: the pairs, and what was left out.
        geometry: transform of all maps of a training sample; None gives whole pictures in order.
        seed: the first part of (seed, epoch, index).
        samples: samples of an epoch: training sees each pair once before it sees one twice,
            validation takes that many pictures, evenly spread; None takes all.
    """

    def __init__(
        self,
        listing: Listing,
        geometry: A.Compose | None = None,
        seed: int = 0,
        samples: int | None = None,
    ) -> None:
        self.pairs, self.broken = listing
        self.geometry, self.seed = geometry, seed
        self.samples = len(self.pairs) if samples is None else samples
        if geometry is None and self.samples < len(self.pairs):
            spread = np.linspace(0, len(self.pairs), self.samples, endpoint=False, dtype=int)
            self.pairs = [self.pairs[at] for at in spread]
        self._round, self._order = -1, np.arange(0)

    def __len__(self) -> int:
        return self.samples

    @property
    def uniform(self) -> bool:
        """Whether whole pictures fit into one batch."""
        return len({pair.size for pair in self.pairs}) == 1

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        if self.geometry is None:
            return self._read(index)
        # albumentations would draw the same numbers in every worker and every epoch.
        generator = np.random.default_rng((self.seed, epoch, index))
        self.geometry.set_random_state(generator, random.Random(int(generator.integers(2**63))))
        sample = self._read(self._shuffled(epoch * self.samples + index))
        made = self.geometry(image=sample.pop("marked"), **sample)
        return {"marked": made.pop("image"), **made}

    def _shuffled(self, position: int) -> int:
        """The pair at a position of an endless row of permutations."""
        turn, at = divmod(position, len(self.pairs))
        if turn != self._round:
            order = np.random.default_rng((self.seed, turn)).permutation(len(self.pairs))
            self._round, self._order = turn, order
        return int(self._order[at])

    def _read(self, number: int) -> Sample:
        for step in range(len(self.pairs)):
            pair = self.pairs[(number + step) % len(self.pairs)]
            sample = read_pair(pair)
            if sample is not None:
                return sample
            marked = pair.files["marked"]
            warnings.warn(f"skipped a pair that cannot be decoded: {marked}", stacklevel=2)
        raise UserError(f"none of the {len(self.pairs)} pairs can be decoded")


class Resized(Dataset[Sample]):
    """The samples of another dataset, each map resized to ``side`` x ``side`` pixels.

    Bilinear without a low-pass, and nearest for masks and opacities, as published code does it.
    """

    uniform = True

    def __init__(self, dataset: Dataset[Sample], side: int) -> None:
        self.dataset = dataset
        self.resize = A.Compose([A.Resize(side, side)], additional_targets=TARGETS)

    @property
    def broken(self) -> dict[Path, str]:
        """The files that were left out, each with the reason."""
        return self.dataset.broken  # type: ignore[attr-defined]

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        sample = dict(self.dataset[key])
        made = self.resize(image=sample.pop("marked"), **sample)
        return {"marked": made.pop("image"), **made}


class PairsModule(SplitsModule):
    """Reads pairs from disk, each split from its own folders where there are any.

    Without a folder for it, val is cut from train; without any, all three are cut from the whole.
    What is cut shares no clean picture, and no mark where the names tell it. Clean pictures are
    told by their names or their files' bytes (see ``Pair.background``).

    Args:
        root: the folder that holds the folders below.
        marked: folder of the marked pictures below the root; ``{split}`` in it stands for train,
            val and test. Without it, ROOT/train/MARKED etc. are taken if they are there.
        clean: the clean pictures, of the same names as the marked ones.
        mask: black and white, white where the mark is; a missing folder is inferred.
        opacity: of the mark, white for opaque; may be missing.
        colour: of the mark; may be missing.
        names: regular expression that reads ``background`` and ``mark`` from a file's name.
        whole: "test" takes pictures without splits of their own as a test set, undivided.
        augment: albumentations of a training sample after the crop.
        crop: side of the square that training looks at; None looks at whole pictures.
        on_mark: share of the crops that are sure to hold a pixel of the mark.
        size: validation and test pictures are resized to that side; None keeps them, in batches of
            one where sizes differ.
        samples_per_epoch: training samples that make an epoch; None for as many as there are pairs.
        val_samples: pictures of the validation split to look at; None for all.
        fresh_each_epoch: False trains on the same samples in every epoch.
        batch_size: samples per training step.
        eval_batch_size: samples per validation or test step.
        workers: processes that make samples; 0 makes them in the training process.
        seed: of the training samples.
    """

    def __init__(
        self,
        root: str,
        marked: str,
        clean: str,
        mask: str | None = None,
        opacity: str | None = None,
        colour: str | None = None,
        names: str | None = None,
        whole: str | None = None,
        augment: Sequence[Transform] = (),
        crop: int | None = 128,
        on_mark: float = 0.7,
        size: int | None = None,
        samples_per_epoch: int | None = None,
        val_samples: int | None = None,
        fresh_each_epoch: bool = True,
        batch_size: int = 16,
        eval_batch_size: int = 8,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__({}, batch_size, eval_batch_size, workers, fresh_each_epoch)
        if names is not None:
            _check_names(names)
        maps = {"marked": marked, "clean": clean, "mask": mask, "opacity": opacity}
        maps["colour"] = colour
        self.folders = {key: folder for key, folder in maps.items() if folder is not None}
        self.root, self.names, self.whole = Path(root).expanduser(), names, whole
        self.geometry = _geometry(crop, on_mark, augment)
        self.size, self.seed = size, seed
        self.wanted = {"train": samples_per_epoch, "val": val_samples}
        self._listed: dict[str, Listing] = {}

    def dataset(self, split: str) -> Dataset[Sample]:
        """The pairs of a split: cropped and augmented for train, whole and in order otherwise."""
        listing = self.listing(split)
        if not listing.pairs:
            raise UserError(
                f"data.root={self.root} has no usable pair in the split '{split}' "
                f"({len(listing.broken)} files were left out); add more pairs"
            )
        wanted = self.wanted.get(split)
        if split != "train":
            pairs = Pairs(listing, samples=None if wanted is None else min(wanted, len(listing[0])))
            self.samples[split] = len(pairs)
            return pairs if self.size is None else Resized(pairs, self.size)
        pairs = Pairs(listing, self.geometry, self.seed, wanted)
        self.samples[split] = len(pairs)
        if len(pairs) < self.batch_size:
            raise UserError(
                f"data.batch_size={self.batch_size} exceeds the {len(pairs)} training samples of "
                f"an epoch; use {len(pairs)} or less"
            )
        return pairs

    def val_dataloader(self) -> DataLoader[Sample]:
        return self._loader("val", self._whole_batch("val"))

    def test_dataloader(self) -> DataLoader[Sample]:
        return self._loader("test", self._whole_batch("test"))

    def _whole_batch(self, split: str) -> int:
        return self.eval_batch_size if self.datasets[split].uniform else 1  # type: ignore[attr-defined]

    def listing(self, split: str) -> Listing:
        """The pairs of a split, and what was left out.

        Raises:
            UserError: there is no such split and none it may be cut from.
        """
        found = sources(self.root, self.folders)
        if "all" in found:
            if self.whole is None:
                return divide(self._read("all", found["all"]), SPLITS)[split]
            if split == self.whole:
                return self._read("all", found["all"])
        elif split in found and (split != "train" or "val" in found):
            return self._read(split, found[split])
        elif split != "test" and "train" in found:
            return divide(self._read("train", found["train"]), CARVED)[split]
        raise UserError(
            f"data.root={self.root} has no split '{split}': its folders are those of "
            f"{', '.join(found) if 'all' not in found else self.whole}"
        )

    def _read(self, source: str, folders: dict[str, Path]) -> Listing:
        if source not in self._listed:
            self._listed[source] = read_listing(folders, self.names)
            if "mask" not in folders or not folders["mask"].is_dir():
                known = "opacity" in folders and folders["opacity"].is_dir()
                where = "it is visible" if known else "marked and clean differ"
                print(f"{folders['marked']}: no masks given; the mark is taken to be where {where}")
        return self._listed[source]


def read_pair(pair: Pair) -> Sample | None:
    """Decode a pair, with the mask; None if that cannot be done or the sizes differ."""
    sample = {}
    for key, path in pair.files.items():
        values = _read_grey(path) if key in ("mask", "opacity") else read_photo(Path(path))
        if values is None:
            return None
        sample[key] = values
    if len({values.shape[:2] for values in sample.values()}) > 1:
        return None
    if "mask" in sample:
        where = sample["mask"] > PAINTED
    elif "opacity" in sample:
        where = sample["opacity"] > 1
    else:
        where = differs(sample["marked"], sample["clean"], DIFFERS)
    return sample | {"mask": where.astype(np.uint8) * 255}


def _check_names(names: str) -> None:
    try:
        told = re.compile(names).groupindex
    except re.error as error:
        raise UserError(f"data.names={names} is no regular expression: {error}") from error
    if lacking := {"background", "mark"} - told.keys():
        raise UserError(
            f"data.names={names} lacks the group {' and '.join(sorted(lacking))}; write it as "
            f"(?P<{min(lacking)}>...)"
        )


def _read_grey(path: str) -> np.ndarray | None:
    try:
        return cv2.imread(path, cv2.IMREAD_GRAYSCALE)
    except cv2.error:
        return None


def _geometry(crop: int | None, on_mark: float, augment: Sequence[Transform]) -> A.Compose:
    """The same window and flip for all maps; smaller pictures grow by reflection."""
    steps: list[Transform] = []
    if crop is not None:
        steps = [
            A.PadIfNeeded(crop, crop, border_mode=cv2.BORDER_REFLECT),
            A.OneOrOther(
                A.CropNonEmptyMaskIfExists(crop, crop), A.RandomCrop(crop, crop), p=on_mark
            ),
        ]
    return A.Compose([*steps, *augment], additional_targets=TARGETS)
