"""What is measured: a network, somebody's restored pictures, and the baselines to set beside them.

A remover maps a sample to its restored picture (H, W, 3) uint8 and where it saw a mark, (H, W)
bool, or None. A network sees the marked picture alone; the baselines are told the truth about the
mark, each as much as its name says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from PIL import Image
from torch import nn

from clearmark.benchmark.checksum import Fingerprint
from clearmark.benchmark.frozen import BenchSample
from clearmark.data.photos import read_photo
from clearmark.errors import UserError
from clearmark.formation import invert, invert_linear
from clearmark.inference import restore
from clearmark.pictures import KINDS

Answer: TypeAlias = tuple[np.ndarray, np.ndarray | None]
Remover: TypeAlias = Callable[[BenchSample], Answer]

RADIUS = 3
"""Pixels around a hole that OpenCV's inpainting looks at; its own examples take 3."""

MASK = "_mask"
"""What the name of a predicted mask ends in, beside its picture."""


def nothing(sample: BenchSample) -> Answer:
    """Leave the mark where it is."""
    return sample.marked, None


def telea(sample: BenchSample) -> Answer:
    """Fill the true mask by fast marching (Telea 2004)."""
    return cv2.inpaint(sample.marked, _hole(sample), RADIUS, cv2.INPAINT_TELEA), sample.mask


def navier_stokes(sample: BenchSample) -> Answer:
    """Fill the true mask along the isophotes around it (Bertalmio et al. 2001)."""
    return cv2.inpaint(sample.marked, _hole(sample), RADIUS, cv2.INPAINT_NS), sample.mask


def inverse(sample: BenchSample) -> Answer:
    """Undo the blending with the true opacity and colour: the ceiling that rounding leaves."""
    marked, opacity, colour = (
        values / 255 for values in (sample.marked, sample.opacity[..., None], sample.colour)
    )
    clean = (invert_linear if sample.linear else invert)(marked, opacity, colour)
    return np.rint(255 * clean.clip(0, 1)).astype(np.uint8), sample.mask


BASELINES: dict[str, Remover] = {
    "nothing": nothing,
    "telea": telea,
    "navier_stokes": navier_stokes,
    "inverse": inverse,
}


def of_network(network: nn.Module) -> Remover:
    """A network, on the device it lies on."""

    def remove(sample: BenchSample) -> Answer:
        restored, mask = restore(network, sample.marked)
        return restored, None if mask is None else mask > 0.5

    return remove


def refuse(folder: Path) -> None:
    """Make sure that there is a folder of restored pictures at all."""
    if not folder.is_dir():
        raise UserError(f"outputs={folder} is not a folder; give the folder of restored pictures")


def of_folder(folder: Path, prints: Iterable[Fingerprint]) -> Remover:
    """Pictures that any tool has restored, each under the name of the exported one.

    The suffix may differ. ``NAME_mask.png``, white where the tool saw a mark, may stand beside each
    ``NAME.png``; then the masks are measured, too.

    Raises:
        UserError: the folder lacks pictures, holds others, or some have another size.
    """
    pictures, masks = _read_names(folder)
    sizes = {p.name: (p.height, p.width) for p in prints}
    missing = [name for name in sizes if name not in pictures]
    extra = [path.name for stem, path in (pictures | masks).items() if stem not in sizes]
    maskless = [name for name in sizes if masks and name not in masks]
    resized, broken = [], []
    for path in (*pictures.values(), *masks.values()):
        wanted = sizes.get(path.stem.removesuffix(MASK))
        try:
            found = _size(path)
        except OSError:
            broken.append(path.name)
            continue
        if wanted and found != wanted:
            resized.append("{} is {}x{}, not {}x{}".format(path.name, *found, *wanted))
    wrong = {
        "missing": missing,
        "not of this set": extra,
        "of the wrong size (height x width)": resized,
        "unreadable": broken,
        "without a mask": maskless,
    }
    said = [f"{len(names)} {what} ({_some(names)})" for what, names in wrong.items() if names]
    if said:
        raise UserError(
            f"outputs={folder}: {'; '.join(said)}; give one picture for each exported one, "
            "with its name and size"
        )

    def remove(sample: BenchSample) -> Answer:
        restored = read_photo(pictures[sample.name])
        if restored is None or restored.shape != sample.marked.shape:
            raise UserError(f"outputs={folder}: {pictures[sample.name].name} cannot be decoded")
        if sample.name not in masks:
            return restored, None
        seen = cv2.imread(str(masks[sample.name]), cv2.IMREAD_GRAYSCALE)
        return restored, None if seen is None else seen > 127

    return remove


def _hole(sample: BenchSample) -> np.ndarray:
    return sample.mask.astype(np.uint8) * 255


def _read_names(folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """The pictures and the masks of a folder, by the name of the picture they belong to."""
    pictures: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in KINDS or path.name.startswith("."):
            continue
        found = masks if path.stem.endswith(MASK) else pictures
        stem = path.stem.removesuffix(MASK)
        if stem in found:
            raise UserError(
                f"outputs={folder} holds {found[stem].name} and {path.name}; leave one of them"
            )
        found[stem] = path
    return pictures, masks


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.height, image.width


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
