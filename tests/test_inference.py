"""Pictures of any size, whole or in tiles."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from clearmark.inference import _tiles, restore
from clearmark.models.base import Restoration
from clearmark.runs import load_network


class Blur(nn.Module):
    """A network that looks no further than the next pixel, and counts what it is shown."""

    def __init__(self, strength, mask=True):
        super().__init__()
        self.strength, self.mask, self.seen = nn.Parameter(torch.tensor(strength)), mask, []

    def forward(self, marked):
        self.seen.append(tuple(marked.shape[2:]))
        near = F.avg_pool2d(marked, 3, 1, 1, count_include_pad=False)
        logits = 4 * (marked[:, :1] - 0.5) if self.mask else None
        return Restoration(marked + self.strength * (near - marked), logits)


def picture(height, width):
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("size", [(300, 300), (129, 700), (128, 129), (1000, 70), (257, 450)])
def test_tiles_give_what_the_whole_gives(size):
    network, image = Blur(0.7), picture(*size)
    whole, mask = restore(network, image)
    tiled, tiled_mask = restore(network, image, whole=0, tile=128, overlap=32)
    assert network.seen[0] == size
    assert len(network.seen) > 2
    assert max(max(shape) for shape in network.seen[1:]) <= 128
    assert np.abs(whole.astype(int) - tiled).max() <= 1
    np.testing.assert_allclose(mask, tiled_mask, atol=1e-5)


@pytest.mark.parametrize("whole", [10**6, 0])
def test_what_is_left_alone_comes_back_bit_for_bit(whole):
    every = np.arange(256, dtype=np.uint8).repeat(3 * 220).reshape(256, 220, 3)
    assert np.array_equal(restore(Blur(0.0), every, whole, 128, 64)[0], every)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (7, 3), (33, 65)])
def test_small_and_odd_sizes(run_folder, size):
    network, _ = load_network(run_folder)
    restored, mask = restore(network, picture(*size))
    assert restored.shape == (*size, 3)
    assert restored.dtype == np.uint8
    assert mask.shape == size
    assert 0 <= mask.min() <= mask.max() <= 1


def test_without_a_mask():
    network = Blur(0.5, mask=False)
    for whole in (10**6, 0):
        assert restore(network, picture(150, 90), whole, 64, 16)[1] is None


def test_values_beyond_the_range_are_cut():
    restored, _ = restore(Blur(-9.0), picture(40, 40))
    assert {0, 255} <= set(restored.flatten().tolist())


@pytest.mark.parametrize("length", [1, 63, 128, 129, 160, 1000, 4097])
def test_the_weights_of_tiles_sum_to_one(length):
    total = torch.zeros(length)
    for start, end, weights in _tiles(length, 128, 64):
        assert end - start <= 128
        total[start:end] += weights
    torch.testing.assert_close(total, torch.ones(length))
