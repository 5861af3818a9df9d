"""Write a trained network for others to use: ``python src/export.py ckpt=RUN output=FOLDER``.

Ends with how far what was written is from the network, on marked test pictures; what is too far
from it is not left there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from clearmark import cli
from clearmark.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from clearmark.export.parity import Parity

PATHS = ("ckpt", "output")


@hydra.main(version_base="1.3", config_path="../conf", config_name="export")
@cli.entry
def main(cfg: DictConfig) -> None:
    """Write the network; print the size, and the difference to the run's."""
    export(cfg)


def export(cfg: DictConfig) -> Parity:
    """Returns how far what was written is from the network."""
    import torch

    from clearmark import disk, runs
    from clearmark.config import check, create, register_resolvers
    from clearmark.export import FORMATS
    from clearmark.export.parity import write

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
    weights = runs.checkpoint_of(ckpt)
    parity = write(cfg.format, output, network, config, weights, samples, cfg.threads)
    report(output, parity, samples)
    return parity


def report(output: Path, parity: Parity, samples: list[dict[str, np.ndarray]]) -> None:
    """Print the size of what was written, and how far it is from the network."""
    from clearmark.export.parity import ODD, megabytes

    files = [] if output.is_file() else sorted(filter(Path.is_file, output.rglob("*")))
    names = ", ".join(file.relative_to(output).as_posix() for file in files)
    height, width = samples[0]["marked"].shape[:2]
    ours, theirs = parity.milliseconds
    mask = "" if parity.mask is None else f"; of the mask {parity.mask:.2g}"
    print(
        f"{output}: {megabytes(output):.2f} MB{names and f' in {names}'}\n"
        f"{len(samples)} restored test pictures, at {width}x{height} and in pairs at "
        f"{ODD[1]}x{ODD[0]}, against those of PyTorch: largest difference {parity.largest:.2g} "
        f"of 1 ({255 * parity.largest:.2g} levels of 255), mean {parity.mean:.2g}, "
        f"PSNR {parity.psnr:.1f} dB{mask}\n"
        f"a picture of {width}x{height}: {theirs:.1f} ms, PyTorch {ours:.1f} ms"
    )


if __name__ == "__main__":
    sys.argv = cli.quote_paths(sys.argv, PATHS)
    cli.run(main)
