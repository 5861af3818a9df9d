"""Clean photos on disk: which files there are, which are broken, and their pixels."""

from __future__ import annotations

import hashlib
import struct
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from clearmark.errors import UserError
from clearmark.pictures import KINDS

ENDINGS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND"}
SPLITS = {"train": (0.0, 0.8), "val": (0.8, 0.9), "test": (0.9, 1.0)}
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # the JPEG segments that tell the size
REDUCED = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
}


class Photos(Sequence[np.ndarray]):
    """The photos of one split as uint8 RGB (H, W, 3), decoded once if they fit in memory.

    Args:
        paths: the files; broken ones are left out and kept in ``broken`` with the reason.
        short_side: larger photos are reduced to this many pixels on the shorter side.
        smallest: smaller photos are padded by reflection to this many pixels a side.
        cache_mb: decoded photos are kept while they need less than this many megabytes.
    """

    def __init__(
        self, paths: Sequence[Path], short_side: int, smallest: int, cache_mb: int = 2000
    ) -> None:
        self.short_side, self.smallest = short_side, smallest
        with ThreadPoolExecutor() as pool:
            reasons = list(pool.map(defect, paths))
        self.broken = {p: why for p, why in zip(paths, reasons, strict=True) if why}
        self.paths = [p for p in paths if p not in self.broken]
        self._kept: dict[int, np.ndarray] = {}
        self._fill(cache_mb * 1_000_000)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        if index in self._kept:
            return self._kept[index]
        for step in range(len(self)):
            number = (index + step) % len(self)
            photo = self.read(number)
            if photo is not None:
                return padded(photo, self.smallest)
            why = f"skipped a photo that cannot be decoded: {self.name(number)}"
            warnings.warn(why, stacklevel=2)
        raise UserError(f"none of the {len(self)} photos can be decoded")

    def read(self, number: int) -> np.ndarray | None:
        """One photo from the disk; None if it does not decode."""
        return read_photo(self.paths[number], self.short_side)

    def name(self, number: int) -> str:
        """Where a photo lies, for people."""
        return str(self.paths[number])

    def _fill(self, budget: int) -> None:
        """Decode ahead, in order, until the budget is spent; drop what does not decode."""
        with ThreadPoolExecutor() as pool:
            good: list[Path] = []
            for start in range(0, len(self.paths), 32):
                if budget <= 0:
                    good += self.paths[start:]
                    break
                chunk = self.paths[start : start + 32]
                decoded = pool.map(lambda p: read_photo(p, self.short_side), chunk)
                for path, photo in zip(chunk, decoded, strict=True):
                    if photo is None:
                        self.broken[path] = "cannot be decoded"
                        continue
                    self._kept[len(good)] = padded(photo, self.smallest)
                    budget -= self._kept[len(good)].nbytes
                    good.append(path)
            self.paths = good


def list_photos(root: Path, key: str = "data.root") -> list[Path]:
    """All picture files below ``root``, in a stable order; what is hidden is left out.

    Args:
        root: the folder.
        key: what the user calls it, for the error.

    Raises:
        UserError: ``root`` is missing, is no folder, or holds no picture.
    """
    if not root.is_dir():
        raise UserError(f"{key}={root} is not a folder; give a folder of clean photos")
    paths = sorted(
        p
        for p in root.rglob("*")
        if p.suffix.lower() in KINDS
        and p.is_file()
        and not any(part.startswith(".") for part in p.relative_to(root).parts)
    )
    if not paths:
        raise UserError(f"{key}={root} holds no pictures ({', '.join(sorted(KINDS)[:6])}, ...)")
    return paths


def split_of(path: Path) -> str:
    """The split of a user's photo: by a hash of its name alone, so that it never moves.

    80 % train, 10 % val, 10 % test; adding or moving other files changes nothing.
    """
    share = int(hashlib.sha1(path.name.encode()).hexdigest()[:8], 16) / 16**8
    return next(split for split, (low, high) in SPLITS.items() if low <= share < high)


def split_below(root: Path, path: Path) -> str | None:
    """The split of a photo below a user's folder.

    If that has a folder train, photos belong to its folders train, val and test, and others to none
    (None); else each goes by its name (``split_of``).
    """
    if not (root / "train").is_dir():
        return split_of(path)
    first = path.relative_to(root).parts[0]
    return first if first in SPLITS else None


def defect(path: Path) -> str | None:
    """Why a file is no whole picture, from its first and last bytes; None if it looks whole."""
    try:
        with path.open("rb") as file:
            head = file.read(2)
            size = file.seek(0, 2)
            file.seek(max(0, size - 4096))
            tail = file.read()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not size:
        return "empty file"
    if head in ENDINGS and ENDINGS[head] not in tail:
        return "truncated"
    try:
        known = cv2.haveImageReader(str(path))
    except cv2.error:  # a format that this build of OpenCV knows, but is told not to read
        known = False
    return None if known else "not a picture"


def read_photo(path: Path, short_side: int | None = None) -> np.ndarray | None:
    """``decode_photo`` of a file; None as well if it cannot be read."""
    try:
        return decode_photo(path.read_bytes(), short_side)
    except OSError:
        return None


def decode_photo(content: bytes, short_side: int | None = None) -> np.ndarray | None:
    """A photo as uint8 RGB (H, W, 3), upright as its EXIF says; None if it does not decode.

    With ``short_side`` a larger photo is reduced to that many pixels on its shorter side. A JPEG
    is decoded at 1/2, 1/4 or 1/8 of its size, the smallest that is not below ``short_side``:
    libjpeg makes 4x4, 2x2 or 1x1 pixels of each block of 8x8 from its lowest DCT coefficients.
    That saves most of the transform, the colours and the memory; all bytes are still read and
    unpacked. No region is decoded by itself: crops are cut from the reduced photo, which may be
    kept for the next one, the bytes before a region would have to be unpacked all the same, and
    OpenCV offers no such thing. Other formats are decoded whole.
    """
    stored = jpeg_size(content) if short_side else None
    room = min(stored) / short_side if stored and short_side else 1.0
    factor = next((factor for factor in REDUCED if factor <= room), 1)
    try:
        image = cv2.imdecode(
            np.frombuffer(content, np.uint8), REDUCED.get(factor, cv2.IMREAD_COLOR)
        )
    except cv2.error:
        return None
    if image is None:
        return None
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    full = image.shape[:2]
    if stored and factor > 1:
        lying = full == tuple(-(-side // factor) for side in stored)
        full = stored if lying else stored[::-1]  # EXIF may have turned it by a quarter
    scale = short_side / min(full) if short_side else 1.0
    if scale < 1:
        size = [max(short_side or 1, round(side * scale)) for side in full[::-1]]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return image


def jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Height and width of a JPEG as stored, before EXIF turns it; None of anything else."""
    at = 2 if content[:2] == b"\xff\xd8" else len(content)
    while at + 9 <= len(content) and content[at] == 0xFF:
        kind = content[at + 1]
        if kind in FRAMES:
            height, width = struct.unpack_from(">HH", content, at + 5)
            return (height, width) if height and width else None
        # A fill byte, or a segment that says how long it is.
        at += 1 if kind == 0xFF else 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return None


def padded(photo: np.ndarray, smallest: int) -> np.ndarray:
    """The photo, grown by reflection to at least ``smallest`` pixels a side."""
    missing = [max(0, smallest - side) for side in photo.shape[:2]]
    if not any(missing):
        return photo
    (top, left), (bottom, right) = (
        (gap // 2 for gap in missing),
        (gap - gap // 2 for gap in missing),
    )
    return cv2.copyMakeBorder(photo, top, bottom, left, right, cv2.BORDER_REFLECT)
