"""Structured pruning: what is left of a network is what mattered, and is an ordinary network."""

import sys

import pytest
import tiny
import torch
from omegaconf import OmegaConf

from clearmark import initial, released, runs
from clearmark.config import build_network
from clearmark.errors import UserError
from clearmark.pruning import narrowed, prune


def model(name):
    cfg = tiny.config(f"model={name}", *tiny.NARROW[name])
    return OmegaConf.to_container(cfg.model, resolve=True)


def wide(name):
    return narrowed(model(name), 1) | (
        {"width": 8} if name == "resnet" else {"widths": [2 * w for w in model(name)["widths"]]}
    )


def randomised(config):
    """A network whose every weight says something."""
    torch.manual_seed(0)
    network = build_network(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.3)
    return network


@pytest.mark.parametrize("name", ["resnet", "unet", "unblend"])
def test_channels_that_say_nothing_are_those_left_out(name):
    small, large = randomised(model(name)), build_network(wide(name)).eval()
    with torch.no_grad():
        for key, value in large.state_dict().items():
            own = small.state_dict()[key]
            if value.ndim and not key.endswith("running_var"):
                value.zero_()
            every = [slice(None, None, n // m) for n, m in zip(value.shape, own.shape, strict=True)]
            value[tuple(every)] = own
    picture = torch.rand(1, 3, 40, 48)
    found = prune(large, wide(name), 0.5).eval()
    for one, other in zip(found(picture), small(picture), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", tiny.choices("model"))
def test_every_network_is_pruned_to_its_narrower_config(name):
    config = wide(name)
    found = prune(randomised(config), config, 0.75)
    expected = build_network(narrowed(config, 0.75))
    assert {k: v.shape for k, v in found.state_dict().items()} == {
        k: v.shape for k, v in expected.state_dict().items()
    }
    assert sum(p.numel() for p in found.parameters()) < sum(
        p.numel() for p in build_network(config).parameters()
    )


def test_all_channels_are_the_network_itself():
    network = randomised(model("unet"))
    found = prune(randomised(model("unet")), model("unet"), 1)
    picture = torch.rand(1, 3, 32, 32)
    assert torch.equal(found.eval()(picture).image, network(picture).image)


@pytest.mark.parametrize("keep", [0, -0.5, 1.5])
def test_no_share_is_refused(keep):
    with pytest.raises(UserError, match=rf"keep={keep} is no share of the channels"):
        narrowed(model("unet"), keep)


def test_a_network_without_widths_is_refused():
    with pytest.raises(UserError, match=r"keep=0.5: torch.nn.Identity has no widths"):
        narrowed({"_target_": "torch.nn.Identity"}, 0.5)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(UserError, match=r'pip install -c constraints.txt -e ".\[prune\]"'):
        prune(randomised(model("unet")), model("unet"), 0.5)


def test_a_share_of_nothing_is_refused():
    with pytest.raises(UserError, match=r"keep=0.5 is a share of the channels of init="):
        initial.adopt(tiny.config("keep=0.5"))


def test_training_starts_from_the_pruned_weights_and_goes_on(tmp_path):
    """Steps too small to move a weight: what the run ends with is what pruning left."""
    photos, given = tiny.photos(tmp_path / "photos"), tmp_path / "given"
    released.write(given, randomised(wide("unet")), {"model": wide("unet")}, "# A card\n")
    words = [*tiny.SMALL, f"data.root={photos}", f"init={given}", "keep=0.5", "optimizer=sgd"]
    words += ["optimizer.lr=1e-30", f"folder={tmp_path / 'run'}", "resume=auto"]
    tiny.entry_point("train").train(tiny.config(*words))
    found, config = runs.load_network(str(tmp_path / "run"), "ckpt")
    assert config["model"]["widths"] == model("unet")["widths"]
    expected = prune(runs.load_network(str(given), "init")[0], wide("unet"), 0.5)
    for one, other in zip(found.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-20)
    (tmp_path / "run" / "results.json").unlink()
    tiny.entry_point("train").train(tiny.config(*words))
    assert (tmp_path / "run" / "results.json").is_file()
