"""Marks: what they do to a picture is the formation model, and they stay within what they state."""

import random
from pathlib import Path

import albumentations as A
import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from clearmark.data import PhotosModule
from clearmark.errors import UserError
from clearmark.formation import blend, blend_linear, over
from clearmark.watermarks import (
    Band,
    Lines,
    Logo,
    MarkAssets,
    Several,
    Shape,
    Sketch,
    Stamp,
    Text,
    Tiled,
    finishes,
)
from clearmark.watermarks.finishes import Tinted
from clearmark.watermarks.pixels import blended, blended_in_light, mixed, united
from clearmark.watermarks.text import beside, lettering, stacked

CONF = sorted((Path(__file__).parents[1] / "conf/watermark").glob("*.yaml"))
KINDS = {
    "text": Text,
    "icon": lambda **mark: Logo(wordmark=0, **mark),
    "wordmark": lambda **mark: Logo(wordmark=1, framed=0.5, **mark),
    "tiled text": lambda **mark: Tiled(Text(size=(0.2, 0.5)), **mark),
    "tiled logo": lambda **mark: Tiled(Logo(size=(0.1, 0.3)), **mark),
    "ring": lambda **mark: Stamp(ring=1, **mark),
    "box": lambda **mark: Stamp(ring=0, **mark),
    "shape": Shape,
    "lines": lambda **mark: Lines(Text(size=(0.2, 0.5)), **{"size": (0.01, 0.02)} | mark),
    "band": lambda **mark: Band(**{"size": (0.1, 0.3)} | mark),
    "cut": lambda **mark: Logo(wordmark=0, at=["cut"], fit="free", **mark),
    "soft": lambda **mark: Text(feather=0.5, fade=0.5, texture=0.5, **mark),
}
COMBINATIONS = {
    "one of": lambda: A.OneOf([make() for make in KINDS.values()], p=1),
    "some of": lambda: A.SomeOf([make() for make in KINDS.values()], n=2, p=1),
    "compose": lambda: A.Compose([Text(outline=1), Logo(shadow=1)]),
    "own colours": lambda: A.Compose([Logo(wordmark=0, colours={"own": 1}) for _ in range(2)]),
}
PLAIN = {"tilted": 0, "outline": 0, "shadow": 0}
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def assets():
    return MarkAssets.load("val")


@pytest.fixture(scope="module")
def photo():
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (120, 160, 3), np.uint8)


def put(transform, photo, assets, seed=0):
    """The sample that a transform makes of a photo without a mark."""
    transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
    layers = {"opacity": np.zeros(photo.shape[:2], np.uint8), "colour": np.zeros_like(photo)}
    return transform(image=photo, assets=assets, **layers)


def formed(photo, made):
    """What the formation model says the marked picture is, before rounding."""
    opacity = made["opacity"][..., None] / 255
    return blend(photo.astype(float), opacity, made["colour"].astype(float))


def extent(opacity):
    """Height and width of the smallest box that holds the mark."""
    rows, columns = np.nonzero(opacity)
    return np.ptp(rows) + 1, np.ptp(columns) + 1


@every_kind
@pytest.mark.parametrize("own", [False, True])
def test_one_mark_is_the_formation_model(kind, own, photo, assets):
    more = {"colours": {"own": 1}} if own else {}
    for seed in range(6):
        made = put(KINDS[kind](outline=0.5, shadow=0.5, **more), photo, assets, seed)
        assert np.abs(formed(photo, made) - made["image"]).max() <= 0.51
        assert made["opacity"].any()
        outside = made["opacity"] == 0
        np.testing.assert_array_equal(made["image"][outside], photo[outside])


@pytest.mark.parametrize("name", COMBINATIONS)
def test_several_marks_are_one_of_the_same_effect(name, photo, assets):
    marked = 0
    for seed in range(8):
        made = put(COMBINATIONS[name](), photo, assets, seed)
        assert np.abs(formed(photo, made) - made["image"]).max() <= 2
        outside = made["opacity"] == 0
        np.testing.assert_array_equal(made["image"][outside], photo[outside])
        marked += bool(made["opacity"].any())
    assert marked == 8


@every_kind
def test_opacity_lies_in_its_range_where_the_matte_is_full(kind, photo, assets):
    seen = []
    for seed in range(8):
        made = put(KINDS[kind](opacity=(0.4, 0.6), outline=0.5), photo, assets, seed)
        assert made["opacity"].max() <= round(0.6 * 255)
        seen.append(made["opacity"].max())
    assert max(seen) >= 0.4 * 255
    if kind not in ("ring", "box"):  # worn ink can leave no pixel full
        assert min(seen) >= 0.38 * 255  # thin letters are soft
    assert len(set(seen)) > 2


@every_kind
def test_the_generators_decide_all(kind, photo, assets):
    make = KINDS[kind]
    first, again, other = (put(make(), photo, assets, seed)["image"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@every_kind
def test_nothing_is_written_in_place(kind, photo, assets):
    kept, layers = photo.copy(), [np.full(photo.shape[:2], 9, np.uint8), photo[::-1].copy()]
    before = [layer.copy() for layer in layers]
    icons = [icon.copy() for icon in assets.icons]
    KINDS[kind](shadow=1, outline=1)(
        image=photo, assets=assets, opacity=layers[0], colour=layers[1]
    )
    np.testing.assert_array_equal(photo, kept)
    for now, then in zip([*layers, *assets.icons], [*before, *icons], strict=True):
        np.testing.assert_array_equal(now, then)


@every_kind
def test_a_mark_works_as_any_albumentation(kind, photo, assets):
    assert (KINDS[kind]()(image=photo, assets=assets)["image"] != photo).any()
    made = A.Compose([A.HorizontalFlip(p=1), KINDS[kind]()])(image=photo, assets=assets)["image"]
    assert (made != photo[:, ::-1]).any()
    assert made.shape == photo.shape
    assert made.dtype == np.uint8
    never = KINDS[kind](p=0)(image=photo, assets=assets)["image"]
    np.testing.assert_array_equal(never, photo)


@every_kind
@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (300, 40), (40, 300)])
def test_no_picture_is_too_small(kind, shape, assets):
    photo = np.full((*shape, 3), 90, np.uint8)
    for seed in range(8):
        made = put(KINDS[kind](outline=0.5, shadow=0.5), photo, assets, seed)
        assert made["image"].shape == photo.shape
        assert np.abs(formed(photo, made) - made["image"]).max() <= 0.51


def sketched(mark, shape, assets, seed):
    mark.set_random_state(np.random.default_rng(seed), random.Random(seed))
    return mark.sketch(shape, assets, mark.size[0])


@pytest.mark.parametrize("seed", range(4))
def test_size_is_of_what_each_kind_says(seed, assets):
    shape = (400, 600)
    icon = sketched(Logo(wordmark=0, size=(0.5, 0.5)), shape, assets, seed)
    assert max(icon.matte.shape) == 200
    ring = sketched(Stamp(ring=1, size=(0.5, 0.5)), shape, assets, seed)
    assert ring.matte.shape == (200, 200)
    box = sketched(Stamp(ring=0, size=(0.5, 0.5), wear=0), shape, assets, seed)
    assert 190 <= box.matte.shape[1] <= 260
    wordmark = sketched(Logo(wordmark=1, framed=0, size=(0.5, 0.5)), shape, assets, seed)
    assert 110 <= max(wordmark.matte.shape) <= 260
    text = sketched(Text(size=(0.5, 0.5)), shape, assets, seed)
    assert text.matte.shape[1] <= 330
    assert text.matte.shape[0] <= 400 * 0.3 * 2  # letters with accents and tails


def test_lettering_has_the_width_asked_for(assets):
    for phrase in assets.phrases[:12]:
        matte = lettering(phrase, assets.fonts_for(phrase)[0], 300)
        assert 250 <= matte.shape[1] <= 330, phrase
        assert matte.max() == 255
        rim = [matte[0], matte[-1], matte[:, 0], matte[:, -1]]
        assert not any(edge.any() for edge in rim), "a letter is cut off"


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.3), (0.7, 0.8)])
def test_sizes_are_drawn_from_the_range(low, high, photo, assets):
    mark = Logo(wordmark=0, size=(low, high), **PLAIN)
    sides = [max(extent(put(mark, photo, assets, seed)["opacity"])) for seed in range(12)]
    assert max(sides) <= high * 120 + 1
    assert min(sides) >= low * 120 * 0.8  # some icons leave a margin
    assert len(set(sides)) > 3


def test_rotation_is_counter_clockwise_and_keeps_the_whole_mark():
    matte = np.zeros((20, 60), np.uint8)
    matte[2:-2, 32:58] = 255  # the right half
    turned = Text(rotation=(90, 90), tilted=1)
    turned.set_random_state(np.random.default_rng(0), random.Random(0))
    made = turned.turn(Sketch(matte, np.zeros(3, np.uint8))).matte
    assert made.shape[0] >= 60
    assert made.shape[1] >= 20
    assert made[: made.shape[0] // 2].sum() > 0.95 * matte.sum()
    for angle in (0, 30, 180, 315):
        turned.rotation = (angle, angle)
        area = turned.turn(Sketch(matte, np.zeros(3, np.uint8))).matte.sum(dtype=int)
        assert area == pytest.approx(matte.sum(dtype=int), rel=0.02)


def test_rotation_stays_in_its_range(assets, monkeypatch):
    import cv2

    angles = []
    original = cv2.getRotationMatrix2D
    monkeypatch.setattr(
        cv2, "getRotationMatrix2D", lambda c, a, s: angles.append(a) or original(c, a, s)
    )
    photo = np.zeros((60, 80, 3), np.uint8)
    for seed in range(20):
        put(Text(rotation=(10, 20), tilted=1), photo, assets, seed)
        put(Text(tilted=0), photo, assets, seed)
    assert len(angles) == 20
    assert min(angles) >= 10
    assert max(angles) <= 20
    assert np.ptp(angles) > 5


def test_marks_lie_within_the_picture_in_the_middle_and_at_the_rim(assets):
    photo = np.zeros((200, 200, 3), np.uint8)
    middle = rim = 0
    for seed in range(40):
        mark = Stamp(ring=1, wear=0, size=(0.3, 0.3), **PLAIN)
        rows, columns = np.nonzero(put(mark, photo, assets, seed)["opacity"])
        assert (np.ptp(rows), np.ptp(columns)) == pytest.approx((58, 58), abs=2)
        centre = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
        middle += centre == pytest.approx((99.5, 99.5), abs=2)
        rim += min(*centre, *(199 - c for c in centre)) < 40
    assert 5 <= middle <= 30
    assert 5 <= rim <= 30


def test_tiles_cover_the_picture(assets):
    photo = np.zeros((240, 240, 3), np.uint8)
    for seed in range(8):
        opacity = put(Tiled(Text(size=(0.2, 0.3))), photo, assets, seed)["opacity"]
        quarters = opacity.reshape(2, 120, 2, 120).any(axis=(1, 3))
        assert quarters.all()


@pytest.mark.parametrize(
    ("name", "low", "high"), [("white", 235, 255), ("grey", 140, 180), ("black", 0, 20)]
)
def test_a_palette_colour_is_grey_and_near_its_tone(name, low, high, photo, assets):
    for kind in ("text", "icon", "ring", "tiled logo"):
        made = put(KINDS[kind](colours={name: 1}, outline=0, shadow=0), photo, assets)
        colour = made["colour"][made["opacity"] > 0]
        assert (colour == colour[:1]).all()
        assert (colour[0] == colour[0, 0]).all()
        assert low <= colour[0, 0] <= high


def test_weights_of_colours_are_honoured(photo, assets):
    mark = Text(colours={"white": 3, "black": 1}, outline=0, shadow=0)
    light = 0
    for seed in range(80):
        made = put(mark, photo, assets, seed)
        light += made["colour"][made["opacity"] > 0].mean() > 127
    assert 46 <= light <= 74  # 60 +- 3.6 standard deviations


def test_an_icon_keeps_its_own_colours(photo):
    icon = np.zeros((64, 64, 4), np.uint8)
    icon[:, :32] = (200, 10, 30, 255)
    icon[:, 32:] = (20, 100, 250, 255)
    mark = Logo(wordmark=0, colours={"own": 1}, size=(0.5, 0.5), **PLAIN)
    made = put(mark, photo, MarkAssets((), (icon,), ("x",)))
    found = {tuple(map(int, c)) for c in made["colour"][made["opacity"] > 0]}
    assert {(200, 10, 30), (20, 100, 250)} <= found
    tinted = put(
        Logo(wordmark=0, colours={"white": 1}, **PLAIN), photo, MarkAssets((), (icon,), ())
    )
    assert tinted["colour"][tinted["opacity"] > 0].min() >= 235


def test_own_colours_are_any_where_a_mark_has_none(photo, assets):
    made = put(Text(colours={"own": 1}, **PLAIN), photo, assets)
    assert made["opacity"].any()


@pytest.mark.parametrize("opacity", [(0.5, 1.2), (-0.1, 0.5), (0.7, 0.3)])
def test_an_opacity_that_is_no_range_is_refused(opacity):
    with pytest.raises(UserError, match=r"opacity=.*within \[0, 1\]"):
        Text(opacity=opacity)


def test_an_unknown_colour_is_refused():
    with pytest.raises(UserError, match=r"red.*white, grey, black, shade, any, own"):
        Logo(colours={"red": 1})


def test_an_outline_and_a_shadow_lie_under_the_mark(photo, assets):
    plain = Text(colours={"white": 1}, opacity=(1, 1), **PLAIN)
    edged = Text(colours={"white": 1}, opacity=(1, 1), **PLAIN | {"outline": 1, "shadow": 1})
    bare, dressed = (put(mark, photo, assets, 3) for mark in (plain, edged))
    assert dressed["colour"][dressed["opacity"] > 0].min() < 60
    assert (dressed["opacity"] > 0).sum() > 1.2 * (bare["opacity"] > 0).sum()


def test_mattes_are_joined_centred():
    wide, small = np.full((2, 9), 255, np.uint8), np.full((3, 3), 255, np.uint8)
    above = stacked(wide, small, 2)
    assert above.shape == (7, 9)
    assert (above[4:, 3:6] == 255).all()
    assert above.sum() == wide.sum() + small.sum()
    np.testing.assert_array_equal(beside(wide.T, small.T, 2), above.T)


@pytest.mark.parametrize("path", CONF, ids=lambda path: path.stem)
def test_every_choice_marks_photos(path, photo, assets):
    cfg = OmegaConf.load(path)
    if path.stem == "own":
        cfg.mark = "Jane Doe"
    mark = instantiate(cfg, _convert_="all")
    for seed in range(20):
        made = put(mark, photo, assets, seed)
        assert made["opacity"].any()
        assert np.abs(formed(photo, made) - made["image"]).max() <= 3


def test_mixed_puts_one_to_three_marks(photo, assets, monkeypatch):
    count = []
    original = Text.get_params_dependent_on_data
    monkeypatch.setattr(
        "clearmark.watermarks.base.Mark.get_params_dependent_on_data",
        lambda self, params, data: count.append(1) or original(self, params, data),
    )
    mark = instantiate(OmegaConf.load(CONF[0].with_name("mixed.yaml")), _convert_="all")
    totals = set()
    for seed in range(30):
        count.clear()
        put(mark, photo, assets, seed)
        totals.add(len(count))
    assert {1, 2, 3} <= totals  # motifs come in larger numbers


def pictures(seed=0, shape=(40, 50)):
    """Two pictures and two opacity maps, all kinds of values."""
    generator = np.random.default_rng(seed)
    maps = [generator.integers(0, 256, shape, np.uint8) for _ in range(2)]
    maps[0][:5], maps[1][:, :5] = 0, 0
    maps[0][5:9], maps[1][:, 5:9] = 255, 255
    return [generator.integers(0, 256, (*shape, 3), np.uint8) for _ in range(2)], maps


@pytest.mark.parametrize("one_colour", [False, True])
def test_bytes_are_blended_as_the_formation_model_says(one_colour):
    (clean, colour), (opacity, _) = pictures()
    colour = colour[0, 0] if one_colour else colour
    share = opacity[..., None] / 255
    exact = blend(clean.astype(float), share, colour.astype(float))
    assert np.abs(blended(clean, opacity, colour) - exact).max() <= 0.5 + 1e-9
    exact = 255 * blend_linear(clean / 255, share, colour / 255)
    assert np.abs(blended_in_light(clean, opacity, colour) - exact).max() <= 0.6


def test_marks_of_bytes_are_laid_over_each_other_as_the_formation_model_says():
    (lower_colour, upper_colour), (upper, lower) = pictures(1)
    maps = [values / 255 for values in (upper[..., None], upper_colour, lower[..., None])]
    total, colour = over(*maps, lower_colour / 255)
    assert np.abs(united(upper, lower) - 255 * total[..., 0]).max() <= 0.5 + 1e-9
    made = mixed(upper, upper_colour, lower, lower_colour)
    # What counts is the colour that is seen: an eighth of a level of opacity shows little of it.
    assert (np.abs(made - 255 * colour) * total).max() <= 1.5


def test_opacity_and_colour_alone_are_what_they_are_beside_the_picture(photo, assets):
    for kind in KINDS.values():
        with_it = put(kind(), photo, assets, 5)
        mark = kind()
        mark.set_random_state(np.random.default_rng(5), random.Random(5))
        alone = mark(
            assets=assets, opacity=np.zeros(photo.shape[:2], np.uint8), colour=np.zeros_like(photo)
        )
        for key in ("opacity", "colour"):
            np.testing.assert_array_equal(with_it[key], alone[key])


def disc(side=81, radius=24):
    rows, columns = np.mgrid[:side, :side] - side // 2
    return Tinted(np.where(rows**2 + columns**2 < radius**2, 255, 0).astype(np.uint8), np.zeros(3))


def test_feathered_edges_are_soft_and_keep_the_middle():
    made = finishes.feathered(disc(), 4).matte.astype(int)
    assert np.abs(np.diff(made[40])).max() < 60
    assert made[40, 40] == 255
    assert made.sum() == pytest.approx(disc().matte.sum(dtype=int), rel=0.03)


@pytest.mark.parametrize("angle", [0.0, 1.0, np.pi / 2, 4.0])
def test_a_fade_falls_evenly_in_its_direction(angle):
    plain = Tinted(np.full((60, 60), 255, np.uint8), np.zeros(3))
    made = finishes.faded(plain, angle, 0.3).matte.astype(float)
    assert made.max() == 255
    assert made.min() == pytest.approx(0.3 * 255, abs=2)
    down, right = (np.gradient(made)[axis].mean() for axis in (0, 1))
    assert np.arctan2(down, right) % (2 * np.pi) == pytest.approx(angle, abs=0.05)


def test_texture_leaves_its_least_share():
    noise = np.random.default_rng(0).random((8, 8), np.float32)
    made = finishes.textured(disc(), noise, 0.4).matte
    inside = made[disc().matte > 0]
    assert inside.min() >= 0.4 * 255 - 1
    assert made.max() == 255
    assert inside.std() > 20
    assert not made[disc().matte == 0].any()


def test_a_coloured_icon_drawn_in_one_colour_keeps_its_features():
    face = np.full((40, 40, 3), 240, np.uint8)
    face[10:15, 10:15] = 20
    made = finishes.engraved(np.full((40, 40), 255, np.uint8), face)
    assert made[20, 20] == 255
    assert 40 <= made[12, 12] <= 80
    flat = np.full((40, 40), 200, np.uint8)
    np.testing.assert_array_equal(finishes.engraved(flat, np.zeros_like(face)), flat)


def test_several_draws_each_number_of_marks(photo, assets):
    several = Several([Text(), Logo()], (2, 4), p=0.8)
    count = []
    for transform in several.transforms:
        transform.sketch = lambda *a, draw=transform.sketch: count.append(1) or draw(*a)
    totals = []
    for seed in range(40):
        count.clear()
        put(several, photo, assets, seed)
        totals.append(len(count))
    assert set(totals) == {0, 2, 3, 4}


@pytest.mark.parametrize("wrong", [{"at": ["top"]}, {"at": []}, {"fit": "round"}])
def test_an_unknown_place_or_fit_is_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        Logo(**wrong)


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_default_is_as_strong_as_marks_in_the_wild(split):
    path = CONF[0].with_name("default.yaml")
    data = PhotosModule(instantiate(OmegaConf.load(path), _convert_="all"))
    dataset = data.dataset(split)
    psnr = []
    for index in range(120):
        sample = dataset[(0, index)]
        error = np.square(sample["marked"] / 255 - sample["clean"] / 255).mean()
        psnr.append(-10 * np.log10(error))
    assert 22 <= np.mean(psnr) <= 27
