"""Opening and saving pictures that may come from anywhere, with their bit depth and transparency.

The size is read from a picture's header, before anything is decoded, and only formats of pixels are
opened: Pillow would hand some others to programs that run what is in them.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from PIL import Image, JpegImagePlugin

from clearmark import disk, metadata, tags
from clearmark.metadata import NONE, Metadata

FORMATS = (
    "JPEG",
    "PNG",
    "WEBP",
    "TIFF",
    "BMP",
    "DIB",
    "GIF",
    "PPM",
    "JPEG2000",
    "AVIF",
    "SUN",
)
KINDS = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".jp2"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".gif", ".avif", ".hdr", ".exr", ".sr", ".ras"),
}
UNREAD = {
    *(".heic", ".heif", ".hif", ".jxl", ".svg", ".psd", ".xcf", ".cr2", ".cr3", ".nef", ".arw"),
    *(".dng", ".orf", ".raf", ".rw2", ".pef", ".srw"),
}  # kinds of pictures that are none of these, by their endings
JPEG, TIFF = (".jpg", ".jpeg", ".jpe", ".jfif"), (".tif", ".tiff")
DEEP = {".png", ".tif", ".tiff", ".ppm", ".pnm", ".jp2"}  # kinds that hold 16 bits a channel
COLOURLESS = (".pgm", ".pbm")
CLEAR = {".png", ".tif", ".tiff", ".webp", ".avif"}  # kinds that hold transparency
warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # ours says more
BEYOND_PILLOW = ("PPM", "JPEG2000")  # of whose 16 bits a colour it keeps 8
SIZE_MARKER = b"\xff\x4f\xff\x51"  # how a JPEG 2000 picture begins, its size and depth after it
PNG = b"\x89PNG\r\n\x1a\n"  # how such a file begins
BITS_PER_SAMPLE = 258  # tag of TIFF


class PictureError(Exception):
    """A picture that is not opened; the message says why in a few words."""


@dataclass(frozen=True)
class Picture:
    """A picture, upright.

    Args:
        pixels: (H, W, 3) RGB, or (H, W) grey where one is made; uint8 or uint16.
        alpha: (H, W) of the same type, or None for an opaque picture.
        metadata: EXIF, colour profile and the like.
        losses: what of the file is not in here, or would not be in a file, in a few words each.
        sampling: of a JPEG's colours as Pillow counts it, 0 for every pixel, 2 for 2x2; -1 unknown.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    metadata: Metadata = NONE
    losses: tuple[str, ...] = ()
    sampling: int = -1


def read(path: Path, megapixels: float | None = None) -> Picture:
    """Open a picture of at most so many megapixels; None takes any.

    Raises:
        PictureError: it is none, is broken, too large, or of a kind without a defined range.
    """
    # Pillow's own limit, which raises at twice that many: the first frame of a GIF may be larger
    # than its header says, and takes its memory before the size is known here.
    Image.MAX_IMAGE_PIXELS = None if megapixels is None else int(megapixels * 1e6)
    try:
        if not path.stat().st_size:
            raise PictureError("empty file")
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            if megapixels is not None and width * height > megapixels * 1e6:
                raise _too_large(width * height, megapixels)
            return _decoded(path, image)
    except PictureError:
        raise
    except Image.DecompressionBombError as error:
        assert megapixels is not None
        raise _too_large(int(re.findall(r"\d+", str(error))[0]), megapixels) from error
    except Image.UnidentifiedImageError as error:
        if path.suffix.lower() in UNREAD:
            raise PictureError(f"{path.suffix} is not read; convert it to .png") from error
        raise PictureError("not a picture") from error
    except OSError as error:
        why = f"cannot be read: {error.strerror}" if error.strerror else f"broken: {error}"
        raise PictureError(why) from error
    except Exception as error:  # a decoder may trip over a broken file in any way
        raise PictureError(
            f"broken: {' '.join(str(error).split()) or type(error).__name__}"
        ) from error


def _too_large(pixels: int, megapixels: float) -> PictureError:
    return PictureError(
        f"{pixels / 1e6:.4g} megapixels are more than megapixels={megapixels:g}; "
        "raise it if you trust the file"
    )


def _decoded(path: Path, image: Image.Image) -> Picture:
    deep, turn = _bits(path, image) == 16, image.getexif().get(metadata.ORIENTATION, 1)
    frames, mode = getattr(image, "n_frames", 1), image.mode
    beside = metadata.read(image)
    image.load()  # raises if the file is cut short, which OpenCV would not say
    losses: tuple[str, ...] = (f"only the first of its {frames} frames",) if frames > 1 else ()
    if mode == "CMYK":
        losses += ("CMYK became RGB without its colour profile",)
    elif metadata.misfit(image):
        losses += ("its colour profile, not of RGB, stays behind",)
    sampling = JpegImagePlugin.get_sampling(image)
    if turn in (5, 6, 7, 8) and sampling == 1:
        sampling = 0  # Pillow does not halve colours down alone
    if deep:
        image.close()  # what it holds has been asked for, and may be large
        pixels = _deep(path, image.format)
        if image.format == "TIFF":
            turn = 1  # OpenCV has turned it
    elif mode in ("I", "F") or mode.startswith("I;"):
        raise PictureError(
            f"{mode} pixels have no defined range; save it with 8 or 16 bits a channel"
        )
    else:
        pixels = _shallow(image)
        if image.format == "TIFF":
            turn = 1  # Pillow has
        image.close()
    pixels = np.ascontiguousarray(_upright(pixels, turn))
    alpha = pixels[..., 3] if pixels.shape[2] == 4 else None
    return Picture(np.ascontiguousarray(pixels[..., :3]), alpha, beside, losses, sampling)


def bands(height: int, width: int) -> Iterator[slice]:
    """The rows of a picture in bands of two megapixels: what is made of them takes little."""
    rows = max(1, 2_000_000 // width)
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))


def _shallow(image: Image.Image) -> np.ndarray:
    """(H, W, 3 or 4) uint8."""
    mode = "RGBA" if image.has_transparency_data else "RGB"
    pixels = np.empty((image.height, image.width, len(mode)), np.uint8)
    for rows in bands(image.height, image.width):
        band = image.crop((0, rows.start, image.width, rows.stop))
        pixels[rows] = np.asarray(band.convert(mode))
    return pixels


def _bits(path: Path, image: Image.Image) -> int:
    """Bits of a channel."""
    if image.format == "PNG":
        with path.open("rb") as file:
            return file.read(25)[24]
    if image.format == "TIFF":
        return int(max(image.tag_v2.get(BITS_PER_SAMPLE, (1,))))  # type: ignore[attr-defined]
    if image.format in BEYOND_PILLOW:
        return 16 if _white(path) > 255 else 8
    return 16 if image.mode.startswith("I;16") else 8


def _white(path: Path) -> int:
    """The value of white in a PPM or JPEG 2000 file."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    if (at := head.find(SIZE_MARKER)) >= 0:
        return int(2 ** ((head[at + 42] & 127) + 1) - 1)
    words = re.sub(rb"#[^\n]*", b"", head).split(maxsplit=4)
    return int(words[3]) if words[0] in (b"P5", b"P6") else 1  # OpenCV does not read digits


def _deep(path: Path, kind: str | None) -> np.ndarray:
    """(H, W, 3 or 4) uint16; Pillow knows 16 bits in grey pictures only."""
    content = path.read_bytes()
    if content.startswith(PNG):
        _check_chunks(content)
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        raise PictureError("broken: its 16 bits a channel cannot be decoded")
    if kind in BEYOND_PILLOW and (white := _white(path)) < 65535:
        pixels = ((pixels.astype(np.uint32) * 65535 + white // 2) // white).astype(np.uint16)
    if pixels.ndim == 2:
        return np.repeat(pixels[..., None], 3, 2)
    return pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]


def _check_chunks(content: bytes) -> None:
    """Refuse a PNG with a part longer than the file: OpenCV takes memory for all of it first."""
    at = len(PNG)
    while at + 8 <= len(content):
        length, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        at += length + 12  # the length, the kind and a checksum
        if at > len(content):
            raise PictureError("broken: a part of it is longer than the file")
        if kind == b"IEND":
            return


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn pixels as an EXIF orientation from 1 to 8 says; anything else says nothing."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def fitting(picture: Picture, suffix: str) -> Picture:
    """What of a picture a file of that kind can hold; what it cannot is added to the losses."""
    kind = suffix.lower()
    if picture.alpha is not None and kind not in CLEAR:
        losses = (*picture.losses, f"{kind} has no transparency; use .png")
        picture = replace(picture, alpha=None, losses=losses)
    if picture.pixels.dtype == np.uint16 and kind not in DEEP:
        losses = (*picture.losses, f"{kind} has 8 bits a channel and not 16; use .png")
        alpha = None if picture.alpha is None else eight_bits(picture.alpha)
        picture = replace(picture, pixels=eight_bits(picture.pixels), alpha=alpha, losses=losses)
    left, most = (metadata.kept(picture.metadata, one) for one in (kind, ".png"))
    losses = picture.losses
    if gone := metadata.lost(picture.metadata, left):
        better = "; use .png" if metadata.lost(picture.metadata, most) != gone else ""
        losses = (*losses, f"{kind} is written without {gone}{better}")
    return replace(picture, metadata=left, losses=losses)


def eight_bits(values: np.ndarray) -> np.ndarray:
    """The nearest uint8 values of uint16 ones (H, W) or (H, W, C); uint8 ones as they are."""
    if values.dtype == np.uint8:
        return values
    nearest = np.empty(values.shape, np.uint8)
    for rows in bands(*values.shape[:2]):
        nearest[rows] = (values[rows].astype(np.uint32) + 128) // 257
    return nearest


def writable(path: Path) -> bool:
    """Whether there is a writer for pictures of that kind, in colours."""
    if path.suffix.lower() in (*JPEG, *COLOURLESS):
        return path.suffix.lower() in JPEG  # OpenCV does not know all of its names
    try:
        return bool(cv2.haveImageWriter(str(path)))
    except cv2.error:  # a format that this build of OpenCV knows, but is told not to use
        return False


def as_written(path: Path) -> Path:
    """The path itself, or as ``.png`` if there is no writer for its kind."""
    return path if writable(path) else path.with_suffix(".png")


def write(path: Path, picture: Picture, quality: int = 95) -> None:
    """Write a picture beside its place and rename it: it is whole or not there.

    Args:
        path: its ending says which kind of file it becomes.
        picture: made ``fitting`` for that kind.
        quality: of JPEG, WebP and AVIF, 1 to 100; at 100 WebP loses nothing.

    Raises:
        OSError: it cannot be written.
    """
    kind = path.suffix.lower()
    encode = _by_opencv if picture.pixels.dtype == np.uint16 else _by_pillow
    if kind not in metadata.KEPT:
        encode = _by_opencv
    with disk.whole(path) as beside, beside.open("w+b") as file:
        encode(picture, kind, quality, file)
        if kind in TIFF:
            tags.into_tiff(file, picture.metadata)


def _by_pillow(picture: Picture, kind: str, quality: int, file: IO[bytes]) -> None:
    rgba = picture.pixels if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])
    how: dict[str, Any] = {"quality": quality} | metadata.options(picture.metadata)
    if kind in TIFF:
        how = {"compression": "tiff_lzw"}
    elif kind == ".png":
        how["compress_level"] = 3  # 6 takes thrice as long for some hundredths of the size
    elif kind == ".webp":
        how["lossless"] = quality == 100
    elif kind in JPEG:
        usual = 0 if quality >= 90 else 2
        how["subsampling"] = usual if picture.sampling < 0 else picture.sampling
    name = Image.registered_extensions()[kind]
    try:
        Image.fromarray(rgba).save(file, name, **how)
    except ValueError as error:  # more pixels a side than that kind can have
        raise OSError(f"this picture cannot be written as {kind}: {error}") from error


def _by_opencv(picture: Picture, kind: str, quality: int, file: IO[bytes]) -> None:
    """Of 16 bits, and kinds that Pillow or metadata do not know."""
    pixels, beside = picture.pixels, picture.metadata
    if pixels.ndim == 3:
        pixels = pixels[..., ::-1]
    if picture.alpha is not None:
        pixels = np.dstack([pixels, picture.alpha])
    found = (
        {}
        if kind in TIFF
        else {
            cv2.IMAGE_METADATA_EXIF: beside.exif.removeprefix(b"Exif\0\0"),
            cv2.IMAGE_METADATA_ICCP: beside.profile,
        }
    )
    keys = [key for key, content in found.items() if content]
    blocks = [np.frombuffer(found[key], np.uint8) for key in keys]
    try:
        done, data = cv2.imencodeWithMetadata(kind, np.ascontiguousarray(pixels), keys, blocks)
    except cv2.error as error:
        raise OSError(f"pictures of the kind {kind} cannot be written") from error
    if not done:
        raise OSError(f"this picture cannot be written as {kind}")
    if kind == ".png":
        tags.into_png(file, data.data, beside)
    else:
        file.write(data.data)
