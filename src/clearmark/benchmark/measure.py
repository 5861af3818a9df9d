"""From a remover to figures: one row a picture, then means with intervals, group by group."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from scipy.stats import DegenerateDataWarning, bootstrap
from torch import Tensor

from clearmark.benchmark.frozen import BenchSample
from clearmark.benchmark.removers import Remover
from clearmark.metrics import NAMES, ON_MARK, per_image, psnr
from clearmark.models.base import Restoration

NOOP = ("noop_psnr", "noop_changed")
FIGURES = (*(name for name in NAMES if name != "clean_psnr"), *NOOP)
RESAMPLES = 2000
CHANGED = 2  # levels of 255: what a re-encoding or a rounding may do is no change

# Edges of the groups; the last edge of each is open above.
OPACITY = (0.0, 0.3, 0.5, 0.7)
AREA = (0.0, 0.05, 0.15, 0.35)
TEXTURES = ("smooth", "medium", "busy")


def measure(samples: Iterable[BenchSample], remover: Remover) -> pd.DataFrame:
    """One row a picture: where it belongs, what kind of mark it bears, and every figure of it.

    Figures are those of ``clearmark.metrics.per_image``, of the restored picture as 8-bit file; an
    unmarked picture has ``psnr``, ``ssim``, ``rmse`` and the two of ``NOOP``.
    """
    return pd.DataFrame([_row(sample, remover) for sample in samples])


def _row(sample: BenchSample, remover: Remover) -> dict[str, object]:
    restored, seen = remover(sample)
    mask = sample.mask
    batch = {"marked": _tensor(sample.marked), "clean": _tensor(sample.clean)}
    batch["mask"] = torch.from_numpy(mask)[None, None].float()
    # Logits of the sign that says whether a mark was seen there.
    logits = None if seen is None else torch.from_numpy(seen)[None, None].float() - 0.5
    image = _tensor(restored)
    figures = {k: float(v) for k, v in per_image(Restoration(image, logits), batch).items()}
    if mask.any():
        figures |= dict.fromkeys(NOOP, math.nan)
    else:
        moved = np.abs(restored.astype(int) - sample.marked).max(2) > CHANGED
        # A gain over the 58.92 dB of an untouched picture says nothing that noop_psnr does not.
        figures |= dict.fromkeys((ON_MARK | {"psnr_gain"}) & figures.keys(), math.nan)
        figures |= {"noop_psnr": float(psnr(image, batch["marked"])), "noop_changed": moved.mean()}
    return {
        "name": sample.name,
        "family": sample.family,
        "size": sample.size,
        "photo": sample.photo,
        "opacity": sample.opacity.max() / 255,
        "area": mask.mean(),
        "texture": texture(sample),
        **{name: figures.get(name, math.nan) for name in FIGURES},
    }


def texture(sample: BenchSample) -> float:
    """How busy the clean picture is under the mark: NaN without one.

    The mean over marked pixels of the gradient's magnitude, in levels of 255 a pixel: central
    differences (one-sided on the rim) of the mean of R, G and B.
    """
    if not sample.mask.any():
        return math.nan
    down, right = np.gradient(sample.clean.mean(2))
    return float(np.hypot(down, right)[sample.mask].mean())


def terciles(samples: Iterable[BenchSample]) -> list[float]:
    """The two textures that part the marked pictures in three equal groups."""
    values = [texture(sample) for sample in samples]
    return [float(edge) for edge in np.nanquantile(values, [1 / 3, 2 / 3])]


def summary(rows: pd.DataFrame, edges: Sequence[float]) -> pd.DataFrame:
    """The mean and its 95 % interval of every figure in every group, one a row.

    Columns: table, group, figure, samples, photos, mean, low, high. The tables by size, opacity,
    area and texture are over marked pictures.
    """
    found = []
    for table, group, part in _groups(rows, edges):
        for figure in FIGURES:
            known = part[part[figure].notna()]
            if len(known):
                counts = {"samples": len(known), "photos": known["photo"].nunique()}
                mean, low, high = interval(known[figure], known["photo"])
                place = {"table": table, "group": group, "figure": figure}
                found.append(place | counts | {"mean": mean, "low": low, "high": high})
    return pd.DataFrame(found)


def _groups(rows: pd.DataFrame, edges: Sequence[float]) -> Iterator[tuple[str, str, pd.DataFrame]]:
    marked = rows[rows["area"] > 0]
    yield "overall", "marked", marked
    if len(marked) < len(rows):
        yield "overall", "unmarked", rows[rows["area"] == 0]
    for name, part in rows.groupby("family", sort=False):
        yield "family", str(name), part
    for name, part in marked.groupby("size", sort=False):
        yield "size", str(name), part
    for column, cuts, labels in (
        ("opacity", OPACITY, _spans(OPACITY, "")),
        ("area", AREA, _spans(AREA, " %", 100)),
        ("texture", (0.0, *edges), [*TEXTURES]),
    ):
        kind = pd.cut(marked[column], [*cuts, math.inf], right=False, labels=labels)
        for name, part in marked.groupby(kind, observed=True):
            yield column, str(name), part


def _spans(edges: Sequence[float], unit: str, times: float = 1) -> list[str]:
    ends = [f"{edge * times:g}" for edge in edges]
    spans = [f"{low} to {high}{unit}" for low, high in pairwise(ends)]
    return [*spans, f"from {ends[-1]}{unit}"]


def interval(values: pd.Series, photos: pd.Series) -> tuple[float, float, float]:
    """The mean over pictures, and its 95 % bootstrap interval (BCa) over photos.

    Photos are drawn again, each with all its pictures, since pictures of one photo resemble each
    other. NaN where there is one photo only, or where a figure is NaN.
    """
    mean = float(values.mean(skipna=False))
    parts = values.groupby(photos)
    totals, counts = parts.sum().to_numpy(float), parts.count().to_numpy(float)
    if len(totals) < 2 or not math.isfinite(mean):
        return mean, math.nan, math.nan
    if np.ptp(values.to_numpy(float)) < 1e-9:  # no spread: doing nothing gains 0 dB everywhere
        return mean, mean, mean
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # two photos: the interval is NaN
        found = bootstrap(
            (totals, counts),
            _ratio,
            paired=True,
            vectorized=True,
            n_resamples=RESAMPLES,
            method="BCa",
            rng=np.random.default_rng(0),
        ).confidence_interval
    return mean, float(found.low), float(found.high)


def _ratio(totals: np.ndarray, counts: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.asarray(totals.sum(axis) / counts.sum(axis))


def _tensor(image: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 as (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None] / 255
