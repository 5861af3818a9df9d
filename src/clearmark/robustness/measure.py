"""From settings of a mark to figures: mark photos, take the mark off, see what remains."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from clearmark.data import MarkedPhotos, PhotosModule
from clearmark.data.marked import Sample
from clearmark.errors import UserError
from clearmark.formation import visible
from clearmark.limits import Limit
from clearmark.metrics import PSNR_CEILING, psnr, ssim_map
from clearmark.robustness.detector import Detector, Grid, threshold
from clearmark.watermarks import MarkAssets, Own
from clearmark.watermarks.base import PALETTE

Remover = Callable[[Sample], np.ndarray]
"""The restored picture (H, W, 3) uint8 of a marked sample."""

GAP = Limit(0, 10, whole=False)
NOTHING, TILED = "nothing", "tiled"
POSITIONS = ("middle", "rim", "edge", "anywhere")
SETTING = ["place", "size", "spacing", "opacity"]


class Setting(NamedTuple):
    """A way to put the mark on a photo.

    place: where it lies, as a watermark's ``at`` says it, or "tiled" all over the photo.
    size: its longer side as a share of the photo's shorter one.
    spacing: of copies, the gap as a share of their extent; 0 of a single mark.
    opacity: where the mark's own is full.
    """

    place: str
    size: float
    spacing: float
    opacity: float


def settings(cfg: Any) -> list[Setting]:
    """All combinations that ``conf/robustness.yaml`` asks for, the opacity changing fastest.

    Raises:
        UserError: a place that there is not, a gap below 0, or nothing to do.
    """
    opacities, sizes, copies, positions, spacings = (
        list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        for value in (cfg.opacities, cfg.sizes, cfg.copies, cfg.positions, cfg.spacings)
    )
    if unknown := [place for place in positions if place not in POSITIONS]:
        raise UserError(f"positions={unknown} are unknown; use {', '.join(POSITIONS)}")
    if wrong := [gap for gap in spacings if not GAP.allows(gap)]:
        raise UserError(f"spacings={wrong} are not allowed; give numbers, 0 to 10, as [0.5]")
    opacities, sizes, copies, positions, spacings = (
        sorted(set(values)) for values in (opacities, sizes, copies, positions, spacings)
    )
    layouts = [
        *((place, size, 0.0) for place, size in product(positions, sizes)),
        *((TILED, size, gap) for size, gap in product(copies, spacings)),
    ]
    if not layouts:
        raise UserError("positions=[] and spacings=[] leave nothing to do; give one of them")
    return [
        Setting(place, size, gap, opacity)
        for (place, size, gap), opacity in product(layouts, opacities)
    ]


class Marker:
    """Puts the user's mark on photos, one setting after another, and knows what it looks like.

    Args:
        make: builds the watermark, given what a setting says (see ``Own``).
        data: where photos come from, and what becomes of marked ones.
        colour: white, grey or black; None keeps a picture's own, and draws a text in white.
        seed: of the crops and places: the same in all settings.
    """

    def __init__(
        self, make: Callable[..., Own], data: PhotosModule, colour: str | None, seed: int
    ) -> None:
        if colour is not None and colour not in PALETTE:
            raise UserError(f"colour={colour} is unknown; use {', '.join(PALETTE)} or null")
        self.make, self.data, self.seed = make, data, seed
        self.drawing = make().transforms[0].drawing
        lone = self.drawing(data.size).colour is None
        self.colour = colour or ("white" if lone else "own")
        self.photos = {split: data.photos(split) for split in ("train", "test")}

    def samples(self, split: str, setting: Setting | None) -> MarkedPhotos:
        """The photos of a split under the mark, or without any; photo number i is at (0, i)."""
        given: dict[str, Any] = {"colours": {self.colour: 1.0}, "tilted": 0.0}
        if setting:
            size, gap = (setting.size, setting.size), (setting.spacing, setting.spacing)
            given |= {"opacity": (setting.opacity, setting.opacity), "size": size, "copies": size}
            given |= {"spacing": gap, "tiled": float(setting.place == TILED)}
            given |= {"at": [setting.place]} if setting.place != TILED else {}
        return MarkedPhotos(
            self.photos[split],
            MarkAssets((), (), ()),
            geometry=self.data.geometry(split),
            watermark=self.make(**given),
            seed=self.seed,
            unmarked=0.0 if setting else 1.0,
            in_order=True,
            linear=self.data.linear,
            degradation=self.data.degradation,
        )

    def detector(self, setting: Setting) -> Detector:
        """Looks for the mark as this setting draws it, whatever its opacity and place.

        Raises:
            UserError: the mark does not fit into the picture.
        """
        sketch = self.drawing(max(8.0, self.data.size * setting.size))
        own = self.colour == "own" and sketch.colour is not None
        matte = sketch.matte if own else sketch.plain()
        if max(matte.shape) > self.data.size:
            raise UserError(
                f"at size {setting.size} the mark takes {matte.shape[1]}x{matte.shape[0]} pixels, "
                f"more than data.size={self.data.size}; give a larger data.size, or a shorter text"
            )
        colour = sketch.colour if own else np.full(3, PALETTE.get(self.colour, 0), np.uint8)
        assert colour is not None
        grid = None
        if setting.place == TILED:
            grid = Grid(*(side + max(4, int(side * setting.spacing)) for side in matte.shape))
        return Detector(matte, colour, grid)


def calibrate(detector: Detector, clean: Iterable[np.ndarray], rate: float) -> float:
    """Set the detector's threshold so that it sees a mark on that share of clean photos."""
    detector.threshold = threshold([detector.score(photo) for photo in clean], rate)
    return detector.threshold


def measure(
    sample: Sample, detector: Detector, removers: Mapping[str, Remover]
) -> list[dict[str, Any]]:
    """A row for the marked picture, called "nothing", and one for what each remover makes of it.

    psnr, ssim: against the clean picture, all of it. psnr_mark, ssim_mark, psnr_around,
        ssim_around: in the mask, and within 1/32 of the shorter side around it (NaN if nothing is
        left there); SSIM is the mean of its map there. score, found: of the detector.
    """
    results = {NOTHING: sample["marked"]} | {name: of(sample) for name, of in removers.items()}
    clean, opacity = _tensor(sample["clean"]), _tensor(sample["opacity"][..., None])
    mask = visible(opacity).float()
    reach = 2 * max(1, min(clean.shape[2:]) // 32) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    wide = torch.from_numpy(cv2.dilate(mask[0, 0].numpy(), kernel))
    rows = []
    for name, picture in results.items():
        row: dict[str, Any] = {"remover": name}
        row |= _figures(_tensor(picture), clean, {"mark": mask, "around": wide - mask})
        row["score"] = detector.score(picture)
        row["found"] = row["score"] > detector.threshold
        rows.append(row)
    return rows


def _figures(image: Tensor, clean: Tensor, areas: Mapping[str, Tensor]) -> dict[str, float]:
    error = (image - clean).square().mean(1, keepdim=True)
    structure = ssim_map(image, clean).mean(1, keepdim=True)
    found = {"psnr": float(psnr(image, clean)), "ssim": float(structure.mean())}
    for name, where in areas.items():
        part = (error * where).sum() / where.sum()
        found[f"psnr_{name}"] = float((-10 * part.log10()).clamp(max=PSNR_CEILING))
        found[f"ssim_{name}"] = float((structure * where).sum() / where.sum())
    return found


def _tensor(picture: np.ndarray) -> Tensor:
    """(H, W, C) uint8 as (1, C, H, W) in [0, 1]."""
    return torch.from_numpy(picture).permute(2, 0, 1)[None] / 255


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """The mean of every figure over photos, one setting and remover a row, in the rows' order."""
    grouped = rows.groupby([*SETTING, "remover"], sort=False)
    means = grouped.mean(numeric_only=True).drop(columns=["photo", "score"])
    return means.assign(photos=grouped.size()).reset_index()
