"""Write a trained network for others to use: ``python src/export.py ckpt=RUN output=FOLDER``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from clearmark import cli
from clearmark.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from clearmark.models import Restoration

PATHS = ("ckpt", "output")


@hydra.main(version_base="1.3", config_path="../conf", config_name="export")
@cli.entry
def main(cfg: DictConfig) -> None:
    """Write the network; print the size, and the difference to the run's."""
    export(cfg)


def export(cfg: DictConfig) -> float:
    """Returns the largest difference of a restored value, in [0, 1], that the format makes."""
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
    difference = compare(network, FORMATS[cfg.format].load(output), samples)
    files = [output] if output.is_file() else sorted(output.iterdir())
    size = sum(file.stat().st_size for file in files)
    print(
        f"{output}: {size / 1e6:.2f} MB in {', '.join(file.name for file in files)}\n"
        f"largest difference of {len(samples)} restored test pictures to the run's network: "
        f"{difference:.2g} of 1, {255 * difference:.2g} levels of 255"
    )
    return difference


def compare(
    one: Callable[[Tensor], Restoration],
    other: Callable[[Tensor], Restoration],
    samples: list[dict[str, np.ndarray]],
) -> float:
    """The largest difference in [0, 1] of what two networks make of marked pictures."""
    import torch

    from clearmark.data import as_tensors

    largest = 0.0
    for sample in samples:
        batch = {key: torch.from_numpy(values)[None] for key, values in sample.items()}
        marked = as_tensors(batch, torch.float32)["marked"]
        with torch.inference_mode():
            first, second = (network(marked).image.clamp(0, 1) for network in (one, other))
        largest = max(largest, float((first - second).abs().max()))
    return largest


if __name__ == "__main__":
    sys.argv = cli.quote_paths(sys.argv, PATHS)
    cli.run(main)
