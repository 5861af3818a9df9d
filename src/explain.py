"""See inside a network at one picture: ``python src/explain.py input=photo.jpg``."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig, OmegaConf

from clearmark import cli
from clearmark.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from clearmark.data.marked import Sample
    from clearmark.inside.findings import Findings, Window
    from clearmark.remover import Remover

PATHS = ("ckpt", "input", "output")
PATCHES = 1024
"""That occlusion tries at most, each a forward pass."""


@hydra.main(version_base="1.3", config_path="../conf", config_name="explain")
@cli.entry
def main(cfg: DictConfig) -> None:
    """Write the page and say what was looked at."""
    explain(cfg)


def explain(cfg: DictConfig) -> Findings:
    """Write one PNG of what is to be seen inside a network; returns what it shows.

    Raises:
        UserError: nothing was written, because of the picture, the checkpoint or a number.
    """
    import torch

    from clearmark import load
    from clearmark.config import check, register_resolvers
    from clearmark.inside import captum, look, page

    register_resolvers()
    check(cfg)
    if (patches := math.ceil(cfg.side / cfg.patch) ** 2) > PATCHES:
        raise UserError(
            f"patch={cfg.patch} makes {patches} patches of side={cfg.side}, too many to try; give "
            f"patch={math.ceil(cfg.side / math.isqrt(PATCHES))} or more"
        )
    output = _output(cfg)
    captum()
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    remover = load(None if cfg.ckpt is None else cli.path(cfg, "ckpt"), cfg.device)
    sample, name = _sample(cfg)
    seen = _window(remover, sample["marked"], cfg, name)
    part = {key: seen.of(values) for key, values in sample.items()}
    pixel = None if cfg.pixel is None else (cfg.pixel[1] - seen.top, cfg.pixel[0] - seen.left)
    found = look(remover.network, part, cfg.of, pixel, cfg.steps, cfg.patch)
    height, width = sample["marked"].shape[:2]
    title = f"{type(remover.network).__name__} at {name}: {found.question.says}"
    if found.question.pixel is not None:
        row, column = found.question.pixel
        title += f", pixel=[{column + seen.left},{row + seen.top}]"
    title += f"; {seen.side}x{seen.side} of {width}x{height} pixels, from ({seen.left}, {seen.top})"
    try:
        page.write(page.sheet(found, title), output)
    except OSError as error:
        raise UserError(f"output={output} cannot be written: {error.strerror or error}") from error
    _tell(found, title, output)
    return found


def _output(cfg: DictConfig) -> Path:
    """Where the page goes."""
    from clearmark import disk

    if cfg.input is not None and cfg.sample is not None:
        raise UserError("input and sample exclude each other; leave one of them out")
    if cfg.output is not None:
        output = cli.path(cfg, "output")
    elif cfg.input is not None:
        source = cli.path(cfg, "input")
        output = (
            source.with_name(f"{source.stem}_inside.png") if source.name else Path("inside.png")
        )
    else:
        output = Path(f"sample{cfg.sample or 0}_inside.png")
    if output.suffix.lower() != ".png":
        raise UserError(f"output={output} is no .png; name it {output.stem or 'inside'}.png")
    disk.check_place(output)
    if output.exists() and (output.is_dir() or not cfg.overwrite):
        raise UserError(f"output={output} exists; add overwrite=true to replace it")
    return output


def _sample(cfg: DictConfig) -> tuple[Sample, str]:
    """The picture, what is known of its mark, and what to call it."""
    from clearmark import pictures
    from clearmark.config import create

    if cfg.input is None:
        index = cfg.sample or 0
        dataset = create(cfg.data).dataset("test")
        if hasattr(dataset, "__len__") and index >= len(dataset):
            raise UserError(f"sample={index}: there are {len(dataset)}, the first is sample=0")
        return dataset[(0, index)], f"sample={index}"
    source = cli.path(cfg, "input")
    if not source.is_file():
        what = "is no picture but a folder" if source.is_dir() else "does not exist"
        raise UserError(f"input={source} {what}; give a picture")
    try:
        picture = pictures.read(source, cfg.megapixels)
    except pictures.PictureError as error:
        raise UserError(f"input={source}: {error}") from error
    fitting = pictures.fitting(picture, ".jpg")  # 8 bits, no transparency
    return {"marked": fitting.pixels}, f"input={source}"


def _window(remover: Remover, marked: np.ndarray, cfg: DictConfig, name: str) -> Window:
    """The square of the picture that is looked at."""
    import numpy as np

    from clearmark.inside import window

    pixel = None
    if cfg.pixel is not None:
        if not OmegaConf.is_list(cfg.pixel) or len(cfg.pixel) != 2:
            raise UserError(f"pixel={cfg.pixel} is no place; give pixel=[column,row]")
        pixel = (cfg.pixel[1], cfg.pixel[0])
    changed = np.zeros(marked.shape[:2], np.float32)
    if pixel is None and max(changed.shape) > cfg.side:
        restored = remover.restore(marked)[0]
        changed = np.abs(restored.astype(np.float32) - marked).mean(2)
    return window(changed, cfg.side, pixel, name)


def _tell(found: Findings, title: str, output: Path) -> None:
    print(title)
    size = found.field.size
    print(f"95 % of what it owes to pixels around comes from {size}x{size} of them")
    gone = found.deleted
    print(
        f"deleting {gone.shares[2]:.0%} of the pixels moves the answer by {gone.named[2]:.3g} if "
        f"they are the ones named, {gone.random[2]:.3g} if any, {gone.least[2]:.3g} if the least"
    )
    if found.figures:
        figures = (f"{key} {value:.3g}" for key, value in found.figures.items())
        print(f"against the truth: {', '.join(figures)}")
    print(f"page: {output}")


if __name__ == "__main__":
    sys.argv = cli.quote_paths(sys.argv, PATHS)
    cli.run(main)
