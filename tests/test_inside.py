"""What is said of a network's inside is true of it."""

import math
import sys

import numpy as np
import pytest
import tiny
import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch.utilities import grad_norm
from omegaconf import OmegaConf
from PIL import Image
from torch import nn
from torch.nn import functional as F

from clearmark import formation, load
from clearmark.config import build_network, create, register_resolvers
from clearmark.errors import UserError
from clearmark.inside import (
    activations,
    background,
    decision,
    deletion,
    first_filters,
    fitted_mark,
    gradients,
    integrated_gradients,
    mosaic,
    occlusion,
    opacity_and_colour,
    question,
    receptive_field,
    window,
)
from clearmark.loggers import MetricsFile
from clearmark.removal import Removal

SIDE = 96


@pytest.fixture(scope="module")
def flagship():
    return load().network


@pytest.fixture(scope="module")
def sample():
    """A marked test photo, cut to where its mark is."""
    register_resolvers()
    with initialize_config_dir(str(tiny.ROOT / "conf"), version_base="1.3"):
        cfg = compose("explain", [])
    whole = create(cfg.data).dataset("test")[(0, 2)]
    seen = window(whole["opacity"].astype(float), SIDE)
    return {key: seen.of(values) for key, values in whole.items()}


@pytest.fixture(scope="module")
def marked(sample):
    return tensor(sample["marked"])


def tensor(pixels):
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def network_of(model):
    torch.manual_seed(0)
    cfg = tiny.config(*tiny.overrides(".", model))
    network = build_network(OmegaConf.to_container(cfg.model, resolve=True)).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return network


def stack(*sides, dilation=1):
    """Plain convolutions of equal weights: each pixel owes what a sum of dice owes to its faces."""
    layers = [nn.Conv2d(3, 3, k, padding="same", groups=3, dilation=dilation) for k in sides]
    for layer in layers:
        nn.init.constant_(layer.weight, 1 / layer.kernel_size[0] ** 2)
    return nn.Sequential(*layers)


@pytest.mark.parametrize(("sides", "dilation"), [((3,), 1), ((3, 3, 3, 3), 1), ((5, 3), 2)])
def test_field_of_plain_convolutions_in_closed_form(sides, dilation):
    field = receptive_field(stack(*sides, dilation=dilation), torch.rand(1, 3, 40, 40))
    line = np.ones(1)
    for side in sides:
        kernel = np.zeros(dilation * (side - 1) + 1)
        kernel[::dilation] = 1 / side
        line = np.convolve(line, kernel)
    assert field.reach == len(line) == 1 + dilation * sum(side - 1 for side in sides)
    np.testing.assert_allclose(field.gradient, np.outer(line, line), atol=1e-7)
    held = [line[len(line) // 2 - r : len(line) // 2 + r + 1].sum() ** 2 for r in range(len(line))]
    assert field.size == 2 * next(r for r, share in enumerate(held) if share >= 0.95 - 1e-9) + 1


def test_field_of_nothing_is_a_pixel():
    assert receptive_field(nn.Identity(), torch.rand(1, 3, 33, 40))[1:] == (1, 1)


def test_a_pixel_of_conv_fc_owes_nothing_to_other_patches():
    network = network_of("conv_fc")  # patches of 8, two pixels shared
    middle = [(20, 20)]
    field = receptive_field(decision(network), torch.rand(1, 3, 40, 40), middle)
    assert field.reach <= 2 * 8 - 1


def test_field_of_a_real_network_ends_where_pixels_stop_to_matter(flagship, marked):
    decide, middle = decision(flagship), SIDE // 2
    field = receptive_field(decide, marked, [(middle, middle)])
    away = (torch.arange(SIDE) - middle).abs()
    inside = torch.maximum(away[:, None], away[None]) <= field.size // 2
    assert 0.2 < inside.float().mean() < 0.98
    noise = torch.randn(16, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))

    def moved(where):
        with torch.no_grad():
            answers = decide(torch.cat([marked, marked + 1e-4 * noise * where]))
        return (answers[1:] - answers[:1])[..., middle, middle].square().mean().sqrt()

    assert moved(~inside) < 0.3 * moved(inside)


@pytest.mark.parametrize("model", ["unet", "unblend", "resnet", "conv_fc"])
def test_first_filters_give_what_the_first_layer_gives(model):
    network = network_of(model)
    filters = first_filters(network)
    conv = next(layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
    scale = math.isqrt(conv.in_channels // 3)
    picture = torch.rand(1, 3, 32, 32)
    rim = conv.padding[0] * scale
    over_pixels = F.conv2d(picture, filters, stride=scale, padding=rim)
    weight = conv.weight[:, : 3 * scale**2]  # unblend is shown more than pixels
    with torch.no_grad():
        over_cells = F.conv2d(F.pixel_unshuffle(picture, scale), weight, padding=1)
    torch.testing.assert_close(over_pixels, over_cells)


def test_a_network_that_never_sees_pixels_has_no_first_filters():
    with pytest.raises(UserError, match="no first filters"):
        first_filters(nn.Sequential(nn.Conv2d(5, 3, 3)))


@pytest.mark.parametrize("model", ["unet", "unblend", "resnet", "conv_fc"])
def test_activations_are_those_of_the_layers(model):
    network, picture = network_of(model), torch.rand(1, 3, 32, 32)
    found = activations(network, picture)
    assert found
    modules, kept = dict(network.named_modules()), {}
    for stage in found:
        modules[stage.name].register_forward_hook(
            lambda _, __, output, name=stage.name: kept.update({name: output})
        )
    with torch.no_grad():
        network(picture)
    for stage in found:
        maps = kept[stage.name]
        assert stage.maps.shape[0] == maps.shape[1]
        if len(maps) == 1:
            assert torch.equal(stage.maps, maps[0])
        else:  # the second patch lies to the right of the first
            side = maps.shape[-1]
            assert torch.equal(stage.maps[:, :side, side : 2 * side], maps[1])


def test_mosaic_lays_out_row_by_row():
    maps = torch.arange(5.0)[:, None, None] + torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    picture = mosaic(maps, 3)
    assert picture.shape == (2 * 3 + 1, 3 * 3 + 1)
    assert np.isnan(picture[0]).all()
    np.testing.assert_array_equal(picture[1:3, 1:3], [[0, 1], [0, 1]])
    assert np.isnan(picture[4:, 7:]).all()  # the sixth place is empty
    coloured = mosaic(torch.rand(4, 3, 5, 5), 2)
    assert coloured.shape == (13, 13, 3)
    assert (coloured[0] == 1).all()


def test_gain_and_offset_of_a_mark_give_its_opacity_and_colour():
    g = torch.Generator().manual_seed(0)
    clean, colour = (torch.rand(2, 3, 8, 8, generator=g, dtype=torch.double) for _ in range(2))
    opacity = 0.9 * torch.rand(2, 1, 8, 8, generator=g, dtype=torch.double) + 0.01
    gain = 1 / (1 - opacity)  # J = gain I + offset
    offset = -opacity * colour / (1 - opacity)
    maps = torch.cat([gain - 1, offset + (gain - 1) / 2], 1)
    found = opacity_and_colour(maps)
    torch.testing.assert_close(found[0], opacity)
    torch.testing.assert_close(found[1], colour)
    marked = formation.blend(clean, *found)
    torch.testing.assert_close(gain * marked + offset, clean)


def test_a_gain_that_no_mark_has_has_no_opacity():
    opacity, colour = opacity_and_colour(torch.full((1, 4, 2, 2), -0.3))
    assert not opacity.any()
    assert colour.isfinite().all()


def test_networks_hand_on_the_maps_of_their_correction():
    network, picture = network_of("unet"), torch.rand(1, 3, 31, 30)
    restored = network(picture)
    assert restored.maps.shape == (1, 4, 31, 30)
    gain, offset = restored.maps[:, :1], restored.maps[:, 1:]
    torch.testing.assert_close(restored.filled, picture + gain * (picture - 0.5) + offset)


@pytest.mark.parametrize("colour", [(1.0, 1.0, 1.0), (0.62, 0.35, 0.87), (0.0, 0.1, 0.0)])
def test_the_mark_of_a_perfect_network_is_the_true_one(sample, colour):
    clean = sample["clean"] / 255
    opacity = sample["opacity"] / 255
    marked = formation.blend(clean, opacity[..., None], np.array(colour))
    found, shade = fitted_mark(marked, clean, opacity > 0)
    np.testing.assert_allclose(shade, colour, atol=0.017)  # half a step of the finer grid
    np.testing.assert_allclose(found, opacity, atol=0.03)


def test_where_nothing_was_taken_off_there_is_no_mark():
    picture = np.random.default_rng(0).random((8, 8, 3))
    assert not fitted_mark(picture, picture, np.zeros((8, 8), bool))[0].any()
    assert not fitted_mark(picture, picture, np.ones((8, 8), bool))[0].any()


@pytest.mark.parametrize("of", ["pixel", "mask"])
def test_integrated_gradients_are_complete(flagship, marked, of):
    pytest.importorskip("captum")
    asked, away = question(flagship, marked, of), background(marked)
    values = integrated_gradients(asked.answer, marked, away)
    with torch.no_grad():
        whole = float(asked.answer(marked) - asked.answer(away))
    assert abs(whole) > 0.1
    assert float(values.sum()) == pytest.approx(whole, rel=0.1)


@pytest.mark.parametrize("of", ["pixel", "mask"])
@pytest.mark.parametrize("method", [integrated_gradients, occlusion])
def test_attributions_name_the_pixels_that_matter(flagship, marked, of, method):
    pytest.importorskip("captum")
    asked, away = question(flagship, marked, of), background(marked)
    values = method(asked.answer, marked, away, 12)
    found = deletion(asked.answer, marked, away, values, (0.02, 0.05, 0.1))
    assert (found.named > 2 * found.random).all()
    assert (found.named > 20 * found.least).all()


def test_occlusion_of_a_sum_is_what_it_hides():
    pytest.importorskip("captum")
    weights = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    picture = torch.rand(1, 3, 16, 16)
    away = torch.zeros_like(picture)
    values = occlusion(lambda x: (x * weights).flatten(1).sum(1), picture, away, 8)
    expected = F.avg_pool2d((picture * weights).sum(1, keepdim=True), 8) * 64
    torch.testing.assert_close(values[::8, ::8], expected[0, 0])


def test_deletion_deletes_what_it_says():
    picture, away = torch.ones(1, 3, 10, 10), torch.zeros(1, 3, 10, 10)
    values = torch.arange(100.0).view(10, 10)
    found = deletion(
        lambda x: (x[:, 0] * values).flatten(1).sum(1), picture, away, -values, (0.1, 1)
    )
    assert found.named[0] == sum(range(90, 100))
    assert found.least[0] == sum(range(10))
    assert found.least[0] < found.random[0] < found.named[0]
    assert found.named[1] == found.random[1] == found.least[1] == found.all == sum(range(100))


def test_the_question_is_about_what_was_asked(flagship, marked):
    with torch.no_grad():
        restored = flagship(marked)
    change = (restored.image - marked).mean(1)[0]
    asked = question(flagship, marked, "pixel", (40, 30))
    assert float(asked.answer(marked).detach()) == pytest.approx(
        abs(float(change[40, 30])), abs=1e-6
    )
    row, column = question(flagship, marked).pixel
    assert change[row, column].abs() > 0.5 * change.abs().max()
    with pytest.raises(UserError, match="of=pixel"):
        question(flagship, marked, "pixels")


def test_the_mask_of_a_network_without_one_cannot_be_asked_about():
    cfg = tiny.config(*tiny.overrides(".", "resnet"), "model.mask=false", "loss=mse")
    network = build_network(OmegaConf.to_container(cfg.model, resolve=True)).eval()
    with pytest.raises(UserError, match="predicts no mask; use of=pixel"):
        question(network, torch.rand(1, 3, 32, 32), "mask")


def test_the_window_holds_what_is_changed():
    changed = np.zeros((300, 500))
    changed[210:230, 400:420] = 1
    seen = window(changed, 64)
    assert seen.of(changed).shape == (64, 64)
    assert seen.of(changed).sum() == changed.sum()
    row, column = 5, 490
    corner = window(changed, 64, (row, column))
    assert 0 <= row - corner.top < 64
    assert 0 <= column - corner.left < 64
    assert window(np.zeros((40, 90)), 64).side == 40
    with pytest.raises(UserError, match="20x300 pixels, too few"):
        window(np.zeros((300, 20)), 64)
    with pytest.raises(UserError, match=r"pixel=\[500,5\] lies outside"):
        window(changed, 64, (5, 500))


def test_gradient_norms_are_those_of_the_numbers():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 1))
    network[3].requires_grad_(False)
    network(torch.rand(2, 3, 9, 9)).square().mean().backward()
    found = gradients.norms(network)
    assert found.keys() == {"0", "1"}
    for name, norm in found.items():
        layer = network.get_submodule(name)
        every = torch.cat([layer.weight.grad.flatten(), layer.bias.grad.flatten()]).double()
        assert norm == pytest.approx(float(every.square().sum().sqrt()), rel=1e-5)


def test_training_logs_them_and_leaves_a_picture(tmp_path, monkeypatch):
    """Those of Lightning's own count, taken where the trainer clips."""
    seen = []

    def clip(module, optimizer, **how):
        seen.append(grad_norm(module.network, 2))

    monkeypatch.setattr(Removal, "configure_gradient_clipping", clip)
    run = tmp_path / "run"
    given = [
        *tiny.overrides(tiny.photos(tmp_path / "photos"), "resnet"),
        *("callbacks=gradients", "trainer.max_epochs=2", f"folder={run}"),
    ]
    tiny.entry_point("train").train(tiny.config(*given))
    table = gradients.history(run / "metrics.csv")
    assert len(table) == len(seen) == 4
    for (_, row), norms in zip(table.iterrows(), seen, strict=True):
        assert row["stem"] == pytest.approx(
            math.hypot(norms["grad_2.0_norm/stem.weight"], norms["grad_2.0_norm/stem.bias"]),
            rel=1e-3,
        )
        assert math.hypot(*row) == pytest.approx(float(norms["grad_2.0_norm_total"]), rel=1e-3)
    with Image.open(run / gradients.PICTURE) as picture:
        assert np.asarray(picture.convert("RGB")).std() > 10


def test_history_knows_its_columns(tmp_path):
    log = MetricsFile(str(tmp_path))
    log.log_metrics({"gradient/a.b": 2.0, "train/loss": 1.0}, step=4)
    log.log_metrics({"val/psnr": 30.0}, step=4)
    log.log_metrics({"gradient/a.b": 3.0}, step=9)
    log.save()
    table = gradients.history(log.file)
    assert table["a.b"].to_dict() == {4: 2.0, 9: 3.0}
    assert list(table) == ["a.b"]
    assert gradients.history(tmp_path / "none.csv").empty


@pytest.fixture
def explain(composed):
    register_resolvers()
    program = tiny.entry_point("explain")
    small = ("side=64", "steps=2", "patch=32", "threads=1")
    return lambda *given: program.explain(composed("explain", *small, *given))


def test_the_page_of_a_sample_tells_the_truth(explain, tmp_path, capsys):
    pytest.importorskip("captum")
    page = tmp_path / "page.png"
    found = explain("sample=2", f"output={page}")
    said = capsys.readouterr().out
    assert "Unblend at sample=2" in said
    assert str(page) in said
    assert found.truth.keys() == {"clean", "mask", "opacity", "colour"}
    assert found.figures["PSNR of restored"] > found.figures["PSNR of marked"] + 3
    assert found.figures["error of the opacity"] < 0.15
    with Image.open(page) as picture:
        assert picture.format == "PNG"
        assert picture.width > 1500
    with pytest.raises(UserError, match="overwrite=true"):
        explain("sample=2", f"output={page}")


def test_the_page_of_a_file_knows_no_truth(explain, tmp_path, run_folder, sample):
    pytest.importorskip("captum")
    photo = tmp_path / "photo.png"
    Image.fromarray(np.pad(sample["marked"], ((0, 0), (0, 40), (0, 0)), "edge")).save(photo)
    found = explain(f"input='{photo}'", f"ckpt='{run_folder}'", "of=mask", "pixel=[101,50]")
    assert (tmp_path / "photo_inside.png").is_file()
    assert not found.truth
    assert not found.figures
    assert found.marked.shape == (64, 64, 3)
    expected = np.asarray(Image.open(photo))[16:80, 72:] / 255  # the last window that fits
    np.testing.assert_allclose(found.marked, expected, atol=1e-6)


def test_without_captum_a_line_tells_how_to_get_it(explain, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum", None)
    with pytest.raises(
        UserError, match=r'captum.*pip install -c constraints.txt -e "\.\[explain\]"'
    ):
        explain(f"output={tmp_path / 'page.png'}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["input=none.jpg"], "none.jpg does not exist"),
        (["input=."], "is no picture but a folder"),
        (["input=x.png", "sample=1"], "exclude each other"),
        (["output=x.jpg"], "name it x.png"),
        (["side=512", "patch=2"], "give patch=16 or more"),
        (["pixel=5"], "pixel=\\[column,row\\]"),
        (["pixel=[900,5]"], "lies outside sample=0, which has 256x256"),
        (["of=masks"], "give pixel or mask"),
    ],
)
def test_what_cannot_be_explained_is_told_in_a_line(explain, tmp_path, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        explain(*given)
    assert not list(tmp_path.iterdir())
