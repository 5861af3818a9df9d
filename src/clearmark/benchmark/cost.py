"""What a remover costs: seconds and memory for a megapixel, parameters and GMAC."""

from __future__ import annotations

import ctypes
import gc
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from clearmark import results
from clearmark.benchmark.frozen import BenchSample
from clearmark.benchmark.removers import Remover

SIDE = 1024
REPEATS = 3
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def measure_cost(
    remover: Remover, sample: BenchSample, network: nn.Module | None = None
) -> dict[str, float]:
    """The cost of a picture of 1024 x 1024 that repeats the sample, per 10^6 pixels.

    ``seconds_per_mp`` is the least of three, after one that does not count. ``peak_mb_per_mp`` is
    what a removal needs beyond what was held before it (10^6 bytes): of the GPU if the network lies
    on one, else of the process, which only Linux tells (NaN elsewhere). ``parameters`` and
    ``gmac`` (of a picture of 256 x 256) are a network's.
    """
    large = _repeated(sample)
    megapixels = large.opacity.size / 1e6
    device = next(network.parameters()).device if network else torch.device("cpu")
    on_gpu = device.type == "cuda"
    remover(large)
    seconds, peaks = math.inf, [0.0]
    for _ in range(REPEATS):
        before = _start(on_gpu)
        start = time.perf_counter()
        remover(large)  # comes back as a numpy array, so a GPU has finished
        seconds = min(seconds, time.perf_counter() - start)
        peaks.append(_peak(on_gpu) - before)
    peak = float(np.max(peaks))  # NaN if one is
    cost = {"seconds_per_mp": seconds / megapixels, "peak_mb_per_mp": peak / 1e6 / megapixels}
    return cost | (results.cost(network) if network else {})


def _repeated(sample: BenchSample) -> BenchSample:
    def repeat(values: np.ndarray) -> np.ndarray:
        times = [-(-SIDE // side) for side in values.shape[:2]]
        return np.tile(values, (*times, *[1] * (values.ndim - 2)))[:SIDE, :SIDE]

    return sample._replace(
        marked=repeat(sample.marked),
        clean=repeat(sample.clean),
        opacity=repeat(sample.opacity),
        colour=repeat(sample.colour),
    )


def _start(on_gpu: bool) -> float:
    """Set the peak back; returns the bytes that are held now."""
    gc.collect()
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return float(torch.cuda.memory_allocated())
    try:
        # Freed memory that the C library keeps for later would hide what the next call needs.
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        RESET.write_text("5")  # "the peak is what is held now", says proc(5)
    except (OSError, AttributeError):
        return math.nan
    return _status("VmRSS")


def _peak(on_gpu: bool) -> float:
    return float(torch.cuda.max_memory_allocated()) if on_gpu else _status("VmHWM")


def _status(key: str) -> float:
    """A line of /proc/self/status in bytes; NaN where there is no such file."""
    if not STATUS.exists():
        return math.nan
    lines = STATUS.read_text(encoding="ascii", errors="ignore").splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith(key))
