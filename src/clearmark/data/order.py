"""The order that samples are trained on in: shuffled or not, shared out, taken up again.

An order is a pure function of its seed, made as it is needed, so that a run can go on anywhere in
it; a pass takes every sample once. That of shards is shuffled a few shards at a time, and needs no
list of all photos.
"""

from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import Protocol

import numpy as np
from torch.utils.data import Sampler

from clearmark.errors import UserError

Key = tuple[int, int]
ORDER = 1  # keeps these random numbers apart from those of the samples, drawn of (seed, pass, i)


class Order(Protocol):
    """An endless row of keys, the same each time."""

    def start(self, position: int) -> Iterator[Key]:
        """(pass, number of the sample) of all positions from one on."""


class Counted:
    """The samples by their numbers, 0 to ``length`` - 1 in each pass."""

    def __init__(self, length: int) -> None:
        self.length = length

    def start(self, position: int) -> Iterator[Key]:
        """(pass, number) of all positions from one on, pass after pass, endlessly."""
        return (divmod(at, self.length) for at in count(position))


class ShardOrder:
    """Shuffles the shards, then the photos of ``mix`` shards at a time.

    So a reader works on ``mix`` shards and reads them to their ends before it opens others.

    Args:
        photos: how many photos each shard holds.
        seed: the first part of (seed, pass).
        mix: shards whose photos are mixed.
    """

    def __init__(self, photos: Sequence[int], seed: int, mix: int) -> None:
        self.photos = np.asarray(photos, np.int64)
        self.first = np.cumsum(self.photos) - self.photos
        self.seed, self.mix, self.length = seed, mix, int(self.photos.sum())

    def start(self, position: int) -> Iterator[Key]:
        """(pass, number of the photo) of all positions from one on, pass after pass, endlessly."""
        at_pass, skip = divmod(position, self.length)
        while True:
            shuffled = self._generator(at_pass, 0).permutation(len(self.photos))
            for at in range(0, len(shuffled), self.mix):
                group = shuffled[at : at + self.mix]
                held = int(self.photos[group].sum())
                if skip < held:
                    numbers = np.concatenate(
                        [np.arange(self.photos[shard]) + self.first[shard] for shard in group]
                    )
                    self._generator(at_pass, 1 + at).shuffle(numbers)
                    yield from ((at_pass, number) for number in numbers[skip:].tolist())
                skip = max(0, skip - held)
            at_pass += 1

    def _generator(self, at_pass: int, part: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, at_pass, part, ORDER))


class EpochBatches(Sampler[list[Key]]):
    """Batches of one process: a step takes the next ``world * batch_size`` positions of the order.

    Every process has the same number of batches, none is empty, and no sample is repeated or left
    out: where the samples do not divide, the batches of the last step alone are smaller, or, if
    fewer samples than processes would be left for it, some are larger by one.

    Args:
        order: what the samples are.
        length: samples of an epoch, over all processes.
        batch_size: samples per process and step.
        rank: which process this is, of ``world``.
        world: how many processes there are.
        fresh: False repeats the samples of epoch 0 in every epoch.
        epoch: the epoch that comes next.
        seen: samples of that epoch, over all processes, that a run before this one has seen.

    Raises:
        UserError: there are fewer samples than processes.
    """

    def __init__(
        self,
        order: Order,
        length: int,
        batch_size: int,
        rank: int = 0,
        world: int = 1,
        fresh: bool = True,
        epoch: int = 0,
        seen: int = 0,
    ) -> None:
        if 0 < length - seen < world or length < 1:
            raise UserError(
                f"{length - seen} samples cannot be shared out to {world} processes; use more "
                f"photos, or trainer.devices={max(1, length - seen)} or less"
            )
        self.order, self.length, self.step = order, length, world * batch_size
        self.rank, self.world, self.fresh = rank, world, fresh
        self.epoch, self._resumed, self._seen = epoch, epoch, seen

    @property
    def sampler(self) -> "EpochBatches":
        """Where Lightning looks for ``set_epoch``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    @property
    def seen(self) -> int:
        """Samples of the epoch that a run before this one has seen."""
        return self._seen if self.epoch == self._resumed else 0

    def __len__(self) -> int:
        """Batches of the whole epoch, with those that were seen before."""
        return self.seen // self.step + self._steps(self.length - self.seen)

    def __iter__(self) -> Iterator[list[Key]]:
        left = self.length - self.seen
        steps = self._steps(left)
        keys = self.order.start((self.epoch if self.fresh else 0) * self.length + self.seen)
        for step in range(steps):
            size = self.step if step + 1 < steps else left - step * self.step
            low, high = (size * rank // self.world for rank in (self.rank, self.rank + 1))
            yield list(islice(keys, size))[low:high]

    def _steps(self, samples: int) -> int:
        whole, rest = divmod(samples, self.step)
        return whole + (rest >= self.world or (rest > 0 and not whole))
