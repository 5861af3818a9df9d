"""Clean photos in shards: tar files as WebDataset lays them out, with an index beside them.

The index tells where in its shard each photo lies, so that photo number n is one read away and
(seed, epoch, index) still tells all of a sample. Nothing is unpacked, no list of the photos is held
in memory, and nothing in a shard is ever decoded but as a picture.
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from clearmark.data.datamodule import PhotosModule
from clearmark.data.marked import MarkedPhotos
from clearmark.data.order import EpochBatches, ShardOrder
from clearmark.data.photos import Photos, decode_photo
from clearmark.errors import UserError

CONTENTS, VERSION = "shards.json", 1
ROW = np.dtype("<u8")  # the index of a split: offset and size in its shard, photo after photo
OPEN = 64  # shards that a process keeps open


class Shard(NamedTuple):
    """A tar file of one split: its name, how many photos it holds, and its size in bytes."""

    name: str
    photos: int
    size: int


def index_path(root: Path, split: str) -> Path:
    """Where the index of a split lies."""
    return root / f"{split}.index"


def read_contents(root: Path) -> dict[str, list[Shard]]:
    """The shards of each split.

    Raises:
        UserError: ``root`` is no folder of shards, or of another version.
    """
    path = root / CONTENTS
    if not path.is_file():
        raise UserError(
            f"data.root={root} holds no {CONTENTS}; make it of a folder of photos with "
            f"python src/pack.py input=... output={root}"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, splits = content["version"], content["splits"]
        found = {split: [Shard(*map(_plain, row)) for row in splits[split]] for split in splits}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}); pack the photos again") from error
    if version != VERSION:
        raise UserError(f"{path} is of version {version}, this is {VERSION}; pack again")
    return found


def _plain(value: Any) -> Any:
    """A count, or the name of a file in the same folder and nowhere else."""
    fine = value >= 0 if type(value) is int else value == Path(value).name != ""
    if not fine:
        raise ValueError(f"{value!r} is neither a name nor a count")
    return value


class ShardedPhotos(Photos):
    """The photos of one split as uint8 RGB (H, W, 3), read from the shards one by one.

    Memory does not grow with their number: a process keeps the last few shards open, each with its
    part of the index.

    Args:
        root: folder of shards.
        split: "train", "val" or "test".
        short_side: larger photos are reduced to this many pixels on the shorter side.
        smallest: smaller photos are padded by reflection to this many pixels a side.

    Raises:
        UserError: the split is empty, or a file is missing or not as long as it was when packed.
    """

    def __init__(self, root: Path, split: str, short_side: int, smallest: int) -> None:
        self.root, self.split, self.short_side, self.smallest = root, split, short_side, smallest
        self.shards = [shard for shard in read_contents(root).get(split, []) if shard.photos]
        if not self.shards:
            raise UserError(f"data.root={root} has no photos in the split '{split}'; pack more")
        self._index = index_path(root, split)
        counts = np.array([shard.photos for shard in self.shards], np.int64)
        self.end = np.cumsum(counts)
        rows = int(self.end[-1]) * 2 * ROW.itemsize
        for path, size in [(root / s.name, s.size) for s in self.shards] + [(self._index, rows)]:
            if not path.is_file() or path.stat().st_size != size:
                raise UserError(f"{path} is missing or was changed after packing; pack again")
        self.broken, self._kept = {}, {}
        self._open: OrderedDict[int, tuple[BinaryIO, np.ndarray]] = OrderedDict()

    def __len__(self) -> int:
        return int(self.end[-1])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": OrderedDict()}  # open files do not travel

    def read(self, number: int) -> np.ndarray | None:
        """One photo from its shard; None if it does not decode."""
        return decode_photo(self.content(number), self.short_side)

    def name(self, number: int) -> str:
        """The shard and where in it."""
        shard, row = self._place(number)
        return f"{self.root / self.shards[shard].name}, photo {row}"

    def content(self, number: int) -> bytes:
        """The file of a photo as it was packed."""
        shard, row = self._place(number)
        file, rows = self._opened(shard)
        # Reads where it is told to, so processes that were forked may share the open file.
        return os.pread(file.fileno(), int(rows[row, 1]), int(rows[row, 0]))

    def _place(self, number: int) -> tuple[int, int]:
        shard = int(np.searchsorted(self.end, number, side="right"))
        return shard, number - int(self.end[shard]) + self.shards[shard].photos

    def _opened(self, shard: int) -> tuple[BinaryIO, np.ndarray]:
        if shard not in self._open:
            photos, size = self.shards[shard].photos, self.shards[shard].size
            first = (int(self.end[shard]) - photos) * 2 * ROW.itemsize
            rows = np.fromfile(self._index, ROW, 2 * photos, offset=first).reshape(photos, 2)
            if rows.max() > size or rows.sum(1).max() > size:
                raise UserError(f"{self._index} does not fit {self.shards[shard].name}; pack again")
            while len(self._open) >= OPEN:
                self._open.popitem(last=False)[1][0].close()
            file = (self.root / self.shards[shard].name).open("rb", buffering=0)
            self._open[shard] = file, rows
        self._open.move_to_end(shard)
        return self._open[shard]


class ShardsModule(PhotosModule):
    """Marks clean photos on the fly that lie packed in shards, split when they were packed.

    An epoch takes the next ``samples_per_epoch`` photos of an order in which each comes once per
    pass over the shards.

    Args:
        root: folder that ``src/pack.py`` made.
        mix: shards whose photos are mixed when they are shuffled.
        samples_per_epoch: training samples that make an epoch; None takes every photo once.
        photos: what ``PhotosModule`` takes; ``cache_mb`` has no use here.
    """

    def __init__(
        self, root: str, mix: int = 16, samples_per_epoch: int | None = None, **photos: Any
    ) -> None:
        if mix < 1:
            raise UserError(f"data.mix={mix} mixes nothing; use 1 or more")
        held = sum(s.photos for s in read_contents(Path(root).expanduser()).get("train", []))
        super().__init__(root=root, samples_per_epoch=samples_per_epoch or held, **photos)
        self.mix = mix

    def photos(self, split: str) -> ShardedPhotos:
        """The clean photos of a split."""
        if self.train_photos is not None:
            raise UserError(
                f"data.train_photos={self.train_photos}: shards are read in their order, all of "
                "them; pack fewer photos, or use data=folder"
            )
        root = Path(str(self.root)).expanduser()
        return ShardedPhotos(root, split, self.short_side, self.size)

    def dataset(self, split: str) -> MarkedPhotos:
        """The samples of a split by (epoch, number of the photo); in training the pass counts."""
        dataset = super().dataset(split)
        dataset.in_order = True
        return dataset

    def batches(self) -> EpochBatches:
        """Those of an order in which none of the photos is dropped."""
        dataset = self.datasets["train"]
        assert isinstance(dataset, MarkedPhotos)
        assert isinstance(dataset.photos, ShardedPhotos)
        counts = [shard.photos for shard in dataset.photos.shards]
        return self.batches_of(ShardOrder(counts, self.seed, self.mix), self.samples["train"])
