"""What a network loses on MarkBench by its mask, and what by its correction, as a table.

python experiments/markbench/parts.py                               (the embedded flagship)
python experiments/markbench/parts.py outputs/DATE/TIME
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn

from clearmark import runs
from clearmark.benchmark.frozen import BenchSample
from clearmark.benchmark.measure import interval, measure
from clearmark.benchmark.removers import Answer, telea
from clearmark.config import create, register_resolvers

ROOT = Path(__file__).parents[2]


class Seen(NamedTuple):
    """A network's answer: picture, correction at every pixel (both (H, W, 3) uint8), and mask."""

    image: np.ndarray
    filled: np.ndarray
    mask: np.ndarray


def inpainted(sample: BenchSample, mask: np.ndarray) -> np.ndarray:
    """MarkBench's baseline, told a mask (H, W) that need not be the true one."""
    return telea(sample._replace(opacity=255 * mask.astype(np.uint8)))[0]


def within(mask: np.ndarray, inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """One picture where the mask (H, W) is, the other elsewhere."""
    return np.where(mask[..., None], inside, outside)


Part: TypeAlias = Callable[[BenchSample, Seen], np.ndarray]

PARTS: dict[str, Part] = {
    "the network": lambda s, seen: seen.image,
    "and nothing changed beside the mark": lambda s, seen: within(s.mask, seen.image, s.marked),
    "and its correction wherever the mark is": lambda s, seen: within(
        s.mask, seen.filled, seen.image
    ),
    "both: its correction, told the mask": lambda s, seen: within(s.mask, seen.filled, s.marked),
    "inpainting where it sees a mark": lambda s, seen: inpainted(s, seen.mask),
    "inpainting, told the mask": lambda s, seen: inpainted(s, s.mask),
    "the mean of its correction and inpainting, told the mask": lambda s, seen: within(
        s.mask, (inpainted(s, s.mask).astype(np.uint16) + seen.filled + 1) // 2, s.marked
    ),
}


def main(ckpt: str) -> None:
    """Print gain and RMSEw of each part, with 95 % intervals over photos."""
    register_resolvers()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        samples = [s for s in create(compose("benchmark").markbench) if s.mask.any()]
    network = runs.load_network(ckpt)[0].to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    print(f"| `ckpt={ckpt}` | gain (dB) | RMSEw |\n|---|---|---|")
    answers = {sample.name: answered(network, sample) for sample in samples}
    for name, part in PARTS.items():

        def remover(sample: BenchSample, part: Part = part) -> Answer:
            seen = answers[sample.name]
            return part(sample, seen), seen.mask

        rows = measure(samples, remover)
        cells = (interval(rows[figure], rows["photo"]) for figure in ("psnr_gain", "rmsew"))
        print(f"| {name} | {' | '.join('{:.2f} [{:.2f}, {:.2f}]'.format(*c) for c in cells)} |")


@torch.inference_mode()
def answered(network: nn.Module, sample: BenchSample) -> Seen:
    """The network's answer to the marked picture alone, in one piece."""
    answer = network(torch.from_numpy(sample.marked / np.float32(255)).permute(2, 0, 1)[None])
    return Seen(pixels(answer.image), pixels(answer.filled), answer.mask[0, 0].numpy() > 0.5)


def pixels(image: Tensor) -> np.ndarray:
    """(H, W, 3) uint8 of (1, 3, H, W)."""
    return (255 * image[0].clamp(0, 1)).round().byte().permute(1, 2, 0).numpy()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "unblend")
