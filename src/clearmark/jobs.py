"""Which pictures to restore, and where each result goes, so that no file of the user's is lost."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from clearmark import disk, pictures
from clearmark.errors import UserError


class Job(NamedTuple):
    """One picture.

    source: its file.
    results: what is written, by name; "" is the restored picture.
    hint: a picture that says where the network may act, or None.
    """

    source: Path
    results: dict[str, Path]
    hint: Path | None

    @property
    def missing(self) -> dict[str, Path]:
        """The results that are not there."""
        return {name: file for name, file in self.results.items() if not file.exists()}


class Plan(NamedTuple):
    """What is to be done.

    many: the input is a folder or a pattern.
    target: the file, or the folder, that results go to.
    jobs: one for each picture.
    unread: pictures of kinds that are not read, of many.
    """

    many: bool
    target: Path
    jobs: list[Job]
    unread: Sequence[Path] = ()


def plan(source: Path, output: Path | None, hint: Path | None, beside: Sequence[str]) -> Plan:
    """Find the pictures.

    Args:
        source: a picture, a folder or a pattern as ``photos/**/*.jpg``.
        output: a file or a folder; None takes a name beside the source.
        hint: a picture, or for many pictures a folder of them, that limits where to act.
        beside: what is written beside a result, ``mask`` as NAME_mask.png.

    Raises:
        UserError: there are none, or some result would take the place of an input, of another
            result, or can be written by nobody.
    """
    pattern = glob.has_magic(str(source)) and not source.exists()
    root = _root(source) if pattern else source
    many = pattern or source.is_dir()
    if not pattern and not source.exists():
        raise UserError(f"input={source} does not exist; give a picture or a folder of pictures")
    if hint and not (hint.is_file() or (hint.is_dir() and many)):
        raise UserError(f"mask={hint} is no picture, nor a folder of them for a folder of pictures")
    target = _beside(root) if output is None else output
    unread: list[Path] = []
    if not many:
        file = target / source.name if target.is_dir() or not target.suffix else target
        pairs = [(source, file)]
    else:
        if target.is_file():
            raise UserError(f"output={target} is a file; a folder needs a folder to go to")
        if target.resolve() == root.resolve():
            raise UserError(f"output={target} is the input; give another folder")
        found = glob.iglob(str(source), recursive=True) if pattern else source.rglob("*")
        walked = sorted(map(Path, found))
        kinds = (pictures.KINDS, pictures.UNREAD)
        paths, unread = (list(_pictures(walked, target, k)) for k in kinds)
        if not paths:
            only = f", but {unread[0].suffix}, which is not read" if unread else ""
            raise UserError(f"input={source} {'matches' if pattern else 'holds'} no pictures{only}")
        pairs = [(p, pictures.as_written(target / p.relative_to(root))) for p in paths]
    jobs = [
        Job(
            path,
            {"": file} | {name: file.with_name(f"{file.stem}_{name}.png") for name in beside},
            hint / path.relative_to(root).with_suffix(".png") if hint and hint.is_dir() else hint,
        )
        for path, file in pairs
    ]
    _check(jobs)
    return Plan(many, target, jobs, unread)


def _root(pattern: Path) -> Path:
    """The folder that all of a pattern's pictures lie in."""
    fixed = pattern.parts[:-1]
    for at, part in enumerate(fixed):
        if glob.has_magic(part):
            return Path(*fixed[:at])
    return Path(*fixed)


def _beside(source: Path) -> Path:
    """Where results go if nobody says so: ``photo_restored.jpg``, ``my_photos_restored``."""
    named = source if source.name not in ("", "..") else source.resolve()
    if not named.name:
        raise UserError(f"input={source} has no place beside it; add output=... to the command")
    if not source.is_file():
        return named.with_name(f"{named.name}_restored")
    return pictures.as_written(named.with_stem(f"{named.stem}_restored"))


def _pictures(paths: Sequence[Path], target: Path, kinds: Collection[str]) -> Iterator[Path]:
    """Those that are of some kinds by their names, and no results."""
    results = os.path.realpath(target)
    for path in paths:
        inside = Path(os.path.realpath(path)).is_relative_to(results)
        there = path.is_file() or (path.is_symlink() and not path.exists())  # to say so of a loop
        if path.suffix.lower() in kinds and there and path.name[0] != "." and not inside:
            yield path


def _check(jobs: Sequence[Job]) -> None:
    """Make sure that no input is written to, and no result twice."""
    targets = [file for job in jobs for file in job.results.values()]
    for job in jobs:
        disk.check_place(job.results[""])
    inputs = {_identity(job.source) for job in jobs if job.source.exists()}
    for target, times in Counter(targets).items():
        if times > 1:
            raise UserError(f"two results would be written to {target}; rename one of the inputs")
        if target.exists() and _identity(target) in inputs:
            raise UserError(f"output={target} is an input; give another name or folder")
    if len(jobs) == 1 and not pictures.writable(targets[0]):
        raise UserError(f"output={targets[0]}: pictures of that kind cannot be written; use .png")


def _identity(path: Path) -> tuple[int, int]:
    """The same for every name of a file, through links and on disks that ignore case."""
    status = path.stat()
    return status.st_dev, status.st_ino
