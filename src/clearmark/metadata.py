"""What a picture's file says beside its pixels: EXIF, and the colour profile (ICC)."""

from __future__ import annotations

from typing import Any, NamedTuple

from PIL import Image

BOTH, PROFILE = ("exif", "profile"), ("profile",)
KEPT = {
    **dict.fromkeys((".jpg", ".jpeg", ".png", ".webp", ".avif"), BOTH),
    **dict.fromkeys((".tif", ".tiff"), PROFILE),  # Pillow does not write all of EXIF there
}
"""What kinds of files take, with 8 bits a channel."""
KEPT_DEEP = {".png": BOTH}
"""With 16 bits."""

ORIENTATION = 0x0112
# Tags of a TIFF that tell of the photo; its others tell how the file is made.
OF_THE_PHOTO = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298, 0x8769, 0x8825)


class Metadata(NamedTuple):
    """EXIF as a block of bytes, upright, without a thumbnail; and an RGB profile. Empty if none."""

    exif: bytes = b""
    profile: bytes = b""


NONE = Metadata()


def kept(metadata: Metadata, kind: str, deep: bool) -> Metadata:
    """What of it a file of that kind takes, with 16 bits a channel or with 8."""
    fields = (KEPT_DEEP if deep else KEPT).get(kind, ())
    return Metadata(**{name: getattr(metadata, name) for name in fields})


def lost(metadata: Metadata, left: Metadata) -> str:
    """The names of what was there and is not left."""
    named = zip(("EXIF", "colour profile"), metadata, left, strict=True)
    return " and ".join(name for name, before, after in named if before and not after)


def read(image: Image.Image) -> Metadata:
    """The metadata of a picture, which may have been made by anybody."""
    profile = image.info.get("icc_profile") or b""
    try:
        exif = _exif(image)
    except Exception:  # a block that Pillow cannot write again
        exif = b""
    # One of greys or of inks does not fit the RGB picture that comes out.
    return Metadata(exif, profile if profile[16:20] == b"RGB " else b"")


def _exif(image: Image.Image) -> bytes:
    tags = image.getexif()
    if image.format == "TIFF":
        for tag in set(tags) - set(OF_THE_PHOTO):
            del tags[tag]
    if not tags:
        return b""
    tags[ORIENTATION] = 1
    return tags.tobytes()


def options(metadata: Metadata) -> dict[str, Any]:
    """What ``PIL.Image.save`` takes for it."""
    named = {"exif": metadata.exif, "icc_profile": metadata.profile}
    return {name: content for name, content in named.items() if content}
