"""The pictures of MarkBench: each a pure function of its number, from the embedded test split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from clearmark.data.marked import MarkedPhotos
from clearmark.data.photos import Photos, list_photos
from clearmark.formation import visible
from clearmark.watermarks import MarkAssets
from clearmark.watermarks.assets import EMBEDDED

LONGEST = 512  # pixels; no embedded photo has more on its short side, so none is reduced
SMALLEST = 256


class BenchSample(NamedTuple):
    """One picture of the set, all arrays uint8; 255 stands for 1.

    marked, clean and colour are (H, W, 3), opacity is (H, W). The marked picture is what
    ``formation.blend`` makes of the last three, or ``formation.blend_linear`` if ``linear``; in a
    family with a degradation it went through that afterwards.
    """

    name: str
    family: str
    size: str
    photo: str
    linear: bool
    marked: np.ndarray
    clean: np.ndarray
    opacity: np.ndarray
    colour: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """Where the mark is, (H, W) bool."""
        return visible(self.opacity / 255)


class MarkBench(Sequence[BenchSample]):
    """The set as its version's YAML defines it: ``samples`` of every size of every family.

    Photos are taken in turn, so that a family shows each at most once and all families together
    show all of them about equally often.

    Args:
        version: the set's name among its versions.
        seed: of all marks and crops.
        sizes: name -> ``samples`` in each family and the ``geometry`` of the photo.
        families: name -> what ``MarkedPhotos`` takes beside photos, assets, geometry and seed.
    """

    def __init__(
        self,
        version: str,
        seed: int,
        sizes: Mapping[str, Mapping[str, Any]],
        families: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.version, self.seed = version, seed
        self.photos = Photos(list_photos(EMBEDDED / "photos" / "test"), LONGEST, SMALLEST)
        assets = MarkAssets.load("test")
        self.places: list[tuple[str, str]] = []
        self.sources: dict[tuple[str, str], MarkedPhotos] = {}
        for family, marks in families.items():
            for size, cut in sizes.items():
                self.places += [(family, size)] * cut["samples"]
                self.sources[family, size] = MarkedPhotos(
                    self.photos, assets, cut["geometry"], seed=seed, in_order=True, **marks
                )

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> BenchSample:  # type: ignore[override]
        family, size = self.places[index]  # IndexError ends an iteration
        index %= len(self)
        source = self.sources[family, size]
        made = source[0, index]
        return BenchSample(
            name=self.name(index),
            family=family,
            size=size,
            photo=self.photos.paths[index % len(self.photos)].stem,
            linear=source.linear == 1,
            marked=made["marked"],
            clean=made["clean"],
            opacity=made["opacity"],
            colour=made["colour"],
        )

    def name(self, index: int) -> str:
        """The name of a picture; it tells neither the family nor whether there is a mark."""
        return f"markbench-{self.version}-{index:04}"
