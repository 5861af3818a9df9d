"""One tester for all networks: whatever is in conf/model keeps the contract of models/base.py."""

import copy
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from clearmark.errors import UserError
from clearmark.formation import blend
from clearmark.models import ConvFC, ResNet, Restoration, Unblend, UNet
from clearmark.models.base import corrected
from clearmark.models.unblend import FLOOR

CONF = Path(__file__).parents[1] / "conf"
MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
ACTIVATIONS = sorted(path.stem for path in (CONF / "activation").glob("*.yaml"))
NARROW = {
    "conv_fc": {"widths": [4, 8], "hidden": 32, "patch": 8, "overlap": 2},
    "resnet": {"width": 8, "dilations": [1, 2]},
    "unet": {"widths": [8, 8, 16]},
    "unblend": {"widths": [8, 8, 16], "finest": 1},
}
every_model = pytest.mark.parametrize("model", MODELS)
OPTIONAL = [m for m in MODELS if "mask" in OmegaConf.load(CONF / "model" / f"{m}.yaml")]
with_and_without_mask = pytest.mark.parametrize(
    ("model", "choice"),
    [(m, {}) for m in MODELS] + [(m, {"mask": False}) for m in OPTIONAL],
)


def build(model, activation="relu", **more):
    torch.manual_seed(0)
    cfg = OmegaConf.load(CONF / "model" / f"{model}.yaml")
    cfg.activation = OmegaConf.load(CONF / "activation" / f"{activation}.yaml")
    return instantiate(OmegaConf.merge(cfg, NARROW.get(model, {}), more), _convert_="all")


def stirred(network):
    """The network, off its start as the identity."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return network


def picture(height=32, width=32, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, height, width, generator=generator)


def loss_of(restored, clean, mask):
    loss = (restored.image - clean).square().mean()
    if restored.mask_logits is not None:
        loss = loss + nn.functional.binary_cross_entropy_with_logits(restored.mask_logits, mask)
    return loss


@every_model
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (33, 70), (64, 64)])
@pytest.mark.parametrize("training", [False, True])
def test_any_size_comes_back_as_it_was(model, size, training):
    network = stirred(build(model)).train(training)
    restored = network(picture(*size))
    assert isinstance(restored, Restoration)
    assert restored.image.shape == (2, 3, *size)
    assert restored.mask_logits.shape == (2, 1, *size)
    assert restored.image.isfinite().all()
    assert 0 <= restored.mask.min() <= restored.mask.max() <= 1


@with_and_without_mask
def test_untrained_it_is_the_identity(model, choice):
    for training in (True, False):
        marked = picture(17, 40)
        assert torch.equal(build(model, **choice).train(training)(marked).image, marked)


@every_model
def test_it_does_not_change_its_input(model):
    marked = picture()
    kept = marked.clone()
    stirred(build(model))(marked)
    assert torch.equal(marked, kept)


@pytest.mark.parametrize("model", OPTIONAL)
def test_without_a_mask_there_is_none(model):
    network = stirred(build(model, mask=False))
    restored = network(picture())
    assert restored.mask_logits is None
    assert restored.mask is None
    assert not any("mask" in name for name in network.state_dict())


@with_and_without_mask
def test_gradients_reach_every_parameter(model, choice):
    network = stirred(build(model, activation="gelu", **choice))
    marked, clean = picture(), picture(seed=1)
    loss_of(network(marked), clean, (clean[:, :1] > 0.5).float()).backward()
    without = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert not without
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@every_model
def test_a_picture_does_not_depend_on_its_neighbours_in_the_batch(model):
    network = stirred(build(model)).eval()
    both = network(picture())
    alone = network(picture()[1:])
    torch.testing.assert_close(both.image[1:], alone.image)
    torch.testing.assert_close(both.mask_logits[1:], alone.mask_logits)


@every_model
def test_one_batch_can_be_learnt(model):
    network = build(model)
    clean = nn.functional.interpolate(picture(4, 4), size=(32, 32), mode="bilinear")
    mask = torch.zeros(2, 1, 32, 32)
    mask[:, :, 8:24, 8:24] = 1
    marked = clean * (1 - 0.6 * mask) + 0.6 * mask
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    losses = []
    for _ in range(120):
        optimizer.zero_grad()
        loss = loss_of(network(marked), clean, mask)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    restored = network(marked)
    assert (restored.image - clean).square().mean() < 0.5 * (marked - clean).square().mean()
    assert ((restored.mask > 0.5) == mask.bool()).float().mean() > 0.9


@every_model
def test_weights_go_round(model):
    network = stirred(build(model))
    network(picture())  # the running statistics are state, too
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    other = build(model)
    other.load_state_dict(torch.load(file, weights_only=True))
    one, two = network.eval()(picture()), other.eval()(picture())
    assert torch.equal(one.image, two.image)
    assert torch.equal(one.mask_logits, two.mask_logits)


@every_model
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_works(model, activation):
    network = stirred(build(model, activation))
    restored = network(picture(20, 12))
    loss_of(restored, picture(20, 12), torch.ones(2, 1, 20, 12)).backward()
    assert restored.image.isfinite().all()
    kind = type(instantiate(OmegaConf.load(CONF / f"activation/{activation}.yaml"))())
    made = [layer for layer in network.modules() if type(layer) is kind]
    assert len(made) >= 2
    assert len(set(map(id, made))) == len(made)


@every_model
def test_double_precision_and_copies(model):
    network = stirred(build(model)).eval()
    single = network(picture(20, 20)).image
    twin = copy.deepcopy(network).double()
    double = twin(picture(20, 20).double()).image
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, atol=1e-4, rtol=1e-3)


@every_model
def test_channels_last_changes_nothing(model):
    network = stirred(build(model)).eval()
    plain = network(picture()).image
    network = network.to(memory_format=torch.channels_last)
    found = network(picture().to(memory_format=torch.channels_last)).image
    torch.testing.assert_close(found, plain, atol=1e-5, rtol=1e-4)


@every_model
def test_the_default_is_small_enough_to_train_on_a_cpu(model):
    cfg = OmegaConf.load(CONF / "model" / f"{model}.yaml")
    cfg.activation = OmegaConf.load(CONF / "activation/relu.yaml")
    network = instantiate(cfg, _convert_="all").eval()
    assert 1e4 < sum(parameter.numel() for parameter in network.parameters()) < 5e6
    with torch.no_grad():
        assert torch.equal(network(picture(batch=1)).image, picture(batch=1))


@pytest.mark.parametrize(
    ("model", "backend"),
    [(model, "aot_eager") for model in MODELS]
    + [pytest.param("unet", "inductor", marks=pytest.mark.slow)],
)
def test_compiling_in_place_keeps_names_and_values(model, backend):
    network = stirred(build(model)).eval()
    names = list(network.state_dict())
    with torch.no_grad():
        plain = network(picture())
        network.compile(backend=backend)
        compiled = network(picture())
    assert list(network.state_dict()) == names
    torch.testing.assert_close(compiled.image, plain.image, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(compiled.mask_logits, plain.mask_logits, atol=1e-5, rtol=1e-4)


def test_widths_and_depths_are_those_asked_for():
    assert len(UNet(nn.ReLU, widths=(4, 8)).encoders) == 2
    assert len(ResNet(nn.ReLU, width=4, dilations=(1, 2, 4)).blocks) == 3
    assert ConvFC(nn.ReLU, widths=(4, 4), hidden=8, patch=16).patch == 16


def test_the_correction_is_the_inverse_of_the_formation_model():
    """Gain a / (1 - a) and offset -gain W, where the mask is sure, give the clean picture back."""
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(2, 3, 24, 32, generator=generator)
    mask = torch.zeros(2, 1, 24, 32)
    mask[..., 8:16, 4:28] = 1
    opacity, colour = 0.4 * mask, torch.tensor([0.9, 0.5, 0.1]).view(1, 3, 1, 1)
    marked = blend(clean, opacity, colour)
    gain = opacity / (1 - opacity)
    # The network sees the picture around 1/2, so the offset is that of the colour around 1/2.
    maps = torch.cat([gain, -gain * (colour - 0.5)], 1)
    restored = corrected(marked, maps, 100 * (mask - 0.5))
    for picture in (restored.image, restored.filled):
        torch.testing.assert_close(picture, clean, atol=1e-5, rtol=0)


def test_a_picture_without_a_sure_patch_is_left_nearly_alone():
    marked = torch.full((1, 3, 64, 64), 0.5)
    maps, unsure = torch.ones(1, 4, 64, 64), torch.full((1, 1, 64, 64), -3.0)
    alone = corrected(marked, maps, unsure)
    assert (alone.filled - marked).abs().min() > 0.9
    assert (alone.image - marked).abs().max() < 0.001
    # One patch that is surely marked opens the gate, and for the whole picture.
    unsure[..., 8:16, 8:16] = 10
    opened = corrected(marked, maps, unsure)
    torch.testing.assert_close(
        opened.image[..., 8:16, 8:16], opened.filled[..., 8:16, 8:16], atol=1e-3, rtol=0
    )
    assert (opened.image - marked).abs().min() > 100 * (alone.image - marked).abs().max()


def test_patches_that_overlap_too_far_are_refused():
    with pytest.raises(UserError, match=r"model.overlap=5 .* model.patch=8; use 4 or less"):
        ConvFC(nn.ReLU, widths=(4,), hidden=8, patch=8, overlap=5)


def test_pooling_takes_the_strongest_or_the_mean_of_four_features_or_every_second_place():
    picture, found = torch.rand(1, 3, 8, 8), {}
    for pooling in ("max", "average", "stride"):
        torch.manual_seed(0)
        network = ConvFC(nn.Identity, widths=(4,), hidden=8, patch=8, overlap=2, pooling=pooling)
        flatten = next(i for i, layer in enumerate(network.layers) if "Flatten" in str(layer))
        found[pooling] = network.layers[:flatten](picture)
        full = nn.functional.conv2d(picture, *network.layers[0].parameters(), padding=1)
    fours = full.unfold(2, 2, 2).unfold(3, 2, 2)
    torch.testing.assert_close(found["max"], fours.amax((-1, -2)))
    torch.testing.assert_close(found["average"], fours.mean((-1, -2)))
    torch.testing.assert_close(found["stride"], fours[..., 0, 0])
    with pytest.raises(UserError, match=r"model.pooling=median is none of max, average, stride"):
        ConvFC(nn.ReLU, pooling="median")


def test_the_extremes_bound_opacity_and_colour():
    """Of a mark of one opacity and colour; NumPy finds the same ones, window by window."""
    network = Unblend(nn.ReLU, widths=(4, 8), scale=2, extremes=(1, 3))
    opacity, colour = 0.7, torch.tensor([0.9, 0.5, 0.2])
    marked = blend(picture(12, 8, batch=1), opacity, colour.view(3, 1, 1))
    shown = network.shown(marked)
    assert torch.equal(shown[:, :12], nn.functional.pixel_unshuffle(marked - 0.5, 2))
    pixels = (marked - 0.5)[0].numpy()
    for at, side in ((12, 1), (18, 3)):
        brightest, darkest = shown[0, at : at + 3].numpy(), -shown[0, at + 3 : at + 6].numpy()
        for row, column in np.ndindex(6, 4):
            top, left = (max(0, 2 * (place - side // 2)) for place in (row, column))
            bottom, right = (2 * (place + side // 2 + 1) for place in (row, column))
            window = pixels[:, top:bottom, left:right]
            np.testing.assert_array_equal(brightest[:, row, column], window.max((1, 2)))
            np.testing.assert_array_equal(darkest[:, row, column], window.min((1, 2)))
        least = opacity * colour.numpy()[:, None, None]
        assert (darkest + 0.5 >= least - 1e-6).all()
        assert (brightest + 0.5 <= least + 1 - opacity + 1e-6).all()


@pytest.mark.parametrize("extremes", [[1, 4], ["a"], [-1], 3, None])
def test_windows_without_a_middle_are_refused(extremes):
    with pytest.raises(UserError, match="is no list of odd sides") as caught:
        Unblend(nn.ReLU, widths=(4, 8), extremes=extremes)
    assert f"model.extremes={extremes} " in str(caught.value)


def test_unblend_passes_through_what_it_finds_unmarked():
    network = build("unblend")
    with torch.no_grad():
        network.fill.bias += 0.3  # corrects everywhere
        network.mask.weight.zero_()
        network.mask.bias += torch.tensor(FLOOR).logit() - 1e-3
    marked = picture(40, 48)
    restored = network.eval()(marked)
    assert torch.equal(restored.image, marked)
    assert not torch.equal(restored.filled, marked)
    with torch.no_grad():
        network.mask.bias += 0.1
    assert not torch.equal(network(marked).image, marked)


def test_unblend_undoes_the_formation_it_is_told():
    """Of a mark of one opacity and colour, with the mask sure, nothing is left."""
    network = build("unblend").eval()
    clean = picture(40, 48)
    opacity, colour = 0.6, torch.tensor([1.0, 0.8, 0.6])
    gain = opacity / (1 - opacity)
    with torch.no_grad():
        network.unmix.bias.copy_(torch.cat([torch.tensor([gain]), gain * (0.5 - colour)]))
        network.mask.weight.zero_()
        network.mask.bias += 30
    restored = network(blend(clean, opacity, colour.view(3, 1, 1)))
    torch.testing.assert_close(restored.image, clean, atol=1e-5, rtol=0)
