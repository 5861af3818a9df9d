"""The mark that a visitor of the page asks for, and the figures of how it held."""

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

import clearmark
from clearmark.config import build_network
from clearmark.demo import marking
from clearmark.errors import UserError

PLAIN = {"opacity": 0.5, "size": 0.6, "angle": 0, "colour": "white", "place": "middle"}


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A clean photo of 240 x 160 pixels."""
    path = tmp_path_factory.mktemp("photo") / "clean.png"
    with Image.open(sorted((ROOT / "src/clearmark/assets/photos/test").glob("*.jpg"))[0]) as image:
        image.convert("RGB").resize((240, 160)).save(path)
    return path


def test_how_a_mark_held():
    clean, there = np.full((8, 8, 3), 100, np.uint8), np.zeros((8, 8), bool)
    there[:4] = True
    marked, restored = clean + np.uint8(40) * there[..., None], clean + np.uint8(10)
    mask = np.where(np.arange(8) < 2, 0.9, 0.1) * np.ones((8, 8))
    held = marking.held(clean, marked, restored, there, mask)
    assert held.remains == pytest.approx(10 / 40)
    assert held.found == pytest.approx(2 / 8)
    assert held.marked_there == pytest.approx(20 * np.log10(255 / 40))
    assert held.marked == pytest.approx(20 * np.log10(255 / 40) + 10 * np.log10(2))
    assert held.restored == held.restored_there == pytest.approx(20 * np.log10(255 / 10))
    assert marking.held(clean, marked, clean, there, None).restored < 59, "of a perfect picture"


@pytest.fixture
def tried(photo, tmp_path):
    """Puts a mark on the clean photo, and takes it off with a network that does nothing."""
    model = {"_target_": "clearmark.models.UNet", "activation": {"_target_": "torch.nn.ReLU"}}
    model["activation"]["_partial_"] = True
    remover = clearmark.remover.Remover(build_network(model | {"widths": [4, 8]}).eval())

    def tried(text="Jane", logo=None, tiled=False, **more):
        wish = marking.Wish(text, logo, **(PLAIN | more), tiled=tiled)
        made = marking.mark(photo, wish, remover, tmp_path, 20, lambda *_: None)
        with Image.open(made.result) as image, Image.open(photo) as clean:
            return made.held, np.asarray(image).astype(int) - np.asarray(clean)

    return tried


def test_a_mark_is_where_it_was_wished(tried):
    held, change = tried(colour="black")
    assert held.remains == pytest.approx(1, abs=0.05)
    rows, columns = np.nonzero(change.any(2))
    assert (change <= 0).all()
    assert (columns.min() + columns.max()) / 2 == pytest.approx(120, abs=4)
    assert (rows.min() + rows.max()) / 2 == pytest.approx(80, abs=4)
    assert np.ptp(columns) == pytest.approx(0.6 * 160, abs=12)
    faint = tried(colour="black", opacity=0.1)[0]
    assert faint.marked_there > held.marked_there + 10
    assert np.ptp(np.nonzero(tried(tiled=True)[1].any(2))[1]) > 200


def test_a_logo_keeps_its_colours(tried, photo, tmp_path):
    pixels = np.full((20, 40, 4), (255, 0, 0, 255), np.uint8)
    pixels[:5] = 0
    Image.fromarray(pixels).save(tmp_path / "logo.png")
    change = tried(logo=tmp_path / "logo.png", opacity=1)[1]
    assert (change[80, 120] + np.asarray(Image.open(photo))[80, 120] == (255, 0, 0)).all()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("  ", "there is no mark"),
        ("x" * 61, "61 letters"),
        ("/etc/passwd", "the name of a file"),
        ("~", "the name of a file"),
        ("\U0001f600", "no glyph"),
    ],
)
def test_texts_that_are_no_marks(text, why, tried):
    with pytest.raises(UserError, match=why):
        tried(text)
