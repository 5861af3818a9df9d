"""``clearmark.load()(image)``: pictures come back as what they came as, and as predict has them."""

import numpy as np
import pytest
import torch
from PIL import Image

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
