"""The formation model against its closed forms and its own inverse."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from clearmark.formation import (
    OPAQUE,
    VISIBLE,
    blend,
    blend_linear,
    invert,
    invert_linear,
    over,
    to_linear,
    to_srgb,
    visible,
)

SIDE = 4
SHAPES = {"picture": (SIDE, SIDE, 3), "map": (SIDE, SIDE, 1)}


def values(shape, high=1.0):
    return arrays(np.float64, SHAPES[shape], elements=st.floats(0, high))


@given(values("picture"), values("map"), values("picture"))
def test_blend_is_the_formation_model(clean, opacity, colour):
    marked = blend(clean, opacity, colour)
    np.testing.assert_allclose(marked, (1 - opacity) * clean + opacity * colour, atol=1e-12)
    assert marked.min() >= 0
    assert marked.max() <= 1


@given(values("picture"), values("map", OPAQUE - 1e-9), values("picture"))
def test_invert_undoes_blend(clean, opacity, colour):
    restored = invert(blend(clean, opacity, colour), opacity, colour)
    np.testing.assert_allclose(restored, clean, atol=1e-12)


@given(values("picture"), st.floats(OPAQUE, 1.0), values("picture"))
def test_invert_is_held_where_nothing_of_the_clean_picture_is_left(clean, opacity, colour):
    opacity = np.full(SHAPES["map"], opacity)
    restored = invert(blend(clean, opacity, colour), opacity, colour)
    shrunk = (1 - opacity) / (1 - OPAQUE)
    np.testing.assert_allclose(restored, colour + shrunk * (clean - colour), atol=1e-9)


@given(values("picture"), values("picture"))
def test_no_opacity_changes_nothing_and_full_opacity_is_the_mark(clean, colour):
    none, full = np.zeros(SHAPES["map"]), np.ones(SHAPES["map"])
    np.testing.assert_array_equal(blend(clean, none, colour), clean)
    np.testing.assert_array_equal(invert(clean, none, colour), clean)
    np.testing.assert_allclose(blend(clean, full, colour), colour, atol=1e-15)


@given(*[values(shape) for shape in ("picture", "map", "picture", "map", "picture")])
def test_over_equals_two_blends(clean, above, upper, below, lower):
    total, colour = over(above, upper, below, lower)
    twice = blend(blend(clean, below, lower), above, upper)
    np.testing.assert_allclose(blend(clean, total, colour), twice, atol=1e-9)
    np.testing.assert_allclose(1 - total, (1 - above) * (1 - below), atol=1e-12)
    assert colour.min() >= -1e-12
    assert colour.max() <= 1 + 1e-12


def test_over_of_two_invisible_marks_keeps_the_upper_colour():
    nothing = np.zeros((1, 1, 1))
    total, colour = over(nothing, np.full((1, 1, 3), 0.7), nothing, np.full((1, 1, 3), 0.1))
    assert total.item() == 0
    np.testing.assert_array_equal(colour, 0.7)


@given(*[values(shape) for shape in ("picture", "map", "picture", "map", "picture")])
def test_numpy_and_torch_agree(clean, above, upper, below, lower):
    tensors = [torch.from_numpy(a) for a in (clean, above, upper, below, lower)]
    np.testing.assert_allclose(blend(*tensors[:3]).numpy(), blend(clean, above, upper), atol=1e-12)
    np.testing.assert_allclose(invert(*tensors[:3]).numpy(), invert(clean, above, upper), atol=1e-9)
    for ours, theirs in zip(over(*tensors[1:]), over(above, upper, below, lower), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-12)
    np.testing.assert_array_equal(visible(tensors[1]).numpy(), visible(above))


def test_batches_broadcast():
    clean, colour = torch.rand(2, 3, 5, 7), torch.rand(2, 3, 5, 7)
    assert blend(clean, torch.rand(2, 1, 5, 7), colour).shape == (2, 3, 5, 7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_mask_begins_above_one_level_of_255(dtype):
    levels = np.arange(256, dtype=dtype) / dtype(255)
    assert VISIBLE == 1 / 255
    np.testing.assert_array_equal(visible(levels), np.arange(256) > 1)
    np.testing.assert_array_equal(visible(torch.from_numpy(levels)).numpy(), np.arange(256) > 1)


@given(values("picture"))
def test_light_and_srgb_undo_each_other(picture):
    light = to_linear(picture)
    np.testing.assert_allclose(to_srgb(light), picture, atol=1e-7)
    np.testing.assert_allclose(to_linear(torch.from_numpy(picture)).numpy(), light, atol=1e-12)
    back = to_srgb(torch.from_numpy(light)).numpy()
    np.testing.assert_allclose(back, to_srgb(light), atol=1e-12)


def test_light_of_known_values():
    srgb = np.array([0, 0.02, 0.5, 188 / 255, 1])
    known = [0, 0.02 / 12.92, 0.21404114, 0.50288646, 1]
    np.testing.assert_allclose(to_linear(srgb), known, atol=1e-7)


@given(values("picture"), values("map", OPAQUE - 1e-9), values("picture"))
def test_a_mark_in_linear_light_comes_off_again(clean, opacity, colour):
    marked = blend_linear(clean, opacity, colour)
    np.testing.assert_allclose(invert_linear(marked, opacity, colour), clean, atol=1e-6)


@given(values("picture"), values("map"), values("picture"))
def test_linear_light_lightens_more_and_agrees_at_the_ends(clean, opacity, colour):
    linear = blend_linear(clean, opacity, colour)
    assert (linear >= blend(clean, opacity, colour) - 1e-7).all()  # to_linear is convex
    none, full = np.zeros(SHAPES["map"]), np.ones(SHAPES["map"])
    np.testing.assert_allclose(blend_linear(clean, none, colour), clean, atol=1e-7)
    np.testing.assert_allclose(blend_linear(clean, full, colour), colour, atol=1e-7)
    np.testing.assert_allclose(blend_linear(clean, opacity, clean), clean, atol=1e-7)
