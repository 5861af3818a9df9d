"""Kernels as optimizers see them: against SciPy's transform, and against training the waves."""

from functools import partial

import numpy as np
import pytest
import scipy.fft
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW

from clearmark.basis import NAMES, PIXELS, WAVES, cosines, in_pixels, in_waves, seen_as
from clearmark.muon import Muon

SHAPES = [(4, 3, 3, 3), (2, 1, 5, 3), (3, 6, 1, 2)]


@pytest.mark.parametrize(("height", "width"), [(3, 3), (5, 2), (1, 4)])
def test_the_transform_is_scipys(height, width):
    pixels = np.random.default_rng(0).normal(size=(height, width))
    expected = scipy.fft.dctn(pixels, norm="ortho")
    np.testing.assert_allclose(cosines(height, width).numpy() @ pixels.ravel(), expected.ravel())


@pytest.mark.parametrize("shape", SHAPES)
def test_waves_are_an_orthonormal_basis(shape):
    a, b = torch.randn(2, *shape, dtype=torch.float64, generator=torch.manual_seed(0))
    torch.testing.assert_close(in_pixels(in_waves(a)), a)
    torch.testing.assert_close((in_waves(a) * in_waves(b)).sum(), (a * b).sum())


def test_what_is_the_same_everywhere_is_one_number():
    kernel = torch.ones(2, 4, 3, 3, dtype=torch.float64)
    waves = in_waves(kernel)
    assert waves[0, 0, 0, 0] == pytest.approx(6)  # the root of how many numbers a kernel has
    waves[:, 0, 0, 0] = 0
    assert waves.abs().max() < 1e-12


@pytest.mark.parametrize("make", [partial(Adam, lr=0.02), partial(AdamW, weight_decay=0.3)])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("closed", [False, True])
def test_a_step_is_one_on_the_waves_themselves(make, shape, closed):
    torch.manual_seed(0)
    target = torch.randn(shape, dtype=torch.float64)
    kernel = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    waves = in_waves(kernel.detach()).requires_grad_()
    ours, plain = seen_as(WAVES, make)([kernel]), make([waves])

    def loss(pixels):
        return ((pixels - target) ** 4).sum() + (pixels[:, :, :, 1:] * target[:, :, :, :-1]).sum()

    def ours_closed():
        ours.zero_grad()
        value = loss(kernel)
        value.backward()
        return value

    for _ in range(20):
        if closed:
            assert ours.step(ours_closed) > -1e9
        else:
            ours_closed()
            ours.step()
        plain.zero_grad()
        loss(in_pixels(waves)).backward()
        plain.step()
    torch.testing.assert_close(kernel.detach(), in_pixels(waves.detach()))


@pytest.mark.parametrize("basis", NAMES)
def test_steps_of_gradient_descent_and_muon_are_the_same_to_the_bit(basis):
    results = []
    for name in (basis, PIXELS):
        torch.manual_seed(0)
        layer = nn.Conv2d(3, 4, 3)
        for make in (partial(SGD, lr=0.1, momentum=0.9), Muon):
            optimizer = seen_as(name, make)(layer.parameters())
            for _ in range(3):
                optimizer.zero_grad()
                layer(torch.ones(1, 3, 5, 5)).square().sum().backward()
                optimizer.step()
        results.append(layer.weight.detach().clone())
    assert torch.equal(*results)


def test_other_weights_are_left_to_the_optimizer():
    results = []
    for name in NAMES:
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
        optimizer = seen_as(name, Adam)(layers.parameters())
        layers(torch.rand(2, 3, 1, 1)).square().sum().backward()
        optimizer.step()
        results.append([weight.detach().clone() for weight in layers.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
