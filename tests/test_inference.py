"""Pictures of any size, whole or in tiles."""

import os
import subprocess
import sys
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from tiny import NARROW, ROOT, config
from torch import nn
from torch.nn import functional as F

from clearmark import load
from clearmark.config import create
from clearmark.inference import restore
from clearmark.models.base import Restoration, gated
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


def noisy(name):
    """A network whose every layer says something, as after training."""
    torch.manual_seed(0)
    network = create(config(f"model={name}", *NARROW[name]).model).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return network


NETWORKS = {
    "conv_fc": partial(noisy, "conv_fc"),
    "resnet": partial(noisy, "resnet"),
    "unet": lambda: load("unet", "cpu").network,
    "unblend": lambda: load("unblend", "cpu").network,
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(610, 500), (150, 801)])
def test_networks_give_in_tiles_what_they_give_of_the_whole(name, size):
    """Night on the left, noon on the right, a mark on the right: no tile looks like the whole."""
    network = NETWORKS[name]()
    coarse = cv2.resize(picture(12, 12), size[::-1], interpolation=cv2.INTER_CUBIC)
    image = np.rint(coarse * np.linspace(0.1, 1, size[1])[:, None]).astype(np.uint8)
    where = (size[1] - 260, 110)
    cv2.putText(image, "MARKED", where, cv2.FONT_HERSHEY_SIMPLEX, 2, (220, 220, 220), 4)
    whole, mask = restore(network, image)
    tiled, tiled_mask = restore(network, image, whole=0, tile=512, overlap=320)
    assert np.abs(whole.astype(int) - image).max() > 10
    assert np.abs(whole.astype(int) - tiled).max() <= 1
    np.testing.assert_allclose(mask, tiled_mask, atol=1e-3)


class Sure(nn.Module):
    """Corrects by half, and sees a mark where a pixel is bright."""

    def __init__(self):
        super().__init__()
        self.share = nn.Parameter(torch.tensor(0.5))

    def forward(self, marked):
        return gated(marked, -self.share * marked, 20 * (marked[:, :1] - 0.6))


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_the_surest_place_counts_wherever_it_lies(turn):
    image = np.full((300, 200, 3), 150, np.uint8)
    image[:, :50] = 40
    image[-20:, -20:] = 250
    image = np.rot90(image, turn)
    whole, _ = restore(Sure(), image)
    shown = []

    def watch(tiles):
        shown.append(len(tiles))
        return tiles

    tiled, _ = restore(Sure(), image, 0, 128, 64, watch=watch)
    assert np.abs(whole.astype(int) - image).max() > 50
    assert np.abs(whole.astype(int) - tiled).max() <= 1
    assert sum(shown) <= 2 * shown[0]


def test_the_mask_is_made_only_if_it_is_wanted():
    for whole in (10**6, 0):
        assert restore(Blur(0.5), picture(150, 90), whole, 64, 16, with_mask=False)[1] is None


PEAK = """
import numpy as np, torch
from torch import nn
from clearmark.inference import restore
from clearmark.models.base import Restoration

class Dark(nn.Module):
    def __init__(self):
        super().__init__()
        self.share = nn.Parameter(torch.tensor(0.5))

    def forward(self, marked):
        return Restoration(marked * self.share, marked[:, :1])

for height, width in [(500, 500), (1000, 1000), (12000, 400), (400, 12000)]:
    restore(Dark(), np.full((height, width, 3), 100, np.uint8), 0, 256, 64, with_mask=False)
    peak = next(line for line in open("/proc/self/status") if "VmHWM" in line)
    print(int(peak.split()[1]) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_grows_by_the_pixels_alone():
    """Three bytes of a pixel come in and three go out; a float copy would be twelve more."""
    there = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", PEAK], env=there, capture_output=True, text=True, check=True
    )
    _, before, tall, wide = map(int, done.stdout.split())
    assert tall - before < 1.3 * 6 * 12000 * 400
    assert wide - before < 1.3 * 6 * 12000 * 400
