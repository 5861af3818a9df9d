"""The user's own mark: what is drawn is the picture or text given, and training adapts to it."""

import random

import cv2
import numpy as np
import pytest
import tiny
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from clearmark import cli, config, runs
from clearmark.data import PhotosModule
from clearmark.errors import UserError
from clearmark.formation import blend
from clearmark.watermarks import MarkAssets, Own
from clearmark.watermarks.assets import EMBEDDED

RED, BLUE = (200, 10, 30), (20, 100, 250)
NOTHING = MarkAssets((), (), ())
STILL = {"tilted": 0.0, "tiled": 0.0, "at": ["edge"]}


@pytest.fixture(scope="module")
def logo(tmp_path_factory):
    """Left half red and full, right half blue and half transparent, in a wide transparent rim."""
    pixels = np.zeros((96, 160, 4), np.uint8)  # black where it is transparent, as programs do it
    pixels[16:80, 16:80] = (*RED, 255)
    pixels[16:80, 80:144] = (*BLUE, 128)
    path = tmp_path_factory.mktemp("my marks") / "my logo.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def photo():
    return np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)


def put(mark, photo, seed=0):
    mark.set_random_state(np.random.default_rng(seed), random.Random(seed))
    layers = {"opacity": np.zeros(photo.shape[:2], np.uint8), "colour": np.zeros_like(photo)}
    return mark(image=photo, assets=NOTHING, **layers)


def seen(made, least=1):
    return {tuple(map(int, colour)) for colour in made["colour"][made["opacity"] >= least]}


def test_a_picture_is_drawn_as_it_is(logo, photo):
    mark = Own(str(logo), opacity=(0.6, 0.6), size=(128 / 120, 128 / 120), **STILL)
    made = put(mark, photo)
    rows, columns = np.nonzero(made["opacity"])
    top, left = rows.min(), columns.min()
    assert (np.ptp(rows), np.ptp(columns)) == (63, 127), "the transparent rim was not cut off"
    opacity, colour = np.zeros(photo.shape[:2]), np.zeros(photo.shape)
    opacity[top : top + 64, left : left + 64], colour[:, : left + 64] = 0.6, RED
    opacity[top : top + 64, left + 64 : left + 128] = 0.6 * 128 / 255
    colour[:, left + 64 :] = BLUE
    exact = blend(photo.astype(float), opacity[..., None], colour)
    assert np.abs(made["image"] - exact).max() <= 1.1  # the opacity has 256 levels
    assert np.abs(made["opacity"] - 255 * opacity).max() <= 0.51


@pytest.mark.parametrize(
    "more", [STILL, {"tilted": 1.0, "tiled": 0.0}, {"tilted": 1.0, "tiled": 1.0}]
)
@pytest.mark.parametrize("size", [0.15, 0.4, 1.6])
def test_it_keeps_its_colours_whatever_its_size_and_angle(logo, photo, size, more):
    for seed in range(5):
        made = put(Own(str(logo), size=(size, size), copies=(size, size), **more), photo, seed)
        opacity = made["opacity"][..., None] / 255
        exact = blend(photo.astype(float), opacity, made["colour"].astype(float))
        assert np.abs(made["image"] - exact).max() <= 0.51
        # On the line from red to blue, up to the rim: nothing of the black that is transparent.
        share = (made["colour"][made["opacity"] > 0] - np.array(RED)) / (np.array(BLUE) - RED)
        assert np.ptp(share, axis=1).max() < 0.05
        assert {RED, BLUE} <= seen(made) or size == 1.6


def test_no_black_comes_in_from_what_is_transparent(tmp_path, photo):
    rows, columns = np.mgrid[:200, :200] - 100
    pixels = np.zeros((200, 200, 4), np.uint8)
    pixels[rows**2 + columns**2 < 95**2] = (*RED, 255)
    pixels[rows**2 + columns**2 < 60**2] = 0
    Image.fromarray(pixels).save(tmp_path / "ring.png")
    for tiled, size in ((0.0, 0.9), (0.0, 0.2), (0.0, 2.0), (1.0, 0.3)):
        ranges = {"size": (size, size), "copies": (size, size)}
        made = put(Own(str(tmp_path / "ring.png"), tilted=1.0, tiled=tiled, **ranges), photo)
        assert made["opacity"][made["opacity"] > 0].min() < 40, "no soft rim to look at"
        assert np.abs(made["colour"][made["opacity"] > 0].astype(int) - RED).max() <= 1


@pytest.mark.parametrize("given", [{"mark": "© Jane Doe"}, {"mark": "Jane/2024.de"}])
def test_a_text_is_drawn_in_one_font(given, photo):
    made = put(Own(**given, opacity=(0.5, 0.5), size=(0.9, 0.9), **STILL), photo)
    assert 0.8 * 0.9 * 120 <= np.ptp(np.nonzero(made["opacity"])[1]) <= 0.9 * 120 + 2
    assert made["opacity"].max() == 128
    assert len(seen(made)) == 1
    path = EMBEDDED / "fonts/train/lobster.otf"
    other = put(Own(**given, font=str(path), size=(0.9, 0.9), **STILL), photo)
    assert (other["opacity"] > 0).sum() != (made["opacity"] > 0).sum()


def test_a_font_that_has_the_letters_is_found():
    assert Own("写真").transforms[0].drawing.font.name == "AoyagiKouzanT.ttf"


def test_colours_can_be_typed(logo, photo):
    for mark in (str(logo), "Jane Doe"):
        made = put(Own(mark, colours={"black": 1.0}, **STILL), photo)
        assert max(map(max, seen(made))) <= 20


@pytest.mark.parametrize(("tiled", "low", "high"), [(0.0, 0, 0), (0.25, 12, 38), (1.0, 100, 100)])
def test_the_share_of_repeated_marks(tiled, low, high, logo):
    mark = Own(str(logo), tiled=tiled, size=(0.2, 0.2), copies=(0.2, 0.2))
    photo, repeated = np.zeros((200, 200, 3), np.uint8), 0
    for seed in range(100):
        opacity = put(mark, photo, seed)["opacity"]
        quarters = opacity.reshape(2, 100, 2, 100).any(axis=(1, 3))
        alone = max(np.ptp(np.nonzero(opacity)[axis]) for axis in (0, 1)) < 60
        assert quarters.all() or alone
        repeated += not alone
    assert low <= repeated <= high  # 3 standard deviations


@pytest.mark.parametrize("kind", ["16 bits", "palette", "webp"])
def test_other_kinds_of_pictures(kind, tmp_path, photo):
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[:, 10:] = (*RED, 255)
    path = tmp_path / ("mark.webp" if kind == "webp" else "mark.png")
    if kind == "16 bits":
        cv2.imwrite(str(path), pixels[..., [2, 1, 0, 3]].astype(np.uint16) * 257)
    elif kind == "palette":
        Image.fromarray(pixels).quantize(4).save(path)
    else:
        Image.fromarray(pixels).save(path, lossless=True)
    assert seen(put(Own(str(path), size=(0.3, 0.3), **STILL), photo), 20) == {RED}


@pytest.fixture
def wrong(tmp_path, logo):
    """Files that cannot be a mark."""
    pixels = np.asarray(Image.open(logo))
    Image.fromarray(pixels[..., :3]).save(tmp_path / "opaque.png")
    Image.fromarray(pixels[20:40, 20:40]).save(tmp_path / "full.png")
    Image.fromarray(np.zeros_like(pixels)).save(tmp_path / "nothing.png")
    Image.fromarray(pixels[..., :3]).save(tmp_path / "photo.jpg")
    (tmp_path / "broken.png").write_bytes(logo.read_bytes()[:200])
    (tmp_path / "text.png").write_text("no picture")
    return tmp_path


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("opaque.png", "has no transparency.*ground transparent"),
        ("full.png", "has no transparency"),
        ("photo.jpg", "has no transparency"),
        ("nothing.png", "is transparent all over"),
        ("broken.png", "broken"),
        ("text.png", "not a picture"),
        ("none.png", "does not exist; give a transparent PNG, or a text"),
        ("none.svg", "does not exist"),
        ("", "is a folder"),
    ],
)
def test_a_file_that_cannot_be_a_mark_is_refused_in_one_line(wrong, mark, message):
    with pytest.raises(UserError, match=message) as caught:
        Own(str(wrong / mark))
    assert str(caught.value).startswith(f"mark={wrong}")
    assert "\n" not in str(caught.value)


def test_a_picture_beyond_the_limit_is_refused(logo):
    with pytest.raises(UserError, match=r"0\.01536 megapixels are more than megapixels=0.01"):
        Own(str(logo), megapixels=0.01)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mark": " "}, "mark is empty"),
        ({"mark": "Jane \U00012000"}, "mark=Jane .*no glyph for \U00012000; .*watermark.font="),
        ({"mark": "Jane", "font": "none.ttf"}, "watermark.font=none.ttf does not exist"),
        ({"mark": "Jane", "font": __file__}, "is no font that can be read"),
        ({"mark": "Jane", "tiled": 1.5}, "watermark.tiled=1.5 is no share"),
        ({"mark": "Jane", "opacity": (0.5, 1.5)}, "opacity="),
    ],
)
def test_other_wrong_values(given, message):
    with pytest.raises(UserError, match=message):
        Own(**given)


def composed(*more):
    given = ["experiment=my_mark", "folder=run", *more]
    return tiny.config(*cli.quote_paths(given, ("mark", "data.root")))


def test_the_experiment_composes(logo):
    cfg = composed(f"mark={logo}", "data.root=my photos")
    config.check(cfg)
    assert (cfg.watermark.mark, cfg.init) == (str(logo), "unet")
    config.check(composed("mark=© Jane Doe, 2024", "data=photos"))
    with pytest.raises(UserError, match=r"mark is not set; add mark=... to the command"):
        config.check(composed("data=photos"))
    with pytest.raises(UserError, match=r"data\.root is not set"):
        config.check(composed("mark=Jane"))


def test_the_experiment_trains_a_step_from_other_weights(logo, tmp_path, run_folder, capsys):
    photos = tiny.photos(tmp_path / "photos", count=4)
    folder = tmp_path / "run"
    chosen = [word for word in tiny.SMALL if word != "data=folder"]  # the experiment chooses it
    more = [f"mark='{logo}'", f"data.root={photos}", f"init='{run_folder}'", f"folder={folder}"]
    cfg = tiny.config(*chosen, "experiment=my_mark", "budget=4samples", *more)
    figures = tiny.entry_point("train").train(cfg)
    assert figures["samples_seen"] == 4
    said = capsys.readouterr().out
    assert "none of its 4 photos falls into 'test'; 62 embedded ones stand in" in said
    assert f"src/predict.py ckpt={folder}" in said
    before, after = (runs.load_network(path)[0].parameters() for path in (run_folder, folder))
    moved = max(float((a - b).detach().abs().max()) for a, b in zip(after, before, strict=True))
    assert 0 < moved < 0.01, "training did not start from these weights"


def test_embedded_photos_stand_in_where_asked_only(tmp_path, capsys):
    root = tiny.photos(tmp_path / "photos", count=4)
    own = instantiate(OmegaConf.create({"_target_": "clearmark.watermarks.Own", "mark": "Jane"}))
    data = PhotosModule(own, str(root), size=64, crop=32, stand_in=True)
    found = {split: {p.parent for p in data.photos(split).paths} for split in ("train", "test")}
    assert found == {"train": {root}, "test": {EMBEDDED / "photos" / "test"}}
    assert capsys.readouterr().out.count("stand in") == 1
    data.stand_in = False
    with pytest.raises(UserError, match=r"falls into 'test'.*data.stand_in=true"):
        data.photos("test")
