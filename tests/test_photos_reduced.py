"""Of a large JPEG only what the reduction keeps is decoded; the picture stays what it was."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clearmark.data.photos import decode_photo, jpeg_size

SMOOTH = cv2.resize(
    np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8),
    (1201, 811),
    interpolation=cv2.INTER_CUBIC,
)


def jpeg(image, orientation=1, **how):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", exif=exif, **{"quality": 95} | how)
    return file.getvalue()


def reference(content, short_side):
    """Pillow's whole picture, turned by numpy, reduced by the mean over the area."""
    image = Image.open(io.BytesIO(content))
    orientation = image.getexif().get(0x0112, 1)
    image = np.array(image.convert("RGB"))
    if orientation > 4:
        image = image.transpose(1, 0, 2)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    image = image[::rows, ::columns]
    if min(image.shape[:2]) <= short_side:
        return image
    scale = short_side / min(image.shape[:2])
    size = [max(short_side, round(side * scale)) for side in image.shape[1::-1]]
    return cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("short_side", [50, 101, 102, 405, 406, 810, 811, 900])
def test_the_reduced_picture_is_the_whole_one_reduced(orientation, short_side):
    content = jpeg(SMOOTH, orientation)
    found, expected = decode_photo(content, short_side), reference(content, short_side)
    assert found.shape == expected.shape
    assert min(found.shape[:2]) == min(short_side, 811)
    assert np.abs(found.astype(int) - expected).max() <= 16


@pytest.mark.parametrize("how", [{"progressive": True}, {"subsampling": 0}, {"subsampling": 2}])
def test_all_kinds_of_jpeg_are_reduced(how):
    content = jpeg(SMOOTH, 6, **how)
    assert np.abs(decode_photo(content, 100).astype(int) - reference(content, 100)).max() <= 16


@pytest.mark.parametrize(
    ("short_side", "factor"), [(811, 1), (406, 1), (405, 2), (203, 2), (202, 4), (101, 8), (9, 8)]
)
def test_a_fraction_is_decoded_and_never_less_than_is_asked_for(short_side, factor):
    noise = np.random.default_rng(1).integers(0, 256, (811, 900, 3), np.uint8)
    content = jpeg(noise)
    flag = cv2.IMREAD_COLOR if factor == 1 else getattr(cv2, f"IMREAD_REDUCED_COLOR_{factor}")
    part = cv2.imdecode(np.frombuffer(content, np.uint8), flag)[..., ::-1]
    size = (round(900 * short_side / 811), short_side)
    expected = cv2.resize(np.ascontiguousarray(part), size, interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(decode_photo(content, short_side), expected)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from(["RGB", "L", "CMYK"]),
    st.booleans(),
    st.integers(0, 60000),
)
def test_the_size_is_read_from_the_header(width, height, mode, progressive, comment):
    file = io.BytesIO()
    settings = {"progressive": progressive, "comment": b"\xff\xc0" * (comment // 2)}
    Image.new(mode, (width, height)).save(file, "JPEG", **settings)
    content = file.getvalue()
    assert jpeg_size(content) == (height, width)
    assert jpeg_size(content[:2] + b"\xff\xff" + content[3:]) == (height, width)  # a fill byte


def test_what_is_no_jpeg_or_no_whole_header_has_no_size():
    png = cv2.imencode(".png", SMOOTH)[1].tobytes()
    content = jpeg(SMOOTH)
    start = content.index(b"\xff\xc0")
    for other in (png, b"", b"\xff\xd8", content[: start + 8], content[:2] + b"ab" + content[2:]):
        assert jpeg_size(other) is None
    assert decode_photo(png, 100).shape == (100, 148, 3)
    assert decode_photo(b"", 100) is None
    assert decode_photo(content[:start], 100) is None
