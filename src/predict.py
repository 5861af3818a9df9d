"""Take marks off your own pictures: ``python src/predict.py input=photo.jpg``."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from clearmark import cli
from clearmark.errors import UserError

if TYPE_CHECKING:
    from clearmark.remover import Remover

PATHS = ("ckpt", "input", "output", "mask")
BESIDE = {"mask": "save_mask", "compare": "compare"}  # NAME_mask.png, if its key is true


@hydra.main(version_base="1.3", config_path="../conf", config_name="predict")
@cli.entry
def main(cfg: DictConfig) -> None:
    """Restore the pictures; exit status 1 if some of them were broken."""
    broken = predict(cfg)
    for path, reason in broken.items():
        print(f"skipped {_shown(path)}: {reason}", file=sys.stderr)
    if broken:
        sys.exit(1)


def predict(cfg: DictConfig) -> dict[Path, str]:
    """Restore a picture or a folder of them; returns what was skipped, with the reasons.

    Raises:
        UserError: nothing was written, because a path or the checkpoint is wrong.
    """
    import torch
    from rich.progress import track

    from clearmark import load, pictures
    from clearmark.limits import check_numbers

    check_numbers(cfg)
    source = cli.path(cfg, "input")
    target = _beside(source) if cfg.output is None else cli.path(cfg, "output")
    jobs = dict(_jobs(source, target))
    hint = None if cfg.mask is None else cli.path(cfg, "mask")
    if hint and not (hint.is_file() or (hint.is_dir() and source.is_dir())):
        raise UserError(f"mask={hint} is no picture, nor a folder of them for a folder of pictures")
    _refuse(jobs, cfg)
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    remover = load(None if cfg.ckpt is None else cli.path(cfg, "ckpt"), cfg.device)
    broken = {}
    files = track(jobs, "restoring") if source.is_dir() else jobs
    for path in files:
        try:
            losses = _restore_file(remover, path, jobs[path], _hint_of(path, source, hint), cfg)
        except pictures.PictureError as error:
            broken[path] = str(error)
            continue
        for loss in losses:
            print(f"{_shown(jobs[path])}: {loss}")
    print(f"restored {len(jobs) - len(broken)} of {len(jobs)}: {target}")
    return broken


def _beside(source: Path) -> Path:
    """Where results go if nobody says so: ``photo_restored.jpg``, ``my_photos_restored``."""
    from clearmark import pictures

    named = source if source.name not in ("", "..") else source.resolve()
    if not named.name:
        raise UserError(f"input={source} has no place beside it; add output=... to the command")
    if source.is_dir():
        return named.with_name(f"{named.name}_restored")
    kind = named.suffix if pictures.writable(named) else ".png"
    return named.with_name(f"{named.stem}_restored{kind}")


def _jobs(source: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    """Every picture to restore, and where it goes; names and nested folders are kept."""
    from clearmark.data.photos import KINDS

    if not source.exists():
        raise UserError(f"input={source} does not exist; give a picture or a folder of pictures")
    if source.is_file():
        yield source, target / source.name if target.is_dir() or not target.suffix else target
        return
    if target.is_file():
        raise UserError(f"output={target} is a file; a folder needs a folder to go to")
    if target.resolve() == source.resolve():
        raise UserError(f"output={target} is the input; give another folder")
    found, results = False, os.path.realpath(target)
    for path in sorted(source.rglob("*")):
        inside = Path(os.path.realpath(path)).is_relative_to(results)
        there = path.is_file() or (path.is_symlink() and not path.exists())  # to say so of a loop
        if path.suffix.lower() in KINDS and there and path.name[0] != "." and not inside:
            found = True
            yield path, target / path.relative_to(source)
    if not found:
        raise UserError(f"input={source} holds no pictures")


def _refuse(jobs: dict[Path, Path], cfg: DictConfig) -> None:
    """Make sure that no file of the user's is lost."""
    from clearmark import disk, pictures

    targets = [file for target in jobs.values() for file in _written(target, cfg)]
    for target in jobs.values():
        disk.check_place(target)
    inputs = {_identity(path) for path in jobs if path.exists()}
    for target, times in Counter(targets).items():
        if times > 1:
            raise UserError(f"two results would be written to {target}; rename one of the inputs")
        if not target.exists():
            continue
        if _identity(target) in inputs:
            raise UserError(f"output={target} is an input; give another name or folder")
        if not cfg.overwrite:
            raise UserError(f"output={target} exists; add overwrite=true to replace it")
    if len(jobs) == 1 and not pictures.writable(targets[0]):
        raise UserError(f"output={targets[0]}: pictures of that kind cannot be written; use .png")


def _identity(path: Path) -> tuple[int, int]:
    """The same for every name of a file, through links and on disks that ignore case."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _hint_of(path: Path, source: Path, hint: Path | None) -> Path | None:
    if hint is None or hint.is_file():
        return hint
    return hint / path.relative_to(source).with_suffix(".png")


def _written(target: Path, cfg: DictConfig) -> list[Path]:
    """The result, and what may come beside it."""
    beside = [name for name in BESIDE if cfg[BESIDE[name]]]
    return [target, *(_named(target, name) for name in beside)]


def _named(target: Path, name: str) -> Path:
    return target.with_name(f"{target.stem}_{name}.png")


def _restore_file(
    remover: Remover, path: Path, target: Path, hint: Path | None, cfg: DictConfig
) -> tuple[str, ...]:
    """Restore one file; returns what of it could not be kept.

    Raises:
        pictures.PictureError: the file or its mask is broken, or the result cannot be written.
    """
    from clearmark import pictures

    picture = pictures.fitting(pictures.read(path, cfg.megapixels), target.suffix)
    restored, mask = remover.restore(picture.pixels)
    if hint:
        restored = pictures.limited(picture.pixels, restored, hint, cfg.megapixels)
    results = {target: replace(picture, pixels=restored)}
    if cfg.save_mask and mask is not None:
        seen = pictures.Picture((mask * 255).round().astype("uint8"))
        results[_named(target, "mask")] = seen
    if cfg.compare:
        results[_named(target, "compare")] = pictures.side_by_side(picture.pixels, restored, mask)
    try:
        for file, result in results.items():
            pictures.write(file, result, cfg.quality)
    except OSError as error:
        raise pictures.PictureError(f"cannot write {target}: {error.strerror or error}") from error
    return picture.losses


def _shown(path: Path) -> str:
    """A name that does nothing to a terminal, whoever gave it."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(path))


if __name__ == "__main__":
    sys.argv = cli.quote_paths(sys.argv, PATHS)
    cli.run(main)
