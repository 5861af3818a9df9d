"""Clean photos on disk: which files there are, which are broken, and their pixels."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from clearmark.errors import UserError

KINDS = {
    *(".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".jp2"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".gif", ".avif", ".hdr", ".exr", ".sr", ".ras"),
}
ENDINGS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND"}
SPLITS = {"train": (0.0, 0.8), "val": (0.8, 0.9), "test": (0.9, 1.0)}


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
        for step in range(len(self.paths)):
            path = self.paths[(index + step) % len(self.paths)]
            photo = read_photo(path, self.short_side)
            if photo is not None:
                return padded(photo, self.smallest)
            warnings.warn(f"skipped a photo that cannot be decoded: {path}", stacklevel=2)
        raise UserError(f"none of the {len(self.paths)} photos can be decoded")

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


def list_photos(root: Path) -> list[Path]:
    """All picture files below ``root``, in a stable order; what is hidden is left out.

    Raises:
        UserError: ``root`` is missing, is no folder, or holds no picture.
    """
    if not root.is_dir():
        raise UserError(f"data.root={root} is not a folder; give a folder of clean photos")
    paths = sorted(
        p
        for p in root.rglob("*")
        if p.suffix.lower() in KINDS
        and p.is_file()
        and not any(part.startswith(".") for part in p.relative_to(root).parts)
    )
    if not paths:
        raise UserError(f"data.root={root} holds no pictures ({', '.join(sorted(KINDS)[:6])}, ...)")
    return paths


def split_of(path: Path) -> str:
    """The split of a user's photo: by a hash of its name alone, so that it never moves.

    80 % train, 10 % val, 10 % test; adding or moving other files changes nothing.
    """
    share = int(hashlib.sha1(path.name.encode()).hexdigest()[:8], 16) / 16**8
    return next(split for split, (low, high) in SPLITS.items() if low <= share < high)


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
    """A photo as uint8 RGB (H, W, 3), upright as its EXIF says; None if it does not decode.

    With ``short_side`` a larger photo is reduced to that many pixels on its shorter side.
    """
    try:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    if image is None:
        return None
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    scale = short_side / min(image.shape[:2]) if short_side else 1.0
    if scale < 1:
        size = [max(short_side or 1, round(side * scale)) for side in image.shape[1::-1]]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return image


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
