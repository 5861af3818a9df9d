"""How far what was written is from the network, and refusing what is too far."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clearmark import disk
from clearmark.data import as_tensors
from clearmark.errors import UserError
from clearmark.export import FORMATS
from clearmark.export.graph import Limits, Restored

if TYPE_CHECKING:
    from clearmark.models import Restoration

REPEATS = 5
ODD = (250, 270)
"""Height and width that no network halves or cuts into patches without padding."""


class Parity(NamedTuple):
    """How far what was written is from the network, on marked pictures.

    largest, mean: of the differences of restored values in [0, 1].
    psnr: of the one to the other, in dB; inf if they are the same.
    mask: largest difference of the mask's values; inf if only one has a mask, None if neither.
    milliseconds: a picture, of the network and of what was written (medians).
    """

    largest: float
    mean: float
    psnr: float
    mask: float | None
    milliseconds: tuple[float, float]


def write(
    name: str,
    output: Path,
    network: nn.Module,
    config: dict[str, Any],
    ckpt: Path,
    samples: list[dict[str, np.ndarray]],
    threads: int | None = None,
) -> Parity:
    """Write a network in a format, and see that what was written restores what it does.

    Args:
        name: of the format.
        output: whole and within the format's limits, or as it was before.
        network: see ``clearmark.export``, as the config and the checkpoint.
        config: of the checkpoint.
        ckpt: the checkpoint's file.
        samples: marked pictures to compare on.
        threads: of the runtime; None leaves the choice to it.

    Raises:
        UserError: the format cannot carry the network, something else is in the place of
            ``output``, or what was written is too far from the network.
    """
    kind = FORMATS[name]
    kind.check(output)
    with disk.aside(output) as trial:
        kind.write(trial, network, config, ckpt)
        parity = compare(network, kind.load(trial, threads), samples)
        check(parity, kind.LIMITS, name, output)
    return parity


def compare(
    network: Callable[[Tensor], Restoration | Restored],
    written: Callable[[Tensor], Restoration | Restored],
    samples: list[dict[str, np.ndarray]],
) -> Parity:
    """How far the second is from the first on each picture, and on a pair of it in an odd size.

    Times are of the picture, restored ``REPEATS`` times.
    """
    pictures = [_picture(sample) for sample in samples]
    ours: list[float] = []
    theirs: list[float] = []
    gaps = [_gap(_timed(network, p, ours), _timed(written, p, theirs)) for p in pictures]
    with torch.inference_mode():
        gaps += [_gap(network(pair), written(pair)) for pair in map(_pair, pictures)]
    largest, means, squares, masks = zip(*gaps, strict=True)
    mse = mean(squares)
    return Parity(
        largest=float(np.max(largest)),  # which is nan if one is
        mean=mean(means),
        psnr=-10 * math.log10(mse) if mse else math.inf,
        mask=None if masks[0] is None else float(np.max(masks)),
        milliseconds=(1000 * median(ours), 1000 * median(theirs)),
    )


def check(parity: Parity, limits: Limits, name: str, output: Path) -> None:
    """See that a format's limits are kept.

    Raises:
        UserError: they are not, or a value is no number.
    """
    broken = [
        f"{what} differs by {value:.2g} (limit {limits.largest:g})"
        for what, value in (("a restored value", parity.largest), ("the mask", parity.mask))
        if value is not None and not value <= limits.largest  # as nan is not
    ]
    if not parity.psnr >= limits.psnr:
        broken.append(f"PSNR is {parity.psnr:.1f} dB (limit {limits.psnr:g})")
    if broken:
        raise UserError(
            f"format={name} restores other pictures than PyTorch: {', '.join(broken)}; "
            f"output={output} was not written; take another format"
        )


def megabytes(output: Path) -> float:
    """Of a file, or of all files in a folder, in 10^6 bytes."""
    files = [output] if output.is_file() else filter(Path.is_file, output.rglob("*"))
    return sum(file.stat().st_size for file in files) / 1e6


def _picture(sample: dict[str, np.ndarray]) -> Tensor:
    batch = {key: torch.from_numpy(values)[None] for key, values in sample.items()}
    return as_tensors(batch, torch.float32)["marked"]


def _pair(picture: Tensor) -> Tensor:
    """(2, 3, 250, 270): the picture of (1, 3, H, W) stretched to it, and that mirrored."""
    stretched = F.interpolate(picture, ODD, mode="bilinear", align_corners=False)
    return torch.cat([stretched, stretched.flip(3)])


def _timed(network: Callable[[Tensor], Any], picture: Tensor, seconds: list[float]) -> Any:
    for _ in range(REPEATS):
        began = time.perf_counter()
        with torch.inference_mode():
            answer = network(picture)
        seconds.append(time.perf_counter() - began)
    return answer


def _gap(
    ours: Restoration | Restored, theirs: Restoration | Restored
) -> tuple[float, float, float, float | None]:
    """Largest, mean and mean squared difference of the pictures, and the masks' largest."""
    difference = (ours.image.clamp(0, 1).double() - theirs.image.clamp(0, 1).double()).abs()
    mask: float | None = None
    if ours.mask is not None and theirs.mask is not None:
        mask = float((ours.mask - theirs.mask).abs().max())
    elif ours.mask is not None or theirs.mask is not None:
        mask = math.inf
    squares = float(difference.square().mean())
    return float(difference.max()), float(difference.mean()), squares, mask
