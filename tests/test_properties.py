"""Properties of tiling, metrics and configs that hold for any values, tried on random ones.

Those of the formation model are in test_formation.py, of networks' configs in test_strangers.py.
"""

import math

import numpy as np
import pytest
import tiny
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from omegaconf import OmegaConf
from torch import nn

from clearmark import cli, config
from clearmark.inference import _spans, restore
from clearmark.metrics import ON_MARK, PSNR_CEILING, RemovalMetrics, per_image
from clearmark.models.base import Restoration


class Pointwise(nn.Module):
    """A network in which a pixel depends on itself alone: no tile can tell where it was cut."""

    def __init__(self, scale, turned):
        super().__init__()
        self.scale, self.turned = nn.Parameter(torch.tensor(scale, dtype=torch.float64)), turned

    def forward(self, marked):
        image = marked.flip(1) if self.turned else marked
        return Restoration(image * self.scale, 9 * (marked[:, :1] - 0.5))


SIDES = st.integers(1, 90)


@st.composite
def tilings(draw):
    """A tile, and an overlap of at most half of it."""
    tile = draw(st.integers(2, 64))
    return tile, draw(st.integers(0, tile // 2))


@given(
    SIDES,
    SIDES,
    tilings(),
    st.sampled_from([np.uint8, np.uint16]),
    st.sampled_from([1.0, 0.0, 0.3, 1.7]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=150, deadline=None)
def test_tiles_of_any_size_give_exactly_the_whole(height, width, cut, kind, scale, turned, seed):
    tile, overlap = cut
    network, high = Pointwise(scale, turned), np.iinfo(kind).max
    image = np.random.default_rng(seed).integers(0, high, (height, width, 3), kind, True)
    tiled, mask = restore(network, image, 0, tile, overlap)
    unit = image[..., ::-1] / high if turned else image / high
    exact = (unit * scale).clip(0, 1) * high
    # Half a level is rounded.
    assert tiled.dtype == kind
    assert np.abs(tiled - exact).max() <= 0.5 + high * 1e-6
    if scale == 1:
        np.testing.assert_array_equal(tiled, image[..., ::-1] if turned else image)
    logits = 9 * (image[..., 0] / high - 0.5)
    np.testing.assert_allclose(mask, 1 / (1 + np.exp(-logits)), atol=1e-6)


@given(st.integers(1, 500), tilings())
def test_each_pixel_is_kept_once_with_what_lies_around_it(length, cut):
    tile, overlap = cut
    kept = []
    for span in _spans(length, tile, overlap):
        assert 0 <= span.start <= span.first < span.last <= span.end <= length
        assert span.end - span.start <= tile
        assert span.start == 0 or span.first - span.start == overlap // 2
        assert span.end == length or span.end - span.last == overlap - overlap // 2
        assert np.array_equal(np.arange(length)[span.shown][span.inside()], range(*span[2:]))
        kept += range(length)[span.kept]
    assert kept == list(range(length))


H, W = 7, 6
PIXELS = arrays(np.float32, (3, H, W), elements=st.floats(0, 1, width=32))
MASKS = arrays(np.bool_, (1, H, W))
IMAGES = st.lists(st.tuples(PIXELS, PIXELS, PIXELS, MASKS, MASKS), min_size=1, max_size=4)


def made(images):
    """A prediction and a batch of tuples of restored, clean, marked, mask and predicted mask."""
    restored, clean, marked, mask, found = (
        torch.from_numpy(np.stack(part)).float() for part in zip(*images, strict=True)
    )
    batch = {"clean": clean, "marked": marked, "mask": mask}
    return Restoration(restored, 8 * found - 4), batch


def definitions(restored, clean, marked, mask, found):
    """The figures of a picture but SSIM, in float64 as papers write them."""
    mask, found = mask[0], found[0]

    def figures(image):
        error = (image.astype(np.float64) - clean.astype(np.float64)) ** 2
        inside = error[:, mask]
        floor = 10 ** (-PSNR_CEILING / 10)
        return {
            "psnr": -10 * math.log10(max(error.mean(), floor)),
            "rmse": 255 * math.sqrt(error.mean()),
            "rmsew": 255 * math.sqrt(inside.mean()) if mask.any() else math.nan,
            "psnr_mask": -10 * math.log10(max(inside.mean(), floor)) if mask.any() else math.nan,
        }

    hit, missed, false = (mask & found).sum(), (mask & ~found).sum(), (~mask & found).sum()
    wanted = figures(restored) | {f"{k}_input": v for k, v in figures(marked).items()}
    wanted["psnr_gain"] = wanted["psnr"] - wanted["psnr_input"]
    some = bool(mask.any())
    wanted["mask_f1"] = 2 * hit / (2 * hit + missed + false) if some else math.nan
    wanted["mask_iou"] = hit / (hit + missed + false) if some else math.nan
    return wanted


BOUNDS = {
    "psnr": (0, PSNR_CEILING),
    "psnr_mask": (0, PSNR_CEILING),
    "ssim": (-1, 1),
    "rmse": (0, 255),
    "rmsew": (0, 255),
    "psnr_gain": (-PSNR_CEILING, PSNR_CEILING),
    "mask_f1": (0, 1),
    "mask_iou": (0, 1),
}


@given(IMAGES)
@settings(max_examples=100, deadline=None)
def test_figures_are_what_papers_define_and_within_bounds(images):
    figures = per_image(*made(images))
    for number, image in enumerate(images):
        for name, value in definitions(*image).items():
            # float32 squares an error of 1e-4 to within 1e-12
            near = pytest.approx(value, abs=2e-3, rel=1e-4, nan_ok=True)
            assert figures[name][number].item() == near, name
    for name, values in figures.items():
        low, high = BOUNDS[name.removesuffix("_input")]
        seen = values[~values.isnan()]
        assert ((seen >= low - 1e-4) & (seen <= high + 1e-4)).all(), name
        assert len(seen) == len(values) or name in ON_MARK


def means(*batches):
    metrics = RemovalMetrics()
    for batch in batches:
        metrics.update(*made(batch))
    return {name: value.item() for name, value in metrics.compute().items()}


@given(st.data(), IMAGES)
@settings(max_examples=50, deadline=None)
def test_neither_batches_nor_order_change_a_mean(data, images):
    whole, at = means(images), data.draw(st.integers(0, len(images)))
    shuffled = data.draw(st.permutations(images))
    parts = [part for part in (shuffled[:at], shuffled[at:]) if part]
    assert means(*parts) == pytest.approx(whole, rel=1e-5, abs=1e-4)


@pytest.fixture(scope="module")
def whole():
    """The config of a run, every group chosen."""
    return tiny.config("folder=run", "logger=csv")


def leaves(node, path=""):
    """The keys of all values."""
    if OmegaConf.is_dict(node):
        inner = [(str(key), node._get_node(key)) for key in node]
    elif OmegaConf.is_list(node):
        inner = [(str(key), node._get_node(key)) for key in range(len(node))]
    else:
        return [path]
    return [key for name, child in inner for key in leaves(child, f"{path}.{name}".strip("."))]


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 40),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=6).filter(lambda text: "${" not in text),
    st.sampled_from(["", "auto", "1", "-1", "0.5", "null", "cpu", "torch.nn.ReLU", "val/psnr"]),
    st.lists(st.integers(-2, 9) | st.floats() | st.text(max_size=2), max_size=3),
    st.dictionaries(st.sampled_from(["_target_", "a"]), st.integers(0, 9), max_size=2),
)


@given(st.data())
@settings(max_examples=80, deadline=None, phases=[Phase.generate])  # each builds a trainer
def test_any_value_for_any_key_is_taken_or_refused_in_one_line(whole, data):
    keys = [key for key in leaves(whole) if not key.startswith("hydra")]
    cfg = whole.copy()
    given = data.draw(st.dictionaries(st.sampled_from(keys), VALUES, min_size=1, max_size=3))
    for key, value in given.items():
        OmegaConf.update(cfg, key, value, merge=False)
    try:
        config.check(cfg)
    except Exception as error:
        line = cli._line(error)  # None of an error that is the program's own
        refused = f"{given} gave {error!r}"
    else:
        line = refused = "taken"
    assert line is not None, refused
    assert len(line.splitlines()) == 1, refused
