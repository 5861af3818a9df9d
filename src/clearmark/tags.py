"""Metadata where neither Pillow nor OpenCV writes it: in a TIFF, and in a PNG of 16 bits."""

from __future__ import annotations

import os
import struct
from typing import IO, Any

from PIL import Image, PngImagePlugin
from PIL.TiffImagePlugin import ICCPROFILE, XMP, ImageFileDirectory_v2
from PIL.TiffTags import BYTE, UNDEFINED

from clearmark import metadata
from clearmark.metadata import Metadata

HEAD = 33  # bytes of a PNG before the place for metadata: its signature and its first part
METRE = 1 / 0.0254  # inches
MOST = 2 + 12 * 2**16  # bytes of a directory of a TIFF


def into_tiff(file: IO[bytes], beside: Metadata) -> None:
    """Add metadata to a TIFF: a new directory, behind all else, takes the place of its own.

    Raises:
        OSError: the file is too large for the old form of TIFF.
    """
    if not any(beside):
        return
    file.seek(0)
    head = file.read(8)
    end = file.seek(0, os.SEEK_END)
    start, order = end + end % 2, "<" if head[:2] == b"II" else ">"
    new = ImageFileDirectory_v2(head[:4] + bytes(4))
    for tag, value in _tags(beside).items():
        new[tag] = value
    new.tagtype |= {ICCPROFILE: UNDEFINED, XMP: BYTE}
    added = new.tobytes(start)  # a directory, and behind it what its entries point to
    if head[2:4] not in (b"*\0", b"\0*") or start + len(added) >= 2**32 - 2**16:
        raise OSError("a TIFF above 4 GB takes no metadata; use .png")
    file.seek(struct.unpack(f"{order}L", head[4:])[0])
    entries = _entries(file.read(MOST), order) | _entries(added, order)
    file.seek(end)
    file.write(bytes(start - end) + added + struct.pack(f"{order}H", len(entries)))
    file.write(b"".join(entries[tag] for tag in sorted(entries)) + bytes(4))
    file.seek(4)
    file.write(struct.pack(f"{order}L", start + len(added)))


def _entries(directory: bytes, order: str) -> dict[int, bytes]:
    """The twelve bytes of each entry, by its tag."""
    count = struct.unpack_from(f"{order}H", directory)[0]
    parts = (directory[at : at + 12] for at in range(2, 2 + 12 * count, 12))
    return {struct.unpack_from(f"{order}H", part)[0]: part for part in parts}


def _tags(beside: Metadata) -> dict[int, Any]:
    exif, tags = Image.Exif(), {}
    if beside.exif:
        exif.load(beside.exif)
        found = metadata.directories(exif)
        tags = {tag: found[tag] for tag in metadata.OF_THE_PHOTO if tag in found}
    if beside.resolution:
        tags[metadata.X_RESOLUTION], tags[metadata.Y_RESOLUTION] = beside.resolution
        tags[metadata.UNIT] = metadata.INCH
    blocks = {ICCPROFILE: beside.profile, XMP: beside.xmp}
    return tags | {tag: block for tag, block in blocks.items() if block}


def into_png(file: IO[bytes], content: memoryview, beside: Metadata) -> None:
    """Write a whole PNG with the text and the resolution of the metadata in it."""
    file.write(content[:HEAD])
    info = metadata.of_png(beside)
    if beside.resolution:
        dots = [round(value * METRE) for value in beside.resolution]
        info.add(b"pHYs", struct.pack(">IIB", *dots, 1))
    for kind, part, *_ in info.chunks:
        PngImagePlugin.putchunk(file, kind, part)
    file.write(content[HEAD:])
