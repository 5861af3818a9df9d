"""Every alternative of every group instantiates, and its keys are those of what it stands for."""

import inspect
import io
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_class, instantiate
from lightning import Trainer
from omegaconf import OmegaConf
from torch import nn

from clearmark import cli, config
from clearmark.errors import UserError
from clearmark.losses import Loss
from clearmark.models.base import Restoration

CONF = Path(__file__).parents[1] / "conf"


def files(group):
    return [pytest.param(path, id=path.stem) for path in sorted((CONF / group).glob("*.yaml"))]


def targets(node):
    """Every mapping in a config that names a `_target_`, however deep."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        for value in node.values():
            yield from targets(value)


@pytest.fixture
def resolver():
    config.register_resolvers()


def optimizer_of(path):
    """The optimizer's node, which a global package nests one deeper."""
    cfg = OmegaConf.load(path)
    if "fused" in cfg:
        cfg.fused = True  # asks for the trainer's precision
    return cfg.optimizer if "optimizer" in cfg else cfg


def small_network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 1))


@pytest.mark.parametrize(
    "path", [p for group in ("activation", "loss", "optimizer", "scheduler") for p in files(group)]
)
def test_keys_are_parameters_of_the_target(path):
    found = list(targets(OmegaConf.to_container(OmegaConf.load(path))))
    assert found
    for node in found:
        keys = {key for key in node if not key.startswith("_")}
        assert keys <= inspect.signature(get_class(node["_target_"])).parameters.keys()


@pytest.mark.parametrize(
    "path",
    [
        p
        for group in ("activation", "loss", "optimizer", "scheduler", "precision")
        for p in files(group)
    ],
)
def test_a_plain_comment_says_what_it_is(path):
    comments = [line for line in path.read_text().splitlines() if line.startswith("# ")]
    assert any(not line.startswith("# @package") for line in comments)


@pytest.mark.parametrize("path", files("activation"))
def test_activation_keeps_the_shape_and_has_a_gradient(path):
    make = instantiate(OmegaConf.load(path))
    first, second = make(), make()
    assert first is not second
    x = torch.linspace(-3, 3, 24).view(1, 2, 3, 4).requires_grad_()
    y = first(x)
    y.sum().backward()
    assert y.shape == x.shape
    assert x.grad.isfinite().all()
    assert x.grad.any()


@pytest.mark.parametrize("path", files("loss"))
def test_loss_pulls_on_the_picture(path):
    loss = instantiate(OmegaConf.load(path))
    assert isinstance(loss, Loss)
    image = torch.rand(2, 3, 16, 16, requires_grad=True)
    batch = {
        "marked": torch.rand(2, 3, 16, 16),
        "clean": torch.rand(2, 3, 16, 16),
        "mask": torch.randint(0, 2, (2, 1, 16, 16)).float(),
    }
    value = loss(Restoration(image, torch.zeros(2, 1, 16, 16, requires_grad=True)), batch)
    value.backward()
    assert value.shape == ()
    assert value.isfinite()
    assert image.grad.any()


@pytest.mark.parametrize("path", files("loss"))
def test_only_losses_named_so_need_a_mask(path):
    loss = instantiate(OmegaConf.load(path))
    image = torch.rand(1, 3, 16, 16)
    batch = {"marked": image, "clean": image, "mask": torch.ones(1, 1, 16, 16)}
    if path.stem.startswith(("removal", "distill")):
        with pytest.raises(UserError, match="choose model=unet"):
            loss(Restoration(image), batch)
    else:
        loss(Restoration(image), batch)


@pytest.mark.parametrize("path", files("optimizer"))
def test_optimizer_steps_and_is_saved_as_plain_values(path):
    torch.manual_seed(0)
    network = small_network()
    before = [p.detach().clone() for p in network.parameters()]
    optimizer = instantiate(optimizer_of(path))(network.parameters())
    x, y = torch.rand(4, 3, 8, 8), torch.rand(4, 3, 6, 6)
    values = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (network(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < values[0]
    assert all(not torch.equal(p, q) for p, q in zip(before, network.parameters(), strict=True))

    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    torch.load(file, weights_only=True)


def test_gd_makes_one_step_an_epoch(resolver):
    cfg = OmegaConf.load(CONF / "optimizer/gd.yaml")
    assert "@package _global_" in (CONF / "optimizer/gd.yaml").read_text()
    cfg.data.update(samples_per_epoch=100, batch_size=32)
    assert cfg.trainer.accumulate_grad_batches == 4
    assert cfg.data.fresh_each_epoch is False


@pytest.mark.parametrize("path", files("scheduler"))
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adagrad"])
def test_scheduler_lasts_the_run_and_ends_no_higher_than_it_may(path, optimizer, resolver):
    cfg = OmegaConf.create(
        {
            "total_steps": 50,
            "trainer": {"precision": "32-true"},
            "optimizer": OmegaConf.load(CONF / f"optimizer/{optimizer}.yaml"),
            "scheduler": OmegaConf.load(path),
        }
    )
    optimizer = instantiate(cfg.optimizer)(small_network().parameters())
    scheduler = instantiate(cfg.scheduler)(optimizer)
    rates = [scheduler.get_last_lr()[0]]
    for _ in range(49):
        optimizer.step()
        scheduler.step()
        rates.append(scheduler.get_last_lr()[0])
    assert max(rates) == pytest.approx(cfg.optimizer.lr)
    assert min(rates) >= 0
    if path.stem in ("linear", "step", "cosine", "one_cycle"):
        assert rates[-1] <= 0.05 * cfg.optimizer.lr


@pytest.mark.parametrize(
    ("optimizer", "cycles"), [("adam", True), ("nesterov", True), ("sgd", False)]
)
def test_one_cycle_moves_the_momentum_that_there_is(optimizer, cycles, resolver):
    cfg = OmegaConf.create(
        {
            "total_steps": 50,
            "trainer": {"precision": "32-true"},
            "optimizer": OmegaConf.load(CONF / f"optimizer/{optimizer}.yaml"),
            "scheduler": OmegaConf.load(CONF / "scheduler/one_cycle.yaml"),
        }
    )
    optimizer = instantiate(cfg.optimizer)(small_network().parameters())
    scheduler = instantiate(cfg.scheduler)(optimizer)
    seen = []
    for _ in range(49):
        group = optimizer.param_groups[0]
        seen.append(group["betas"][0] if "betas" in group else group["momentum"])
        optimizer.step()
        scheduler.step()
    assert (max(seen), min(seen)) == (pytest.approx((0.95, 0.85), abs=0.01) if cycles else (0, 0))


@pytest.mark.parametrize("path", files("precision"))
def test_precision_is_one_the_trainer_knows(path):
    text = path.read_text()
    assert text.startswith("# @package trainer\n")
    cfg = OmegaConf.create(text)
    assert cfg.keys() == {"precision"}
    # Without a GPU, Lightning itself turns 16-mixed into bf16-mixed; `src/train.py` refuses it.
    if cfg.precision != "16-mixed" or torch.cuda.is_available():
        trainer = Trainer(**cfg, accelerator="auto", logger=False, enable_checkpointing=False)
        assert trainer.precision == cfg.precision


GROUPS = (
    "model",
    "data",
    "watermark",
    "degradation",
    "trainer",
    "logger",
    "callbacks",
    "precision",
    "launcher",
    "sweeper",
)
OTHERS = ("activation", "loss", "optimizer", "scheduler")
ROOTED = ("folder", "shards", "clwd", "lvw", "logo", "ilaw", "prwd", "pairs")
NEEDED = {f"data={name}": ["data.root=photos"] for name in ROOTED} | {
    "precision=16": ["trainer=gpu"],
    "watermark=own": ["watermark.mark=Jane"],
}


@pytest.mark.parametrize(
    "choice", [f"{group}={path.id}" for group in GROUPS + OTHERS for path in files(group)]
)
def test_every_choice_composes_and_passes_the_checks(choice):
    config.register_resolvers()
    typed = [choice, *NEEDED.get(choice, []), "folder=run", "name=run"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", cli.quote_digits(typed))
    here = {"gpu": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if here.get(cfg.trainer.accelerator, True):
        config.check(cfg)
    else:
        with pytest.raises(UserError, match="torch finds no"):
            config.check(cfg)
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert all(get_class(node["_target_"]) for node in targets(plain))


@pytest.mark.parametrize("path", [p for group in GROUPS for p in files(group)])
def test_every_choice_says_what_it_is(path):
    first = next(line for line in path.read_text().splitlines() if "@package" not in line)
    assert first.startswith("# ")
    assert len(first) > 10


def test_a_group_has_no_stray_file():
    known = {*GROUPS, *OTHERS, "experiment", "markbench"}
    assert {path.name for path in CONF.iterdir() if path.is_dir()} <= known
