"""Files that are whole or not there, and what a run cannot write, as on a full disk.

A run says so once, goes on, and tries again later.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from clearmark.errors import UserError

_lost: dict[Path, str] = {}  # file -> why it could not be written when that was last tried
_said: set[Path] = set()  # folders


def check_place(path: Path, key: str = "output") -> None:
    """See that something can be written at a path, whose folder need not be there yet.

    Raises:
        UserError: it cannot.
    """
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise UserError(f"{key}={path}: {above} is a file and no directory")
    if not os.access(above, os.W_OK):
        raise UserError(f"{key}={path}: nothing can be written to {above}")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to write to, renamed to it at the end: nobody meets half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.part")
    try:
        yield beside
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """A path of the same name elsewhere, to write a file or a folder to and to try it out.

    It is put at ``path`` at the end, in the place of what is there; if it fails, nothing changes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as beside:
        new, old = Path(beside, "new", path.name), Path(beside, "old")
        new.parent.mkdir()
        yield new
        if path.is_dir() and new.is_dir():  # a folder is not replaced at once
            os.replace(path, old)
        os.replace(new, path)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """An empty folder to write to, put at ``path`` at the end, in the place of what is there."""
    with aside(path) as new:
        new.mkdir()
        yield new


@contextmanager
def going_on(path: Path) -> Iterator[None]:
    """Write a file in here: an ``OSError`` is noted, and told once for all files of a folder."""
    try:
        yield
    except OSError as error:
        _lost[path] = error.strerror or str(error)
        if path.parent not in _said:
            _said.add(path.parent)
            line = f"{path} could not be written: {_lost[path]}; training goes on and tries again"
            with suppress(OSError):  # the terminal may be a file on the same disk
                print(f"\nwarning: {line}", file=sys.stderr, flush=True)
    else:
        _lost.pop(path, None)


def failed(path: Path) -> bool:
    """Whether the last try to write that file failed."""
    return path in _lost


def check(*paths: Path) -> None:
    """At the end of a run, see that these files are what the run made of them last.

    Raises:
        UserError: one could not be written.
    """
    missing = [path for path in paths if failed(path)]
    if missing:
        names = " and ".join(map(str, missing))
        raise UserError(
            f"{names} could not be written: {_lost[missing[0]]}; the test's figures are above"
        )
