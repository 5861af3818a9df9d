"""Recipes: what is drawn keeps to the ranges that their sources state."""

import random
from pathlib import Path

import cv2
import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from scipy.stats import kstest

from clearmark.watermarks import (
    Band,
    Lines,
    Logo,
    Mark,
    MarkAssets,
    Several,
    Shape,
    Stamp,
    Text,
    Tiled,
)
from clearmark.watermarks.own import _Once, _Repeated

CONF = Path(__file__).parents[1] / "conf/watermark"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))
OWN = {"mark": "Jane Doe"}
SIDE = 256
RANGES = ("opacity", "size", "rotation", "spacing", "ground", "number")
FINISHES = ("tilted", "outline", "shadow", "feather", "fade", "texture")
SHARES = (*FINISHES, "wordmark", "framed", "ring", "wear", "net", "repeat")


@pytest.fixture(scope="module")
def assets():
    return MarkAssets.load("train")


@pytest.fixture(scope="module")
def two_halves():
    """One icon, left half yellow and right half blue, that shows which way it was turned."""
    icon = np.full((64, 64, 4), 255, np.uint8)
    icon[:, :32, :3], icon[:, 32:, :3] = (255, 255, 0), (0, 0, 255)
    return MarkAssets((), (icon,), ())


@pytest.fixture
def draw(monkeypatch, assets):
    """Draws pictures of a recipe: for each its maps and the (mark, layer) pairs that made them."""
    marks = []
    original = Mark.get_params_dependent_on_data

    def recorded(self, params, data):
        made = original(self, params, data)
        marks.append((self, made["layer"]))
        return made

    monkeypatch.setattr(Mark, "get_params_dependent_on_data", recorded)

    def drawn(name, count, own_assets=None, **changes):
        recipe = instantiate(OmegaConf.merge(OmegaConf.load(CONF / f"{name}.yaml"), changes))
        for seed in range(count):
            marks.clear()
            recipe.set_random_state(np.random.default_rng(seed), random.Random(seed))
            maps = {
                "opacity": np.zeros((SIDE, SIDE), np.uint8),
                "colour": np.zeros((SIDE, SIDE, 3), np.uint8),
            }
            made = recipe(assets=own_assets or assets, **maps)
            yield made["opacity"], made["colour"], list(marks)

    return drawn


def box(opacity):
    """Top, left, height and width of what is drawn."""
    left, top, width, height = cv2.boundingRect(opacity)
    return top, left, height, width


def angle(opacity, colour):
    """Where the dark half of the icon lies from the light one, in degrees counter-clockwise."""
    light = colour[..., 0] > 128
    halves = [(opacity > 0) & half for half in (light, ~light)]
    left, other = (np.argwhere(half).mean(0) for half in halves)
    down, right = other - left
    return np.degrees(np.arctan2(-down, right)) % 360


def strongest(samples, low, high):
    """Checks the largest opacity of each sample, and that the range is used."""
    peaks = np.array([opacity.max() / 255 for opacity, *_ in samples])
    assert peaks.max() <= high + 0.5 / 255
    assert peaks.min() >= 0.75 * low  # thin strokes are nowhere full
    assert np.mean(peaks >= low - 0.5 / 255) > 0.9
    assert np.ptp(peaks) > 0.8 * (high - low)


def test_clwd(draw):
    samples = list(draw("clwd", 250))
    strongest(samples, 0.3, 0.7)
    assert all(len(marks) == 1 for *_, marks in samples)
    boxes = np.array([box(opacity) for opacity, *_ in samples])
    heights, widths = boxes[:, 2], boxes[:, 3]
    for extents in (heights, widths):  # uniform in [10, 256]
        assert extents.min() >= 8
        assert extents.max() <= 256
        assert 120 <= extents.mean() <= 146
        assert extents.std() == pytest.approx(246 / 12**0.5, rel=0.12)
    assert abs(np.corrcoef(heights, widths)[0, 1]) < 0.2
    for start, extents in ((boxes[:, 0], heights), (boxes[:, 1], widths)):
        roomy = extents < 200
        share = start[roomy] / (SIDE - extents[roomy])
        assert np.histogram(share, 4, (0, 1))[0].min() > 0.15 * roomy.sum()
    coloured = [
        np.ptp(colour.astype(int)[opacity > 0], axis=1).max() for opacity, colour, _ in samples
    ]
    assert np.mean(np.array(coloured) > 30) > 0.7


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("logo_l", 0.35, 0.6), ("logo_h", 0.6, 0.85), ("logo_gray", 0.35, 0.85)],
)
def test_logo(name, low, high, draw):
    samples = list(draw(name, 120))
    strongest(samples, low, high)
    assert all(len(marks) == 1 for *_, marks in samples)
    sides = np.array([max(box(opacity)[2:]) / SIDE for opacity, *_ in samples])
    assert 0.4 - 2 / SIDE <= sides.min() <= 0.43
    assert 0.77 <= sides.max() <= 0.8 + 2 / SIDE
    for axis in (0, 1):
        boxes = np.array([box(opacity)[axis::2] for opacity, *_ in samples])
        share = boxes[:, 0] / (SIDE - boxes[:, 1])
        assert 0 <= share.min() <= share.max() <= 1
        assert np.histogram(share, 6, (0, 1))[0].min() >= 8  # of 20
        assert kstest(share, "uniform").pvalue > 0.01


@pytest.mark.parametrize("name", ["clwd", "logo_l", "logo_h", "logo_gray"])
def test_logos_are_turned_any_way(name, draw, two_halves):
    colours = {"shade": 1} if name == "logo_gray" else {"any": 0, "own": 1}
    changes = {"wordmark": 0.0, "colours": colours}
    angles = [angle(*maps) for *maps, _ in draw(name, 120, two_halves, **changes)]
    assert np.histogram(angles, 4, (0, 360))[0].min() >= 15


@pytest.mark.parametrize("name", ["logo_l", "logo_h", "logo_gray"])
def test_the_opacity_of_a_logo_is_the_same_all_over(name, draw):
    """Where 3 pixels lie between a pixel and the rim, of icons and wordmarks in all colours."""
    ratios = []
    for opacity, *_ in draw(name, 120):
        inside = opacity[cv2.erode((opacity > 0).astype(np.uint8), np.ones((7, 7))) > 0]
        if inside.size >= 50:  # else it is made of lines
            low, high = np.percentile(inside, [10, 95])
            ratios.append(high / low)
    assert len(ratios) > 90
    assert np.mean(np.array(ratios) < 1.02) > 0.95
    assert max(ratios) < 1.6  # a haze that an icon has around it


def test_logo_gray_is_grey(draw):
    shades = []
    for opacity, colour, _ in draw("logo_gray", 60):
        seen = colour[opacity > 0]
        assert (seen == seen[:, :1]).all()
        shades.append(seen[0, 0])
    assert np.ptp(shades) > 150
    several = sum(len(np.unique(c[o > 0])) > 5 for o, c, _ in draw("logo_gray", 60))
    assert several > 3  # a coloured logo keeps its features


def test_bvmr(draw):
    samples = list(draw("bvmr", 150))
    assert {len(marks) for *_, marks in samples} == set(range(1, 14))
    layers = [(mark, layer) for *_, marks in samples for mark, layer in marks]
    peaks = np.array([layer.opacity.max() / 255 for _, layer in layers if layer.opacity.size])
    assert peaks.max() <= 0.8 + 0.5 / 255
    assert np.mean(peaks >= 0.2 - 0.5 / 255) > 0.8  # thin or cut motifs are nowhere full
    kinds = [sum(isinstance(mark, kind) for mark, _ in layers) for kind in (Text, Shape, Logo)]
    assert sum(kinds) == len(layers)
    assert min(kinds) > 0.25 * len(layers)
    whole, cut = [], 0
    for _, layer in layers:
        (top, left), (height, width) = layer[:2], layer.opacity.shape
        if min(top, left) > 0 and top + height < SIDE and left + width < SIDE:
            whole.append(max(height, width))
        else:
            cut += 1
    assert 50 / 2 - 1 <= min(whole) <= 27  # 50 to 150 pixels of 512
    assert 73 <= max(whole) <= 150 / 2 + 1
    assert 0.05 * len(layers) < cut < 0.4 * len(layers)


def test_bvmr_motifs_are_turned_by_up_to_a_right_angle(two_halves):
    motif = OmegaConf.load(CONF / "bvmr.yaml").transforms[2]
    logo = instantiate(motif, outline=0, feather=0, at=["anywhere"], colours={"any": 0, "own": 1})
    angles = []
    for seed in range(80):
        logo.set_random_state(np.random.default_rng(seed), random.Random(seed))
        maps = np.zeros((SIDE, SIDE), np.uint8), np.zeros((SIDE, SIDE, 3), np.uint8)
        made = logo(assets=two_halves, opacity=maps[0], colour=maps[1])
        angles.append((angle(made["opacity"], made["colour"]) + 180) % 360 - 180)
    assert -92 <= min(angles) < -70
    assert 70 < max(angles) <= 92


def test_bvmr_has_borders_and_blurred_edges(draw):
    """Of texts and shapes, whose colour is one and whose edges are sharp but for these."""
    layers = [
        layer
        for *_, marks in draw("bvmr", 60)
        for mark, layer in marks
        if isinstance(mark, Text | Shape)
    ]
    layers = [layer for layer in layers if layer.opacity.size and layer.opacity.max() > 20]
    bordered = [layer for layer in layers if layer.colour.ndim == 3]
    assert 0.1 < len(bordered) / len(layers) < 0.3
    tones = [layer.colour[layer.opacity > 20] for layer in bordered]
    assert np.mean([np.isin(seen, (0, 255)).all(1).any() for seen in tones]) > 0.5
    steps = np.array([steepest(layer.opacity) for layer in layers if layer.colour.ndim == 1])
    assert 0.15 < np.mean(steps < 0.42) < 0.45


def steepest(opacity):
    """The largest difference of two neighbours, as a share of the largest opacity."""
    values = opacity.astype(float)
    steps = [np.abs(np.diff(values, axis=axis)).max(initial=0) for axis in (0, 1)]
    return max(steps) / values.max()


def test_sizes_of_stamps_and_maps(draw, monkeypatch):
    """Of the sketches that the recipe asks for, which lie in the picture as they are, or turned."""
    made, sides = [], {}
    for kind in (Stamp, Text, Logo):

        def recorded(self, *given, sketch=kind.sketch):
            made.append((type(self), sketch(self, *given)))
            return made[-1][1]

        monkeypatch.setattr(kind, "sketch", recorded)
    for *_, marks in draw("stamps", 250):
        of, sketch = made.pop()
        extent = sketch.matte.shape
        side = max(extent) if of is Logo else extent[1]  # the width, but of a logo the longer one
        sides.setdefault((type(marks[0][0]), of), []).append(side / SIDE)
    stated = {(Stamp, Stamp): (0.3, 0.9), (Tiled, Stamp): (0.2, 0.4)}
    stated |= {(Tiled, Text): (0.2, 0.5), (Tiled, Logo): (0.1, 0.35)}
    assert sides.keys() == stated.keys()
    for kinds, (low, high) in stated.items():
        assert low - 1 / SIDE <= min(sides[kinds])
        assert max(sides[kinds]) <= 1.1 * high  # a box needs room for its frame
        assert np.ptp(sides[kinds]) > 0.8 * (high - low)


def test_stamps(draw):
    samples = list(draw("stamps", 150))
    strongest(samples, 0.33, 1.0)
    kinds = [type(marks[0][0]) for *_, marks in samples]
    assert set(kinds) == {Stamp, Tiled}
    assert 45 <= kinds.count(Stamp) <= 105
    for opacity, _, marks in samples:
        if isinstance(marks[0][0], Tiled):
            halves = opacity.reshape(2, SIDE // 2, 2, SIDE // 2).any(axis=(1, 3))
            assert halves.all()


def test_mixed_covers_all_kinds_sizes_and_opacities(draw):
    samples = list(draw("mixed", 400))
    kinds = {type(mark) for *_, marks in samples for mark, _ in marks}
    assert kinds == {Band, Lines, Logo, Shape, Stamp, Text, Tiled}
    peaks = np.array([opacity.max() / 255 for opacity, *_ in samples])
    assert np.mean(peaks < 0.35) > 0.03
    assert np.mean(peaks > 0.95) > 0.1
    area = np.array([np.mean(opacity > 0) for opacity, *_ in samples])
    assert np.mean(area < 0.03) > 0.03
    assert np.mean(area > 0.6) > 0.03


def parts(transform):
    """Every mark that a choice may draw, and what draws several."""
    if not isinstance(transform, Mark):
        yield from [transform] * isinstance(transform, Several)
        for inner in transform.transforms:
            yield from parts(inner)
        return
    yield transform


def kind(part):
    """What makes ranges comparable; a mark of the user's own is as large as a logo."""
    own = {_Once: Logo, _Repeated: Tiled}
    of = getattr(part, "of", None)
    alike = getattr(part, "fit", None), getattr(part, "flat", False)
    return own.get(type(part), type(part)), *alike, of and kind(of)


def beyond(part, wide):
    """The settings of a mark that reach beyond those of another of its kind."""
    found = []
    for name in RANGES:
        idle = name == "rotation" and not getattr(part, "tilted", 0)
        if hasattr(part, name) and not idle:
            (low, high), (least, most) = getattr(part, name), getattr(wide, name)
            found += [name] * (low < least or high > most)
    found += [name for name in SHARES if getattr(part, name, 0) and not getattr(wide, name)]
    if isinstance(part, Mark):
        seen = {name for name, weight in part.colours.items() if weight}
        found += ["at"] * bool({*part.at} - {*wide.at})
        found += ["colours"] * bool(seen - {name for name, w in wide.colours.items() if w})
    if getattr(part, "of", None):
        (low, high), (least, most) = part.of.size, wide.of.size
        found += ["of"] * (low < least or high > most)
    return found


@pytest.mark.parametrize("name", [name for name in NAMES if name != "mixed"])
def test_every_choice_lies_within_mixed(name):
    given = OWN if name == "own" else {}
    choice, mixed = (
        list(parts(instantiate(OmegaConf.merge(OmegaConf.load(CONF / f"{stem}.yaml"), more))))
        for stem, more in ((name, given), ("mixed", {}))
    )
    assert choice
    for part in choice:
        lacking = {f"{beyond(part, wide)}" for wide in mixed if kind(wide) == kind(part)}
        assert "[]" in lacking, f"{kind(part)} reaches beyond mixed: {lacking or 'no such mark'}"


@pytest.mark.parametrize("name", NAMES)
def test_no_mark_is_all_but_invisible(name, draw):
    weakest = {"mixed": 0.15, "bvmr": 0.2}.get(name, 0.3)
    given = OWN if name == "own" else {}
    for opacity, *_ in draw(name, 60, **given):
        # Somewhere at least two thirds of the weakest opacity, on more than a speck.
        assert np.sum(opacity > 0.66 * weakest * 255) >= 12
