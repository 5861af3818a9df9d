"""What a network gains on MarkBench, and what it costs, in several runtimes.

python experiments/lighter/measure.py                   (the embedded models)
python experiments/lighter/measure.py unblend=outputs/DATE/TIME
"""

from __future__ import annotations

import csv
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn

from clearmark import runs
from clearmark.benchmark import measure as measuring
from clearmark.benchmark.frozen import BenchSample
from clearmark.benchmark.removers import Answer
from clearmark.config import create, register_resolvers
from clearmark.export import FORMATS
from clearmark.export.graph import Restored

HERE = Path(__file__).parent
REPEATS = 60
COLUMNS = ["model", "runtime", "gain", "gain_low", "gain_high", "noop", "milliseconds", "megabytes"]


class Variant(NamedTuple):
    """A network in a runtime, with the size of its file in 10^6 bytes."""

    model: str
    runtime: str
    restore: Callable[[Tensor], Restored]
    megabytes: float


def main(models: dict[str, str]) -> None:
    """Measure every model in every runtime on one thread."""
    torch.set_num_threads(1)
    register_resolvers()
    with initialize_config_dir(str(HERE.parents[1] / "conf"), version_base="1.3"):
        samples = list(create(compose("benchmark").markbench))
    variants = [variant for name, ckpt in models.items() for variant in of(name, ckpt)]
    times = milliseconds(variants)
    rows = []
    for variant, took in zip(variants, times, strict=True):
        found = measuring.measure(samples, remover(variant.restore))
        marked = found[found["area"] > 0]
        gain = measuring.interval(marked["psnr_gain"], marked["photo"])
        noop = found["noop_psnr"].mean()
        row = [variant.model, variant.runtime, *gain, noop, took, variant.megabytes]
        rows.append([f"{value:.4f}" if isinstance(value, float) else value for value in row])
        print(*rows[-1], flush=True)
    with (HERE / "results.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    draw(rows)


def of(name: str, ckpt: str) -> list[Variant]:
    """A model in PyTorch, and in each runtime."""
    network, config = runs.load_network(ckpt)
    weights = runs.checkpoint_of(ckpt)
    found = [Variant(name, "PyTorch", of_torch(network), weights.stat().st_size / 1e6)]
    for runtime in ("onnx", "onnx_int8"):
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "net.onnx"
            FORMATS[runtime].write(output, network, config, weights)
            size = output.stat().st_size / 1e6
            found.append(Variant(name, runtime, FORMATS[runtime].load(output, 1), size))
    return found


def of_torch(network: nn.Module) -> Callable[[Tensor], Restored]:
    """A network in PyTorch."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def restore(marked: Tensor) -> Restored:
        answer = network(marked)
        return Restored(answer.image, answer.mask)

    return restore


def remover(restore: Callable[[Tensor], Restored]) -> Callable[[BenchSample], Answer]:
    """As MarkBench asks it."""

    def remove(sample: BenchSample) -> Answer:
        answer = restore(torch.from_numpy(sample.marked / np.float32(255)).permute(2, 0, 1)[None])
        image = (255 * answer.image[0].clamp(0, 1)).round().byte().permute(1, 2, 0).numpy()
        return image, None if answer.mask is None else answer.mask[0, 0].numpy() > 0.5

    return remove


def milliseconds(variants: list[Variant]) -> list[float]:
    """Of a picture of 256x256 (medians), in turns, so that all share what the machine does."""
    marked = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    seconds: list[list[float]] = [[] for _ in variants]
    for turn in range(REPEATS + 1):
        for variant, taken in zip(variants, seconds, strict=True):
            began = time.perf_counter()
            variant.restore(marked)
            if turn:
                taken.append(1000 * (time.perf_counter() - began))
    return [median(taken) for taken in seconds]


def draw(rows: list[list[str]]) -> None:
    """Gain against milliseconds; a dot's area is the file's size."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.4), layout="constrained")
    axis = figure.subplots()
    for number, model in enumerate(dict.fromkeys(row[0] for row in rows)):
        own = [row for row in rows if row[0] == model]
        gains, times, sizes = ([float(row[at]) for row in own] for at in (2, 6, 7))
        axis.scatter(times, gains, [80 * size for size in sizes], f"C{number}", alpha=0.6)
        axis.plot(times, gains, f"C{number}", linewidth=1, label=model)
        for row, x, y in zip(own, times, gains, strict=True):
            axis.annotate(
                f"{row[1]}, {float(row[7]):.1f} MB", (x, y), (6, 6), textcoords="offset points"
            )
    axis.set(xlabel="milliseconds, 256x256, one thread", ylabel="gain on MarkBench (dB)")
    axis.set_xlim(left=0, right=1.25 * max(float(row[6]) for row in rows))
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(HERE / "figure.png", dpi=110)


if __name__ == "__main__":
    typed = dict(word.split("=", 1) for word in sys.argv[1:])
    main(typed or {"unblend": "unblend", "unet": "unet"})
