"""Which files of a folder of marked and clean pictures belong together, and to which split.

A layout is the folder of each map below the root, as ``{split}/Watermarked_image``; see conf/data.
Files are judged by their head and tail, and decoded only where these do not tell the size.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import struct
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath
from typing import NamedTuple

from clearmark.data.photos import ENDINGS, SPLITS, defect, jpeg_size, read_photo
from clearmark.errors import UserError
from clearmark.pictures import KINDS

NEEDED = ("marked", "clean")
CARVED = {"train": (0.0, 0.9), "val": (0.9, 1.0)}
EDGE = 4096  # bytes of a file that are looked at, at its head and at its tail


class Pair(NamedTuple):
    """A marked picture and what belongs to it.

    name: path below its folder, without the suffix.
    files: map ("marked", "clean", "mask", "opacity", "colour") -> path.
    size: (width, height), upright.
    background: the same for all pairs that show the same clean picture: by its name where names
        tell it, else where the files are as long and end alike. A picture that was encoded again
        counts as another; to know it again, all files would have to be decoded.
    mark: the same for all pairs that bear the same mark; None where the names do not tell.
    """

    name: str
    files: dict[str, str]
    size: tuple[int, int]
    background: str
    mark: str | None


class Listing(NamedTuple):
    """The pairs of a folder in a stable order, and the files left out with the reasons."""

    pairs: list[Pair]
    broken: dict[Path, str]


def sources(root: Path, folders: Mapping[str, str]) -> dict[str, dict[str, Path]]:
    """The folders of each split that has its own: split -> map -> folder; of "all" if none has.

    Without ``{split}`` in ``folders`` they are looked for in ``train``, ``val`` and ``test`` first.

    Raises:
        UserError: the root is no folder, or has no marked pictures in that layout.
    """
    if not root.is_dir():
        raise UserError(f"data.root={root} is not a folder; give the folder that holds the pairs")
    if not any("{split}" in folder for folder in folders.values()):
        if not any((root / split / folders["marked"]).is_dir() for split in SPLITS):
            return {"all": {key: root / folder for key, folder in folders.items()}}
        folders = {key: f"{{split}}/{folder}" for key, folder in folders.items()}
    every = {
        split: {key: root / folder.replace("{split}", split) for key, folder in folders.items()}
        for split in SPLITS
    }
    found = {split: paths for split, paths in every.items() if paths["marked"].is_dir()}
    if not found:
        wanted = " nor ".join(str(paths["marked"].relative_to(root)) for paths in every.values())
        raise UserError(f"data.root={root} has no folder {wanted}; give the folder that holds them")
    return found


def read_listing(folders: Mapping[str, Path], names: str | None = None) -> Listing:
    """Match the files of the folders by their path without suffix, and check them.

    Args:
        folders: map -> folder; only marked and clean have to exist.
        names: regular expression of the whole name with the groups ``background`` and ``mark``;
            the clean picture may then bear the background's name alone.

    Raises:
        UserError: a folder that cannot be inferred is missing, or holds no pictures.
    """
    missing = [str(folders[key]) for key in NEEDED if not folders[key].is_dir()]
    if missing:
        raise UserError(
            f"there is no folder {' and no folder '.join(missing)}, and nothing to infer its "
            "pictures from; check data.root, data.marked and data.clean"
        )
    broken: dict[Path, str] = {}
    files = {key: _files(path, broken) for key, path in folders.items() if path.is_dir()}
    for key in NEEDED:
        if not files[key]:
            raise UserError(f"the folder {folders[key]} holds no pictures")
    matched = _matched(files, folders, names, broken)
    looked = _inspected({path for found, _ in matched.values() for path in found.values()})
    shown: dict[tuple[int, bytes], str] = {}  # the first name under which each clean picture comes
    pairs = []
    for name, (found, told) in matched.items():
        reason = _reason(found, looked)
        if reason:
            broken[Path(reason[0])] = reason[1]
            continue
        print_of = looked[found["clean"]].fingerprint
        background = told["background"] if told else shown.setdefault(print_of, name)
        mark = told["mark"] if told else None
        pairs.append(Pair(name, found, looked[found["marked"]].size, background, mark))
    return Listing(pairs, broken)


def divide(listing: Listing, shares: Mapping[str, tuple[float, float]]) -> dict[str, Listing]:
    """Cut a listing into splits by a hash of the backgrounds' names, so that a pair never moves.

    No two splits share a background. Where marks are told they share no mark either: a pair whose
    background and mark fall into different splits is left out.
    """
    parts: dict[str, list[Pair]] = {split: [] for split in shares}
    broken = dict(listing.broken)
    for pair in listing.pairs:
        split = _split_of(pair.background, shares)
        if pair.mark is not None and _split_of(pair.mark, shares) != split:
            reason = "left out: its background and its mark fall into different splits"
            broken[Path(pair.files["marked"])] = reason
        else:
            parts[split].append(pair)
    return {split: Listing(pairs, broken) for split, pairs in parts.items()}


def _split_of(name: str, shares: Mapping[str, tuple[float, float]]) -> str:
    digest = hashlib.sha1(PurePath(name).name.encode()).hexdigest()
    share = int(digest[:8], 16) / 16**8
    return next(split for split, (low, high) in shares.items() if low <= share < high)


def _files(folder: Path, broken: dict[Path, str]) -> dict[str, str]:
    """Path without suffix -> path, of all pictures below a folder; what is hidden is left out."""
    found: dict[str, str] = {}
    for place, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if name[0] != ".")
        prefix = "" if place == str(folder) else os.path.relpath(place, folder) + os.sep
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)
            if suffix.lower() not in KINDS or name[0] == ".":
                continue
            path = os.path.join(place, name)
            if found.setdefault(prefix + stem, path) != path:
                broken[Path(path)] = f"{Path(found[prefix + stem]).name} has the same name"
    return found


def _matched(
    files: Mapping[str, Mapping[str, str]],
    folders: Mapping[str, Path],
    names: str | None,
    broken: dict[Path, str],
) -> dict[str, tuple[dict[str, str], dict[str, str] | None]]:
    """Name -> its files, and what the name tells; what lacks a counterpart goes to ``broken``."""
    matched = {}
    for name in sorted(files["marked"]):
        marked = files["marked"][name]
        told = re.fullmatch(names, name) if names else None
        if names and not told:
            broken[Path(marked)] = "its name does not tell background and mark"
            continue
        found = {key: of.get(name) for key, of in files.items()}
        if told and found["clean"] is None:
            found["clean"] = files["clean"].get(told["background"])
        lacking = [folders[key].name for key, path in found.items() if path is None]
        if lacking:
            broken[Path(marked)] = f"no counterpart in {' and '.join(lacking)}"
            continue
        whole = {key: path for key, path in found.items() if path is not None}
        matched[name] = whole, told.groupdict() if told else None
    if not names:  # else a clean picture may wait for the marked ones of another split
        for name in files["clean"].keys() - files["marked"].keys():
            broken[Path(files["clean"][name])] = f"no counterpart in {folders['marked'].name}"
    return matched


class _Inspected(NamedTuple):
    defect: str | None
    size: tuple[int, int] = (0, 0)
    fingerprint: tuple[int, bytes] = (0, b"")


def _inspected(paths: Iterable[str]) -> dict[str, _Inspected]:
    distinct = sorted(paths)
    chunks = [distinct[at : at + 500] for at in range(0, len(distinct), 500)]
    with ThreadPoolExecutor() as pool:
        looked = pool.map(lambda chunk: [_inspect(path) for path in chunk], chunks)
        return dict(zip(distinct, itertools.chain.from_iterable(looked), strict=True))


def _inspect(path: str) -> _Inspected:
    """Judge a file by its head and tail.

    Two files of the same length whose last 4096 bytes are the same have one fingerprint.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            head = file.read(EDGE)
            length = file.seek(0, 2)
            file.seek(max(0, length - EDGE))
            tail = file.read()
    except OSError as error:
        return _Inspected(f"cannot be read: {error.strerror}")
    ending = ENDINGS.get(head[:2])
    reason = None if ending and ending in tail else defect(Path(path))
    if reason:
        return _Inspected(reason)
    size = _size(path, head)
    if size is None:
        return _Inspected("cannot be decoded")
    return _Inspected(None, size, (length, hashlib.sha1(tail).digest()))


def _size(path: str, head: bytes) -> tuple[int, int] | None:
    """Width and height, upright: from the head where it tells them, else from the whole file."""
    if head[12:16] == b"IHDR":
        return struct.unpack(">II", head[16:24])
    stored = jpeg_size(head) if b"Exif" not in head else None
    if stored is None:
        photo = read_photo(Path(path))
        stored = None if photo is None else photo.shape[:2]
    return None if stored is None else (stored[1], stored[0])


def _reason(found: Mapping[str, str], looked: Mapping[str, _Inspected]) -> tuple[str, str] | None:
    """The first file of a pair that makes it useless, and why."""
    for path in found.values():
        why = looked[path].defect
        if why:
            return path, why
    width, height = looked[found["marked"]].size
    for key, path in found.items():
        other = looked[path].size
        if other != (width, height):
            size = f"{other[0]}x{other[1]}"
            return found["marked"], f"is {width}x{height}, but its {key} picture is {size}"
    return None
