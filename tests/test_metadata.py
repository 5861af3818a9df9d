"""What a file says beside its pixels: kept where the output takes it, named where not."""

import struct
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, JpegImagePlugin, PngImagePlugin

from clearmark import metadata, pictures

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
PACKET = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:D tiff:Orientation="6" dc:creator="Jane">'
    b"<xmp:Thumbnails><xmp:image>OLD</xmp:image></xmp:Thumbnails></rdf:D></x:xmpmeta>"
)
UPRIGHT = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:D tiff:Orientation="1" dc:creator="Jane">'
    b"</rdf:D></x:xmpmeta>"
)


def telling():
    exif = Image.Exif()
    exif[0x8298], exif[metadata.ORIENTATION] = "(c) me", 1
    exif.get_ifd(0x8769)[0x9003], exif.get_ifd(0x8825)[1] = "2020:01:01 00:00:00", "N"
    exif.get_ifd(0x8769)[0x927C] = b"of the maker" * 3
    return exif


def everything():
    """A picture of which all is known."""
    text = (("Author", "Jane"), ("Title", "写真"))
    known = (telling().tobytes(), PROFILE, UPRIGHT, (300.0, 150.0), b"hello", text, True)
    return pictures.Picture(PIXELS, None, metadata.Metadata(*known))


LOST = {
    ".jpg": "text and IPTC; use .png",
    ".png": "IPTC",
    ".webp": "comment, text and IPTC; use .png",
    ".avif": "comment, text and IPTC; use .png",
    ".tif": "comment, text and IPTC; use .png",
    ".ppm": "EXIF, colour profile, XMP, resolution, comment, text and IPTC; use .png",
}


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("kind", LOST)
def test_what_comes_back_is_all_but_what_is_said(kind, deep, tmp_path):
    picture = everything()
    if deep and kind in pictures.DEEP:
        alpha = PIXELS[..., 0].astype(np.uint16) * 250
        picture = replace(picture, pixels=PIXELS.astype(np.uint16) * 257, alpha=alpha)
    fitting = pictures.fitting(picture, kind)
    assert fitting.losses[-1] == f"{kind} is written without {LOST[kind]}"
    pictures.write(tmp_path / f"a{kind}", fitting)
    back = pictures.read(tmp_path / f"a{kind}")
    if kind in (".png", ".tif"):
        np.testing.assert_array_equal(back.pixels, fitting.pixels)
        np.testing.assert_array_equal(back.alpha, fitting.alpha)
        opened = cv2.imread(str(tmp_path / f"a{kind}"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(opened[..., 2::-1], fitting.pixels)
    for name in metadata.KEPT.get(kind, ()):
        before, after = (getattr(one.metadata, name) for one in (picture, back))
        if name == "resolution":
            assert after == pytest.approx(before, abs=0.02)
        elif name == "exif":
            with Image.open(tmp_path / f"a{kind}") as image:
                tags = image.getexif()
                assert tags[0x8298] == "(c) me"
                assert tags.get_ifd(0x8769)[0x9003] == "2020:01:01 00:00:00"
                assert tags.get_ifd(0x8769)[0x927C] == b"of the maker" * 3
                assert tags.get_ifd(0x8825)[1] == "N"
            assert b"of the maker" in after
        else:
            assert after == before, name


def test_a_tiff_gives_all_of_its_exif_to_a_jpeg(tmp_path):
    pictures.write(tmp_path / "a.tif", pictures.fitting(everything(), ".tif"))
    again = pictures.read(tmp_path / "a.tif")
    pictures.write(tmp_path / "a.jpg", pictures.fitting(again, ".jpg"))
    with Image.open(tmp_path / "a.jpg") as image:
        tags = image.getexif()
        assert (tags[0x8298], tags.get_ifd(0x8825)[1]) == ("(c) me", "N")
        assert not {*tags} & {256, 273, 279, 700, 34675}, "tags of the TIFF's own making"
        assert image.info["dpi"] == (300, 150)


@pytest.mark.parametrize("kind", [".jpg", ".png", ".webp", ".tif"])
def test_xmp_is_upright_and_shows_nothing_of_what_was_there(kind, tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", PACKET.decode())
    how = {"tiffinfo": {700: PACKET}} if kind == ".tif" else {"xmp": PACKET}
    Image.fromarray(PIXELS).save(tmp_path / f"a{kind}", pnginfo=text, **how)
    picture = pictures.read(tmp_path / f"a{kind}")
    assert picture.metadata.xmp == UPRIGHT
    broken = PACKET.replace(b"</xmp:Thumbnails>", b"")
    assert metadata._xmp(broken) == b""


def test_raw_profiles_of_a_png_are_no_text(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type APP1", "a thumbnail may be in here")
    text.add_text("Comment", "hello")
    Image.fromarray(PIXELS).save(tmp_path / "a.png", pnginfo=text)
    found = pictures.read(tmp_path / "a.png").metadata
    assert (found.text, found.comment) == ((), b"hello")


def test_iptc_is_said_to_be_lost(tmp_path):
    data = b"\x1c\x02\x50" + struct.pack(">H", 4) + b"Jane"
    block = b"8BIM" + struct.pack(">HHL", 0x0404, 0, len(data)) + data + b"\0"
    part = b"Photoshop 3.0\0" + block
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg")
    jpeg = (tmp_path / "a.jpg").read_bytes()
    marker = b"\xff\xed" + struct.pack(">H", len(part) + 2) + part
    (tmp_path / "a.jpg").write_bytes(jpeg[:2] + marker + jpeg[2:])
    picture = pictures.fitting(pictures.read(tmp_path / "a.jpg"), ".png")
    assert picture.losses == (".png is written without IPTC",)


def test_a_block_too_large_for_a_jpeg_is_left_behind(tmp_path):
    large = everything().metadata._replace(xmp=b"<" * 70_000, iptc=False, text=())
    picture = pictures.fitting(replace(everything(), metadata=large), ".jpg")
    assert picture.losses == (".jpg is written without XMP; use .png",)
    pictures.write(tmp_path / "a.jpg", picture)
    assert pictures.read(tmp_path / "a.jpg").metadata.comment == b"hello"


def test_a_resolution_that_nobody_gave_is_not_missed():
    known = metadata.Metadata(resolution=(72.0, 72.0))
    assert metadata.lost(known, metadata.NONE) == ""
    assert metadata.lost(known._replace(resolution=(300.0, 300.0)), metadata.NONE) == "resolution"
    assert metadata.lost(known, metadata.Metadata(exif=b"says it")) == ""


def test_reading_leaves_a_picture_as_it_is():
    image = Image.fromarray(PIXELS)
    image.getexif()[metadata.ORIENTATION] = 6
    metadata.read(image)
    assert image.getexif()[metadata.ORIENTATION] == 6


# The colours of a JPEG


@pytest.mark.parametrize(
    ("source", "quality", "turn", "expected"),
    [
        (0, 50, 1, 0),
        (1, 50, 1, 1),
        (2, 100, 1, 2),
        (1, 95, 6, 0),  # halved across would be halved down
        (2, 95, 6, 2),
        (None, 90, 1, 0),
        (None, 89, 1, 2),
    ],
)
def test_a_jpeg_keeps_its_sampling(source, quality, turn, expected, tmp_path):
    exif = Image.Exif()
    exif[metadata.ORIENTATION] = turn
    path = tmp_path / ("a.png" if source is None else "a.jpg")
    how = {} if source is None else {"subsampling": source}
    Image.fromarray(PIXELS).save(path, exif=exif, **how)
    picture = pictures.fitting(pictures.read(path), ".jpg")
    pictures.write(tmp_path / "b.jpg", picture, quality)
    with Image.open(tmp_path / "b.jpg") as image:
        assert JpegImagePlugin.get_sampling(image) == expected
