"""What a network gains on MarkBench, and what it costs, in several runtimes.

python experiments/lighter/measure.py                               (the embedded models)
python experiments/lighter/measure.py unblend=unblend pruned=outputs/DATE/TIME
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
from torch import Tensor

from clearmark import released, runs
from clearmark.benchmark import measure as measuring
from clearmark.benchmark.frozen import BenchSample
from clearmark.benchmark.removers import Answer
from clearmark.config import create, register_resolvers
from clearmark.export import FORMATS
from clearmark.export.graph import Restored
from clearmark.models.base import Restoration

HERE = Path(__file__).parent
TURNS, RUN = 12, 5
"""Each variant restores ``RUN`` pictures in a row, as in use, before it is the next one's turn."""

COMPILED = "compiled"
MARKERS = "osD^"
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
        if variant.runtime != COMPILED:  # PyTorch's figures: torch 2.13 compiles for few sizes
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
    """A model in PyTorch, compiled by it, and in each runtime."""
    network, config = runs.load_network(ckpt)
    weights = runs.checkpoint_of(ckpt)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with tempfile.TemporaryDirectory() as folder:
        released.write(Path(folder) / name, network, config, "")
        size = (Path(folder) / name / released.WEIGHTS).stat().st_size / 1e6
        found = [
            Variant(name, "PyTorch", of_torch(network), size),
            Variant(name, COMPILED, of_torch(torch.compile(network)), size),
        ]
        for runtime in ("onnx", "onnx_int8"):
            output = Path(folder) / f"{runtime}.onnx"
            FORMATS[runtime].write(output, network, config, weights)
            size = output.stat().st_size / 1e6
            found.append(Variant(name, runtime, FORMATS[runtime].load(output, 1), size))
    return found


def of_torch(network: Callable[[Tensor], Restoration]) -> Callable[[Tensor], Restored]:
    """A network in PyTorch."""

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
    for turn in range(TURNS + 1):
        for variant, taken in zip(variants, seconds, strict=True):
            for _ in range(RUN):
                began = time.perf_counter()
                variant.restore(marked)
                if turn:
                    taken.append(1000 * (time.perf_counter() - began))
    return [median(taken) for taken in seconds]


def draw(rows: list[list[str]]) -> None:
    """Gain against milliseconds: a colour a model, a marker a runtime, its area the file's size."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(8, 4.4), layout="constrained")
    axis = figure.subplots()
    models, runtimes = (list(dict.fromkeys(row[at] for row in rows)) for at in (0, 1))
    for at, model in enumerate(models):
        own = sorted((float(row[6]), float(row[2])) for row in rows if row[0] == model)
        axis.plot(*zip(*own, strict=True), color=f"C{at}", alpha=0.4, linewidth=1)
    for row in rows:
        gain, took, size = (float(row[at]) for at in (2, 6, 7))
        colour, marker = f"C{models.index(row[0])}", MARKERS[runtimes.index(row[1])]
        axis.scatter(took, gain, 80 * size, colour, marker, alpha=0.6, edgecolors="white")
    named = [Line2D([], [], color=f"C{at}", label=name) for at, name in enumerate(models)]
    named += [
        Line2D([], [], color="0.4", marker=marker, linestyle="", label=name)
        for marker, name in zip(MARKERS, runtimes, strict=False)
    ]
    # Beside the picture, where no model can lie under it.
    figure.legend(handles=named, loc="outside right upper", title="area: size of the file")
    axis.set(xlabel="milliseconds, 256x256, one thread", ylabel="gain on MarkBench (dB)")
    axis.margins(0.1)
    axis.set_xlim(left=0)
    axis.grid(alpha=0.3)
    figure.savefig(HERE / "figure.png", dpi=110)


if __name__ == "__main__":
    typed = dict(word.split("=", 1) for word in sys.argv[1:])
    main(typed or {"unblend": "unblend", "unet": "unet"})
