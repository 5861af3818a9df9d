"""What a picture's file says beside its pixels: EXIF, a colour profile (ICC), XMP and the like."""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

from PIL import Image, IptcImagePlugin
from PIL.PngImagePlugin import PngInfo


class Metadata(NamedTuple):
    """Empty where the file says nothing.

    exif: a block of bytes, upright, without a thumbnail.
    profile: an RGB profile.
    xmp: the packet, upright, without a thumbnail.
    resolution: dots per inch, across and down.
    comment: of a JPEG or GIF, or under that word in a PNG.
    text: words and what they say, of a PNG.
    iptc: whether there is such a block, which is not kept.
    """

    exif: bytes = b""
    profile: bytes = b""
    xmp: bytes = b""
    resolution: tuple[float, ...] = ()
    comment: bytes = b""
    text: tuple[tuple[str, str], ...] = ()
    iptc: bool = False


NONE = Metadata()
NAMES = ("EXIF", "colour profile", "XMP", "resolution", "comment", "text", "IPTC")

_EACH = ("exif", "profile", "xmp")
KEPT = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), (*_EACH, "resolution", "comment")),
    **dict.fromkeys((".tif", ".tiff"), (*_EACH, "resolution")),
    **dict.fromkeys((".webp", ".avif"), _EACH),
    ".png": (*_EACH, "resolution", "comment", "text"),
}
"""What kinds of files take."""
SEGMENT = 65_000  # bytes that a part of a JPEG holds; a profile may take several

ORIENTATION, INTEROP, X_RESOLUTION, Y_RESOLUTION, UNIT = 0x0112, 0xA005, 0x011A, 0x011B, 0x0128
DIRECTORIES = (0x8769, 0x8825)  # of the camera, of the place
# Tags of a TIFF that tell of the photo; its others tell how the file is made.
OF_THE_PHOTO = (
    *(0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x4746, 0x8298, *DIRECTORIES),
    *range(0x9C9B, 0x9CA0),
)
INCH = 2
DEFAULT = (72.0, 72.0)  # dots per inch of a file that does not say, as Pillow reads it


def kept(metadata: Metadata, kind: str) -> Metadata:
    """What of it a file of that kind takes."""
    fields = {name: getattr(metadata, name) for name in KEPT.get(kind, ())}
    if "comment" in fields and "text" not in fields:  # JPEG
        for name in ("exif", "xmp", "comment"):
            fields[name] = fields[name] if len(fields[name]) <= SEGMENT else b""
    return Metadata(**fields)


def lost(metadata: Metadata, left: Metadata) -> str:
    """The names of what was there and is not left."""
    if left.exif or metadata.resolution == DEFAULT:  # EXIF says it too
        metadata = metadata._replace(resolution=())
    named = zip(NAMES, metadata, left, strict=True)
    names = [name for name, before, after in named if before and not after]
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def read(image: Image.Image) -> Metadata:
    """The metadata of a picture, which may have been made by anybody; it is left as it is."""
    if image.format != "TIFF":  # whose file Pillow closes behind the pixels
        image.load()  # a PNG may say something behind them
    profile = image.info.get("icc_profile") or b""
    text = _text(image)
    comment = text.pop("Comment", "").encode() or image.info.get("comment") or b""
    found = Metadata(
        # One of greys or of inks does not fit the RGB picture that comes out.
        profile=profile if profile[16:20] == b"RGB " else b"",
        xmp=_xmp(image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""),
        resolution=_resolution(image),
        comment=comment if isinstance(comment, bytes) else str(comment).encode(),
        text=tuple(text.items()),
        iptc=_iptc(image),
    )
    try:
        return found._replace(exif=_exif(image, found.resolution))
    except Exception:  # a block that Pillow cannot write again
        return found


def misfit(image: Image.Image) -> bool:
    """Whether there is a profile that is not of RGB."""
    return (image.info.get("icc_profile") or b"")[16:20] not in (b"", b"RGB ")


def _exif(image: Image.Image, resolution: tuple[float, ...]) -> bytes:
    given, tags = image.getexif(), Image.Exif()
    for tag, value in directories(given).items():
        if image.format != "TIFF" or tag in OF_THE_PHOTO:
            tags[tag] = value
    if not tags:
        return b""
    if resolution and X_RESOLUTION not in tags:
        tags[X_RESOLUTION], tags[Y_RESOLUTION], tags[UNIT] = *resolution, INCH
    tags[ORIENTATION] = 1
    return tags.tobytes()


def directories(exif: Image.Exif) -> dict[int, Any]:
    """All tags by number, those that lie in directories of their own as dicts."""
    tags = dict(exif)
    for tag in {*DIRECTORIES} & {*tags}:
        tags[tag] = dict(exif.get_ifd(tag))
        if INTEROP in tags[tag]:
            tags[tag][INTEROP] = exif.get_ifd(INTEROP)
    return tags


def _xmp(packet: Any) -> bytes:
    packet = packet[0] if isinstance(packet, tuple) else packet
    packet = packet.encode() if isinstance(packet, str) else packet
    packet = re.sub(rb"(tiff:Orientation(?:=[\"']|>))[0-9]", rb"\g<1>1", packet)
    if first := re.search(rb"<\w+:Thumbnails\b", packet):
        last = packet.rfind(mark := b":Thumbnails>")
        whole = last > first.end()
        packet = packet[: first.start()] + packet[last + len(mark) :] if whole else b""
    return packet


def _resolution(image: Image.Image) -> tuple[float, ...]:
    try:
        found = tuple(float(value) for value in image.info.get("dpi", ()))
    except (TypeError, ValueError, ZeroDivisionError):
        return ()
    good = len(found) == 2 and all(math.isfinite(v) and 1 <= v < 65_535 for v in found)
    return found if good else ()


def _text(image: Image.Image) -> dict[str, str]:
    """That of a PNG, but for what is EXIF or XMP in other clothes."""
    text = getattr(image, "text", {})
    return {k: v for k, v in text.items() if not k.startswith(("Raw profile type", "XML:"))}


def _iptc(image: Image.Image) -> bool:
    try:
        return bool(IptcImagePlugin.getiptcinfo(image))  # type: ignore[arg-type]
    except Exception:  # a block that nobody can read
        return False


def options(metadata: Metadata) -> dict[str, Any]:
    """What ``PIL.Image.save`` takes for it, whatever the kind."""
    named: dict[str, Any] = {
        "exif": metadata.exif,
        "icc_profile": metadata.profile,
        "xmp": metadata.xmp,
        "dpi": metadata.resolution,
        "comment": metadata.comment,
        "pnginfo": of_png(metadata) if metadata.text or metadata.comment or metadata.xmp else None,
    }
    return {name: content for name, content in named.items() if content}


def of_png(metadata: Metadata) -> PngInfo:
    """What a PNG holds as text."""
    info = PngInfo()
    for word, said in metadata.text:
        info.add_text(word, said)
    if metadata.comment:
        info.add_text("Comment", metadata.comment.decode(errors="replace"))
    if metadata.xmp:
        info.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode(errors="replace"))
    return info
