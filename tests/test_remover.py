"""``clearmark.load()(image)``: pictures come back as what they came as, and as predict has them."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageOps

import clearmark
from clearmark.errors import UserError
from clearmark.inference import restore


@pytest.fixture(scope="module")
def remover(run_folder):
    return clearmark.load(run_folder, device="cpu")


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (30, 41, 4), np.uint8)


def test_arrays(remover, pixels):
    expected, mask = restore(remover.network, pixels[..., :3])
    assert np.abs(expected.astype(int) - pixels[..., :3]).max() > 2, "the identity proves nothing"
    np.testing.assert_array_equal(remover(pixels[..., :3]), expected)
    with_alpha = remover(pixels)
    np.testing.assert_array_equal(with_alpha[..., :3], expected)
    np.testing.assert_array_equal(with_alpha[..., 3], pixels[..., 3])
    np.testing.assert_array_equal(remover.mask(pixels[..., :3]), mask)
    deep = remover(pixels[..., :3].astype(np.uint16) * 257)
    assert deep.dtype == np.uint16
    assert np.abs(deep / 257 - expected).max() <= 0.51


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_pictures_of_pillow(mode, remover, pixels):
    given = Image.fromarray(pixels[..., : len(mode)])
    restored = remover(given)
    assert (restored.mode, restored.size) == (mode, (41, 30))
    np.testing.assert_array_equal(np.asarray(restored), remover(np.asarray(given)))


def test_grey_becomes_rgb(remover, pixels):
    grey = Image.fromarray(pixels[..., 0])
    np.testing.assert_array_equal(
        np.asarray(remover(grey)), remover(np.repeat(pixels[..., :1], 3, 2))
    )


def telling():
    exif = Image.Exif()
    exif[0x8298], exif[0x0112] = "(c) me", 6
    return exif


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif"])
def test_a_picture_of_pillow_comes_upright_with_what_it_says(kind, remover, pixels, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    how = {"exif": telling(), "icc_profile": profile, "dpi": (300, 300)}
    Image.fromarray(pixels[..., :3]).save(tmp_path / f"a.{kind}", **how)
    with Image.open(tmp_path / f"a.{kind}") as image:
        restored = remover(image)
        shown = ImageOps.exif_transpose(image)
    assert restored.size == (30, 41)
    np.testing.assert_array_equal(np.asarray(restored), remover(np.asarray(shown.convert("RGB"))))
    for target in ("jpg", "png", "webp", "tif"):
        restored.save(tmp_path / f"b.{target}", **restored.info)
        with Image.open(tmp_path / f"b.{target}") as written:
            assert written.size == (30, 41)
            assert written.info["icc_profile"] == profile
            assert written.getexif()[0x8298] == "(c) me"
            assert written.getexif().get(0x0112, 1) == 1
            if "webp" not in (kind, target):
                assert written.info["dpi"] == pytest.approx((300, 300), abs=0.01)


def test_a_turned_picture_is_left_as_it_is(remover, pixels):
    given = Image.fromarray(pixels[..., :3])
    given.getexif()[0x0112] = 6
    assert remover(given).size == (30, 41)
    assert (given.size, given.getexif()[0x0112]) == ((41, 30), 6)


@pytest.mark.parametrize("kind", ["LA", "palette", "key"])
def test_transparency_of_any_kind_is_kept(kind, remover, pixels, tmp_path):
    if kind == "LA":
        given = Image.fromarray(pixels[..., :2].copy(), "LA")
    else:
        given = Image.fromarray(pixels[..., :3])
        given = given.convert("P") if kind == "palette" else given
        given.save(tmp_path / "a.png", transparency=given.getpixel((0, 0)))
        given = Image.open(tmp_path / "a.png")
    restored, expected = remover(given), given.convert("RGBA")
    assert restored.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(restored)[..., 3], np.asarray(expected)[..., 3])
    assert np.ptp(np.asarray(restored)[..., 3]) > 0
    assert "transparency" not in restored.info


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_sixteen_bits_of_grey_are_scaled(kind, remover, tmp_path):
    grey = np.random.default_rng(0).integers(0, 65536, (30, 41), np.uint16)
    Image.fromarray(grey).save(tmp_path / f"a.{kind}")
    with Image.open(tmp_path / f"a.{kind}") as image:
        restored = np.asarray(remover(image))
    expected = remover(np.repeat(grey[..., None], 3, 2))
    assert np.abs(restored - expected / 257).max() <= 0.51


@pytest.mark.parametrize("mode", ["I", "F"])
def test_values_without_a_range_are_refused(mode, remover):
    with pytest.raises(ValueError, match=f"a picture of mode {mode} has no defined range; give"):
        remover(Image.new(mode, (4, 3)))


def test_tensors(remover, pixels):
    batch = torch.from_numpy(pixels[None, ..., :3]).permute(0, 3, 1, 2).double() / 255
    restored = remover(batch)
    assert (restored.dtype, restored.shape) == (torch.float64, batch.shape)
    rounded = (restored[0] * 255).round().byte().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(rounded, remover(pixels[..., :3]))
    torch.testing.assert_close(remover(batch[0]), restored[0])


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((3, 4), np.uint8),
        np.zeros((3, 4, 2), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((3, 4, 3), np.float32),
        torch.zeros(3, 4),
        torch.zeros(1, 4, 4),
        torch.zeros(3, 4, 4, dtype=torch.uint8),
        "photo.jpg",
    ],
)
def test_what_is_no_picture_is_refused(wrong, remover):
    with pytest.raises(ValueError, match="picture"):
        remover(wrong)


def test_without_a_word_it_is_the_embedded_one():
    assert isinstance(clearmark.load().network, torch.nn.Module)
    with pytest.raises(UserError, match="did you mean ckpt=unet"):
        clearmark.load("unett")
    with pytest.raises(UserError, match="device=abacus cannot be used here"):
        clearmark.load("unet", device="abacus")
