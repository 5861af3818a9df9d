"""Whether these are the pictures of a version: SHA-256 of all, of each family and of each picture.

The pixels rest on the versions of the libraries that draw, and in a few places on the processor.
So each picture also has a coarse sketch, which says whether pictures that fail the checksum are
others, or the same ones rounded differently.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import features

from clearmark.benchmark.frozen import BenchSample
from clearmark.errors import UserError

CELLS = 4
"""Rows and columns of a sketch."""

NEAR = 1
"""Levels of 255 by which the cells of two sketches may differ for rounding alone."""

LIBRARIES = ("albumentations", "numpy", "opencv-python-headless", "pillow", "scipy")


class Fingerprint(NamedTuple):
    """What is kept of a picture: its size, its checksum, and the sketch as hexadecimal digits."""

    name: str
    family: str
    height: int
    width: int
    sha256: str
    sketch: str


def fingerprint(sample: BenchSample) -> Fingerprint:
    """What is kept of a picture.

    The checksum is over the size, the marked and the clean picture, the opacity, and the colour
    where there is a mark.
    """
    height, width = sample.opacity.shape
    colour = sample.colour * (sample.opacity > 0)[..., None]
    digest = hashlib.sha256(f"{height}x{width}".encode())
    for values in (sample.marked, sample.clean, sample.opacity, colour):
        digest.update(np.ascontiguousarray(values).tobytes())
    cells = [_cells(sample.marked.mean(2)), _cells(sample.opacity)]
    sketch = np.rint(np.concatenate(cells)).astype(np.uint8).tobytes().hex()
    return Fingerprint(sample.name, sample.family, height, width, digest.hexdigest(), sketch)


def _cells(values: np.ndarray) -> np.ndarray:
    """Means of a grid of cells, flattened."""
    bands = np.array_split(values, CELLS)
    return np.array([cell.mean() for band in bands for cell in np.array_split(band, CELLS, axis=1)])


def digest(prints: Sequence[Fingerprint]) -> str:
    """The checksum of several pictures: of their own checksums, a line each, in order."""
    return hashlib.sha256("".join(f"{p.sha256}\n" for p in prints).encode()).hexdigest()


def record(prints: Sequence[Fingerprint], edges: Sequence[float]) -> dict[str, Any]:
    """What a version's JSON file holds; ``edges`` are the terciles of the background texture."""
    families = {name: [p for p in prints if p.family == name] for name in _families(prints)}
    freetype = features.version("freetype2")
    return {
        "sha256": digest(prints),
        "families": {name: digest(own) for name, own in families.items()},
        "texture": [round(edge, 3) for edge in edges],
        "made_with": {name: version(name) for name in LIBRARIES} | {"freetype": freetype},
        "samples": {p.name: f"{p.height}x{p.width} {p.sha256} {p.sketch}" for p in prints},
    }


def verify(prints: Sequence[Fingerprint], frozen: Mapping[str, Any]) -> str:
    """Returns "exact", or "rounded" if the pictures are those of the record up to rounding.

    Raises:
        UserError: they are other pictures; names the families.
    """
    if digest(prints) == frozen["sha256"]:
        return "exact"
    samples = frozen["samples"]
    wrong = [p for p in prints if p.name not in samples or not _near(p, samples[p.name])]
    if wrong or len(prints) != len(samples):
        made, here = frozen["made_with"], {name: version(name) for name in LIBRARIES}
        other = [f"{name} {v} for {made[name]}" for name, v in here.items() if v != made[name]]
        raise UserError(
            f"these are not the frozen pictures: {len(wrong)} of {len(samples)} differ, in "
            f"{', '.join(_families(wrong)) or 'no family'}; undo changes to the set, or install "
            "with -c constraints.txt" + (f" (here: {', '.join(other)})" if other else "")
        )
    return "rounded"


def _near(print_: Fingerprint, kept: str) -> bool:
    size, _, sketch = kept.split()
    here, there = (np.frombuffer(bytes.fromhex(s), np.uint8) for s in (print_.sketch, sketch))
    return size == f"{print_.height}x{print_.width}" and bool(
        (cv2.absdiff(here, there) <= NEAR).all()
    )


def _families(prints: Sequence[Fingerprint]) -> list[str]:
    return list(dict.fromkeys(p.family for p in prints))
