"""Write a trained network for others to use: ``python src/export.py ckpt=RUN output=FOLDER``.

Ends with how far what was written is from the network, on marked test pictures.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any, NamedTuple

import hydra
from omegaconf import DictConfig

from clearmark import cli
from clearmark.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from clearmark.export.graph import Restored
    from clearmark.models import Restoration

PATHS = ("ckpt", "output")
REPEATS = 5


@hydra.main(version_base="1.3", config_path="../conf", config_name="export")
@cli.entry
def main(cfg: DictConfig) -> None:
    """Write the network; print the size, and the difference to the run's."""
    export(cfg)


class Parity(NamedTuple):
    """How far what was written is from the network, on marked pictures.

    largest, mean: of the differences of restored values in [0, 1].
    psnr: of the one to the other, in dB; inf if they are the same.
    milliseconds: a picture, of the network and of what was written (medians).
    """

    largest: float
    mean: float
    psnr: float
    milliseconds: tuple[float, float]


def export(cfg: DictConfig) -> Parity:
    """Returns how far what was written is from the network."""
    import torch

    from clearmark import disk, runs
    from clearmark.config import check, create, register_resolvers
    from clearmark.export import FORMATS

    register_resolvers()
    ckpt, output = (cli.path(cfg, key) for key in PATHS)
    if cfg.format not in FORMATS:
        raise UserError(f"format={cfg.format} does not exist; use format={' or '.join(FORMATS)}")
    if output.exists() and not cfg.overwrite:
        raise UserError(f"output={output} exists; add overwrite=true to replace it")
    disk.check_place(output)
    check(cfg)
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    network, config = runs.load_network(ckpt)
    dataset = create(cfg.data).dataset("test")
    samples = [dataset[(0, index)] for index in range(cfg.samples)]
    FORMATS[cfg.format].write(output, network, config, runs.checkpoint_of(ckpt))
    parity = compare(network, FORMATS[cfg.format].load(output, cfg.threads), samples)
    report(output, parity, samples)
    return parity


def report(output: Path, parity: Parity, samples: list[dict[str, np.ndarray]]) -> None:
    """Print the size of what was written, and how far it is from the network."""
    files = [output] if output.is_file() else sorted(filter(Path.is_file, output.rglob("*")))
    size = sum(file.stat().st_size for file in files)
    names = ", ".join(file.relative_to(output).as_posix() for file in files)
    inside = "" if output.is_file() else f" in {names}"
    height, width = samples[0]["marked"].shape[:2]
    ours, theirs = parity.milliseconds
    print(
        f"{output}: {size / 1e6:.2f} MB{inside}\n"
        f"{len(samples)} restored test pictures against those of PyTorch: largest difference "
        f"{parity.largest:.2g} of 1 ({255 * parity.largest:.2g} levels of 255), mean "
        f"{parity.mean:.2g}, PSNR {parity.psnr:.1f} dB\n"
        f"a picture of {width}x{height}: {theirs:.1f} ms, PyTorch {ours:.1f} ms"
    )


def compare(
    one: Callable[[Tensor], Restoration],
    other: Callable[[Tensor], Restored],
    samples: list[dict[str, np.ndarray]],
) -> Parity:
    """How far the second is from the first, each picture restored ``REPEATS`` times."""
    import torch

    from clearmark.data import as_tensors

    largest, squares, differences = 0.0, [], []
    times: tuple[list[float], list[float]] = [], []
    networks: list[Callable[[Tensor], Any]] = [one, other]
    for sample in samples:
        batch = {key: torch.from_numpy(values)[None] for key, values in sample.items()}
        marked = as_tensors(batch, torch.float32)["marked"]
        images = []
        for network, seconds in zip(networks, times, strict=True):
            for _ in range(REPEATS):
                began = time.perf_counter()
                with torch.inference_mode():
                    image = network(marked).image
                seconds.append(time.perf_counter() - began)
            images.append(image.clamp(0, 1).double())
        difference = (images[0] - images[1]).abs()
        largest = max(largest, float(difference.max()))
        differences.append(float(difference.mean()))
        squares.append(float(difference.square().mean()))
    mse = mean(squares)
    psnr = -10 * math.log10(mse) if mse else math.inf
    ours, theirs = (1000 * median(seconds) for seconds in times)
    return Parity(largest, mean(differences), psnr, (ours, theirs))


if __name__ == "__main__":
    sys.argv = cli.quote_paths(sys.argv, PATHS)
    cli.run(main)
