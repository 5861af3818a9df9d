"""Packs a folder of clean photos into shards that ``clearmark.data.shards`` reads."""

import hashlib
import io
import json
import os
import re
import shutil
import tarfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from clearmark.data.photos import (
    SPLITS,
    decode_photo,
    defect,
    jpeg_size,
    list_photos,
    split_below,
    split_of,
)
from clearmark.data.shards import CONTENTS, ROW, VERSION, Shard, index_path
from clearmark.errors import UserError
from clearmark.pictures import KINDS

LEFT_OUT = "left_out.tsv"
AHEAD = 64  # photos that are read before they are written
GLANCE = 64  # short side at which a photo that is kept as it is gets decoded, to see if it can be


def pack(
    root: Path,
    output: Path,
    short_side: int | None = None,
    quality: int = 95,
    shard_mb: float = 256,
    track: Callable[[Iterable[Path], int], Iterable[Path]] = lambda paths, _: paths,
) -> tuple[dict[str, int], dict[Path, str]]:
    """Write the photos below ``root`` as shards; returns photos per split and what was left out.

    Each split (that of ``data=folder``, see ``split_below``) gets shards of its own. The
    photos come in an order that has nothing to do with their folders, the same one every time.
    All is written in a folder within ``output`` and moved out of it when it is whole.

    Args:
        root: folder of clean photos, nested or not.
        output: folder that is empty or not there yet.
        short_side: photos with a longer shorter side are reduced to it and become JPEG; None keeps
            every file byte for byte.
        quality: of those JPEG, 1 to 100.
        shard_mb: a shard is closed when it holds that many megabytes.
        track: shows progress; gets the photos and their number, and hands them on.

    Raises:
        UserError: no photos, none that is whole, or ``output`` is not empty.
    """
    paths = list_photos(root, "input")
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise UserError(f"output={output} exists and is not empty; give a new folder")
    ordered = sorted(paths, key=lambda p: hashlib.sha1(str(p.relative_to(root)).encode()).digest())
    made, part = not output.exists(), output / ".part"
    part.mkdir(parents=True)
    try:
        writers = {split: ShardWriter(part, split, shard_mb * 1e6) for split in SPLITS}
        left_out = _fill(root, writers, track(ordered, len(ordered)), short_side, quality)
        shards = {split: writer.close() for split, writer in writers.items()}
        if len(left_out) == len(paths):
            raise UserError(f"all {len(paths)} photos in input={root} are broken")
        reasons = {str(path.relative_to(root)): why for path, why in left_out.items()}
        _publish(part, output, shards, reasons)
    except BaseException:
        shutil.rmtree(output if made else part, ignore_errors=True)
        raise
    return {split: sum(s.photos for s in of) for split, of in shards.items()}, left_out


class ShardWriter:
    """Tar files of one split, each photo a sample of WebDataset under a key of its own.

    Args:
        folder: where they go.
        split: first part of their names.
        size: bytes at which a shard is closed.
    """

    def __init__(self, folder: Path, split: str, size: float) -> None:
        self.folder, self.split, self.size = folder, split, size
        self.shards: list[Shard] = []
        self.written = 0
        self._tar: tarfile.TarFile | None = None
        self._index: BinaryIO = index_path(folder, split).open("wb")

    def add(self, stem: str, content: bytes, suffix: str) -> None:
        """One photo, as the bytes of its file."""
        if self._tar is None:
            name = f"{self.split}-{len(self.shards):06d}.tar"
            path = self.folder / name
            self._tar = tarfile.TarFile.open(path, "w", format=tarfile.USTAR_FORMAT)
            self.shards.append(Shard(name, 0, 0))
        # A key ends at its first dot, and tells neither folders nor who packed when.
        plain = re.sub(r"[^A-Za-z0-9_-]+", "_", stem)[:48]
        member = tarfile.TarInfo(f"{self.written:09d}-{plain}{suffix}")
        member.size = len(content)
        self._tar.addfile(member, io.BytesIO(content))
        after = self._tar.offset
        padding = -len(content) % tarfile.BLOCKSIZE
        self._index.write(np.array([after - padding - len(content), len(content)], ROW).tobytes())
        self.written += 1
        shard = self.shards[-1]
        self.shards[-1] = shard._replace(photos=shard.photos + 1)
        if after >= self.size:
            self._finish()

    def close(self) -> list[Shard]:
        """Finish the last shard; returns all of them."""
        self._finish()
        self._index.close()
        return self.shards

    def _finish(self) -> None:
        if self._tar is not None:
            self._tar.close()
            size = (self.folder / self.shards[-1].name).stat().st_size
            self.shards[-1] = self.shards[-1]._replace(size=size)
            self._tar = None


def _fill(
    root: Path,
    writers: Mapping[str, ShardWriter],
    paths: Iterable[Path],
    short_side: int | None,
    quality: int,
) -> dict[Path, str]:
    """Give each photo to the writer of its split; returns what was left out, with the reason."""
    left_out: dict[Path, str] = {}
    with ThreadPoolExecutor() as pool:
        for path, content in _ahead(pool, paths, short_side, quality):
            split = split_below(root, path)
            if isinstance(content, str):
                left_out[path] = content
            elif split is None:
                left_out[path] = "in none of the folders train, val and test"
            else:
                writers[split].add(path.stem, *content)
    return left_out


def _ahead(
    pool: ThreadPoolExecutor, paths: Iterable[Path], short_side: int | None, quality: int
) -> Iterator[tuple[Path, tuple[bytes, str] | str]]:
    """Reads in threads, in order and not far ahead."""
    waiting: deque[tuple[Path, Future[tuple[bytes, str] | str]]] = deque()
    for path in paths:
        waiting.append((path, pool.submit(_read, path, short_side, quality)))
        if len(waiting) > AHEAD:
            done, read = waiting.popleft()
            yield done, read.result()
    for done, read in waiting:
        yield done, read.result()


def _read(path: Path, short_side: int | None, quality: int) -> tuple[bytes, str] | str:
    """The bytes and the suffix to pack a photo with, or why it is left out."""
    why = defect(path)
    if why:
        return why
    try:
        content = path.read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    photo = decode_photo(content, short_side or GLANCE)
    if photo is None:
        return "cannot be decoded"
    exact = min(jpeg_size(content) or (0, 0)) == short_side
    if short_side is None or min(photo.shape[:2]) < short_side or exact:
        return content, path.suffix.lower()
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality]
    encoded = cv2.imencode(".jpg", cv2.cvtColor(photo, cv2.COLOR_RGB2BGR), settings)[1]
    return encoded.tobytes(), ".jpg"


def index_tars(
    root: Path, track: Callable[[Iterable[Path], int], Iterable[Path]] = lambda paths, _: paths
) -> dict[str, int]:
    """Make a folder of anybody's tar files a folder of shards, by an index beside them.

    Only the tar files' headers are read; a photo that is broken is skipped when training meets it.
    Returns photos per split.

    Raises:
        UserError: no tar files, one that is damaged, or no photos in them.
    """
    tars = sorted(root.glob("*.tar"))
    if not tars:
        raise UserError(f"input={root} holds no tar files to index; give another output folder")
    if (root / CONTENTS).exists():
        raise UserError(f"output={root} has an index; delete {root / CONTENTS} to make it anew")
    part = root / ".part"
    part.mkdir()
    try:
        shards: dict[str, list[Shard]] = {split: [] for split in SPLITS}
        files = {split: index_path(part, split).open("wb") for split in SPLITS}
        for tar in track(tars, len(tars)):
            for split, rows in _members(tar).items():
                files[split].write(np.array(rows, ROW).tobytes())
                shards[split].append(Shard(tar.name, len(rows), tar.stat().st_size))
        for file in files.values():
            file.close()
        if not any(shard.photos for of in shards.values() for shard in of):
            raise UserError(f"the {len(tars)} tar files in input={root} hold no photos")
        _publish(part, root, shards, {})
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return {split: sum(s.photos for s in of) for split, of in shards.items()}


def _members(path: Path) -> dict[str, list[tuple[int, int]]]:
    """Offset and size of the photos in a tar file, by split."""
    rows: dict[str, list[tuple[int, int]]] = {split: [] for split in SPLITS}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                name = Path(member.name)
                if member.isreg() and not member.issparse() and name.suffix.lower() in KINDS:
                    rows[split_of(name)].append((member.offset_data, member.size))
    except (tarfile.TarError, OSError) as error:
        raise UserError(f"{path} cannot be read as an uncompressed tar file: {error}") from error
    return rows


def _publish(
    part: Path, output: Path, shards: Mapping[str, list[Shard]], left_out: Mapping[str, str]
) -> None:
    """Describe what lies in ``part`` and move it out, the contents last: readers look there."""
    content = {"version": VERSION, "left_out": len(left_out), "splits": shards}
    (part / CONTENTS).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if left_out:
        lines = [f"{name}\t{why}\n" for name, why in left_out.items()]
        (part / LEFT_OUT).write_text("".join(lines), encoding="utf-8", errors="replace")
    for path in sorted(part.iterdir(), key=lambda p: p.name == CONTENTS):
        os.replace(path, output / path.name)
    part.rmdir()
