"""Take marks off your own pictures: ``python src/predict.py input=photo.jpg``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from clearmark import cli
from clearmark.errors import UserError

if TYPE_CHECKING:
    from clearmark.inference import Watch
    from clearmark.jobs import Job, Plan
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
    """Restore a picture, or many; returns what was skipped, with the reasons.

    Raises:
        UserError: nothing was written, because a path or the checkpoint is wrong.
    """
    import torch

    from clearmark import jobs, load
    from clearmark.limits import check_numbers

    check_numbers(cfg)
    output, hint = (None if cfg[key] is None else cli.path(cfg, key) for key in ("output", "mask"))
    beside = [name for name, key in BESIDE.items() if cfg[key]]
    plan = jobs.plan(cli.path(cfg, "input"), output, hint, beside)
    _leave_out(plan.unread)
    left = [job for job in plan.jobs if cfg.overwrite or job.missing]
    for file in plan.jobs[0].results.values():
        if not plan.many and not cfg.overwrite and file.exists():
            raise UserError(f"output={file} exists; add overwrite=true to replace it")
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    remover = load(None if cfg.ckpt is None else cli.path(cfg, "ckpt"), cfg.device)
    return _restore_files(remover, plan, left, cfg)


def _leave_out(unread: Sequence[Path]) -> None:
    """Say which pictures are of kinds that are not read, a line for each kind."""
    kinds: dict[str, list[str]] = {}
    for path in unread:
        kinds.setdefault(path.suffix.lower(), []).append(_shown(path))
    for kind, names in kinds.items():
        more = f" and {len(names) - 3} more" if names[3:] else ""
        said = f"left out {', '.join(names[:3])}{more}: {kind} is not read; convert it to .png"
        print(said, file=sys.stderr)


def _restore_files(
    remover: Remover, plan: Plan, left: list[Job], cfg: DictConfig
) -> dict[Path, str]:
    """Restore what is left of a plan; returns what was skipped, with the reasons."""
    from rich.progress import track

    from clearmark import pictures

    broken, done = {}, 0
    watch = None if plan.many else partial(track, description="restoring")
    try:
        for job in track(left, "restoring") if plan.many else left:
            try:
                losses = _restore_file(remover, job, watch, cfg)
            except pictures.PictureError as error:
                broken[job.source] = str(error)
                continue
            done += 1
            for loss in losses:
                print(f"{_shown(job.results[''])}: {loss}")
    except KeyboardInterrupt:
        if not done:
            raise
        print("stopped; the same command does the rest", file=sys.stderr)
        sys.exit(cli.INTERRUPTED)
    finally:
        there = len(plan.jobs) - len(left)
        earlier = f", {there} were there already (overwrite=true replaces them)" if there else ""
        where = f": {plan.target}" if done or there else ""
        print(f"restored {done} of {len(plan.jobs)}{earlier}{where}")
    return broken


def _restore_file(
    remover: Remover, job: Job, watch: Watch | None, cfg: DictConfig
) -> tuple[str, ...]:
    """Restore one file; returns what of it could not be kept.

    Raises:
        pictures.PictureError: the file or its mask is broken, or the result cannot be written.
    """
    from clearmark import beside, pictures

    wanted = job.results if cfg.overwrite else job.missing
    picture = pictures.read(job.source, cfg.megapixels)
    picture = pictures.fitting(picture, job.results[""].suffix)
    restored, mask = remover.restore(picture.pixels, "mask" in wanted or cfg.compare, watch)
    if job.hint:
        restored = beside.limited(picture.pixels, restored, job.hint, cfg.megapixels)
    made = {"": replace(picture, pixels=restored)}
    if mask is not None:
        made["mask"] = beside.of_mask(mask)
    elif "mask" in wanted:
        raise UserError(f"save_mask=true: ckpt={cfg.ckpt} predicts no mask; leave it out")
    if "compare" in wanted:
        seen = made["mask"].pixels if "mask" in made else None
        made["compare"] = beside.side_by_side(picture.pixels, restored, seen)
    losses = picture.losses
    del picture, mask  # a large picture's bytes are needed to write the result
    try:
        for name, file in wanted.items():
            if name in made:
                pictures.write(file, made.pop(name), cfg.quality)
    except OSError as error:
        raise pictures.PictureError(f"cannot write {file}: {error.strerror or error}") from error
    return losses


def _shown(path: Path) -> str:
    """A name that does nothing to a terminal, whoever gave it."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(path))


if __name__ == "__main__":
    sys.argv = cli.quote_paths(cli.name_path(sys.argv, "input"), PATHS)
    cli.run(main)
