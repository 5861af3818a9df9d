"""Muon: its steps against a singular value decomposition, Adam's, and its own after a restart."""

import copy

import pytest
import torch
from torch import nn

from clearmark.muon import Muon, orthogonal


def network():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 3, 1)
    return nn.Sequential(*layers)


def trained(net, optimizer, steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x = torch.rand(2, 3, 12, 12, generator=generator)
        optimizer.zero_grad()
        (net(x) - x[..., 1:-1, 1:-1]).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("shape", [(16, 144), (144, 16), (32, 32)])
def test_orthogonal_keeps_the_directions_and_evens_their_weights(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    made = orthogonal(matrix)
    values = (u.T @ made @ v.T).diagonal()
    torch.testing.assert_close(made, u @ values.diag() @ v, atol=1e-4, rtol=0)
    assert 0.6 < values.min() <= values.max() < 1.3
    torch.testing.assert_close(orthogonal(1000 * matrix), made, atol=1e-4, rtol=0)


def test_a_step_of_a_kernel_is_orthogonal_and_as_large_as_one_of_adam():
    net = network()
    before = net[0].weight.detach().clone()
    trained(net, Muon(net.parameters(), lr=0.01), 1)
    step = (before - net[0].weight.detach()).flatten(1) / 0.01
    torch.testing.assert_close(step.square().mean().sqrt().item(), 0.2, atol=0.04, rtol=0)
    values = torch.linalg.svdvals(step) / (0.2 * 27**0.5)
    assert 0.6 < values.min() <= values.max() < 1.3


def test_all_else_takes_adams_steps():
    nets = [network(), network()]
    trained(nets[0], Muon(nets[0].parameters(), lr=0.01), 1)
    trained(nets[1], torch.optim.Adam(nets[1].parameters(), lr=0.01, betas=(0.9, 0.99)), 1)
    for one, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(one, other) == (one.ndim != 4 or one.shape[2] == 1)


def test_gradients_are_left_where_they_were():
    net = network()
    trained(net, Muon(net.parameters()), 1)
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_it_goes_on_from_its_state():
    net = network()
    optimizer = Muon(net.parameters())
    trained(net, optimizer, 3)
    other = copy.deepcopy(net)
    again = Muon(other.parameters())
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    trained(net, optimizer, 2, seed=1)
    trained(other, again, 2, seed=1)
    assert all(map(torch.equal, net.parameters(), other.parameters()))


def test_it_descends():
    net = network()
    x = torch.rand(4, 3, 12, 12)
    error = lambda: (net(x) - x[..., 1:-1, 1:-1]).square().mean().item()  # noqa: E731
    before = error()
    trained(net, Muon(net.parameters()), 60)
    assert error() < 0.2 * before
