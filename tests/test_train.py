"""Whole runs, small ones: what they leave behind, that they repeat, and that choices combine."""

import csv
import itertools
import json
import math
import os
import pickle
import subprocess
import sys
import time
import warnings

import cv2
import lightning as L
import pytest
import tiny
import torch
from lightning import seed_everything
from omegaconf import OmegaConf
from torch.utils.data import DataLoader

from clearmark import runs
from clearmark.basis import WAVES, seen_as
from clearmark.checkpoints import WholeCheckpoints
from clearmark.config import build_network, create, register_resolvers
from clearmark.data import as_tensors
from clearmark.data.marked import MarkedPhotos
from clearmark.removal import Removal

FIGURES = {
    *(f"test/{name}{kind}" for name in ("psnr", "ssim", "rmsew") for kind in ("", "_input")),
    *("test/psnr_gain", "test/mask_f1", "test/clean_psnr"),
    *("wall_seconds", "samples_seen", "samples_per_second", "parameters", "gmac"),
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return tiny.photos(tmp_path_factory.mktemp("data") / "photos")


def train(folder, photos, *more, model="unet"):
    cfg = tiny.config(*tiny.overrides(photos, model), f"folder={folder}", *more)
    began = time.perf_counter()
    figures = tiny.entry_point("train").train(cfg)
    assert figures["wall_seconds"] < time.perf_counter() - began
    return figures


def rows(folder, name):
    with (folder / "metrics.csv").open() as file:
        return [row[name] for row in csv.DictReader(file) if row.get(name)]


@pytest.fixture(scope="module", params=["unet", "conv_fc"])
def run(request, photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / request.param
    return folder, train(folder, photos, model=request.param)


def test_the_figures(run):
    folder, figures = run
    assert figures.keys() >= FIGURES
    assert json.loads((folder / "results.json").read_text()) == figures
    assert all(math.isfinite(value) for value in figures.values())
    assert figures["samples_seen"] == 4
    gain = figures["test/psnr"] - figures["test/psnr_input"]
    assert figures["test/psnr_gain"] == pytest.approx(gain, abs=1e-3)
    network, _ = runs.load_network(folder)
    assert figures["parameters"] == sum(p.numel() for p in network.parameters())
    assert min(figures[n] for n in ("samples_per_second", "gmac", "wall_seconds")) > 0


def test_the_folder_of_a_run(run):
    folder, _ = run
    names = {path.name for path in folder.iterdir()}
    assert names >= {"results.json", "config.yaml", "environment.json", "metrics.csv", "panels"}
    assert not list(folder.rglob("*.part"))
    cfg = OmegaConf.load(folder / "config.yaml")
    assert cfg.data.crop == 32
    assert "${" not in (folder / "config.yaml").read_text()
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__
    for name in ("val_epoch000.png", "test.png"):
        assert cv2.imread(str(folder / "panels" / name)).shape == (2 * 64 + 22, 5 * 64, 3)
    assert len(rows(folder, "train/loss")) == 2
    assert len(rows(folder, "val/psnr")) == 1
    assert len(rows(folder, "test/psnr")) == 1


def test_the_checkpoint_gives_the_network_back(run):
    folder, figures = run
    for name in ("best", "last"):
        path = folder / "checkpoints" / f"{name}.ckpt"
        content = torch.load(path, weights_only=True)
        network, config = runs.load_network(path)
        assert content["config"] == config
        for key, value in network.state_dict().items():
            assert torch.equal(content["state_dict"][f"network.{key}"], value)
    # Measured again, it gives the figures of the run.
    network, _ = runs.load_network(folder)
    data = create(OmegaConf.load(folder / "config.yaml").data)
    data.setup("test")
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, limit_test_batches=1
    )
    again = trainer.test(Removal(network), data, verbose=False)[0]
    assert again["test/psnr"] == pytest.approx(figures["test/psnr"], abs=1e-4)


def test_a_seed_decides_all_and_another_differs(photos, tmp_path):
    more = ("activation=rrelu", "trainer.limit_train_batches=1.0", "trainer.max_epochs=2")
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        train(tmp_path / name, photos, *more, f"seed={seed}")
    losses = {name: rows(tmp_path / name, "train/loss") for name in ("one", "two", "three")}
    assert len(losses["one"]) == 4
    assert losses["one"] == losses["two"] != losses["three"]
    weights = [
        torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in ("one", "two")
    ]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    inputs = {rows(tmp_path / name, "test/psnr_input")[0] for name in ("one", "three")}
    assert len(inputs) == 1, "the test samples depend on the run's seed"


def test_denormal_numbers_count_as_zero_while_training_and_only_then(photos, tmp_path, monkeypatch):
    seen = []

    def step(module, batch, batch_idx, own=Removal.training_step):
        seen.append(float(torch.tensor([1e-40]) * 0.5))
        return own(module, batch, batch_idx)

    monkeypatch.setattr(Removal, "training_step", step)
    train(tmp_path / "run", photos)
    assert seen
    assert set(seen) == {0.0}
    assert float(torch.tensor([1e-40]) * 0.5) > 0


def test_gd_follows_the_gradient_of_all_samples(photos, tmp_path):
    choices = (
        "optimizer=gd",
        "scheduler=constant",
        "loss=mse",
        "activation=gelu",
        "watermark=text",
    )
    more = ("model.mask=false", "data.samples_per_epoch=6", "optimizer.lr=10")
    cfg = tiny.config(
        *tiny.overrides(photos, "conv_fc"),
        *(*choices, *more, "trainer.limit_train_batches=1.0", "trainer.max_epochs=2"),
        *("trainer.gradient_clip_val=null", "channels_last=false", f"folder={tmp_path}"),
    )
    tiny.entry_point("train").train(cfg)
    content = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    assert content["global_step"] == 2

    data = create(cfg.data)
    data.setup("fit")
    samples = [data.datasets["train"][(0, index)] for index in range(6)]
    stacked = torch.utils.data.default_collate(samples)
    batch = as_tensors(stacked, torch.float32)
    seed_everything(0, verbose=False)
    network = build_network(OmegaConf.to_container(cfg.model, resolve=True))
    start = {name: p.detach().clone() for name, p in network.named_parameters()}
    for _ in range(2):
        loss = (network(batch["marked"]).image - batch["clean"]).square().mean()
        gradients = torch.autograd.grad(loss, list(network.parameters()), materialize_grads=True)
        with torch.no_grad():
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter -= 10 * gradient
    moved = 0
    for name, parameter in network.named_parameters():
        found = content["state_dict"][f"network.{name}"]
        torch.testing.assert_close(found, parameter, atol=1e-6, rtol=1e-4)
        moved += not torch.equal(found, start[name])
    assert moved >= 4, "two steps reach beyond the last layer"


def test_the_schedule_spans_the_run(photos, tmp_path):
    train(
        tmp_path,
        photos,
        *("scheduler=linear", "optimizer=sgd", "optimizer.lr=0.1"),
        *("trainer.limit_train_batches=1.0", "trainer.max_epochs=3", "data.samples_per_epoch=8"),
    )
    rates = [float(rate) for rate in rows(tmp_path, "lr-SGD")]
    assert rates[0] == pytest.approx(0.1)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0.1 * (1 - 0.99 * 11 / 12))


@pytest.mark.parametrize("scheduler", tiny.choices("scheduler"))
def test_every_schedule_runs(scheduler, photos, tmp_path):
    figures = train(tmp_path, photos, f"scheduler={scheduler}")
    assert figures["samples_seen"] == 4


def test_broken_photos_are_listed(tmp_path, capsys):
    root = tiny.photos(tmp_path / "photos")
    (root / "photo99.png").write_text("no picture")
    train(tmp_path / "run", root)
    assert "photo99.png\tnot a picture" in (tmp_path / "run/broken_photos.tsv").read_text()
    assert "left out 1 file" in capsys.readouterr().out


@pytest.mark.parametrize("callbacks", ["early_stopping", "ema"])
def test_callbacks_run(callbacks, photos, tmp_path):
    figures = train(tmp_path, photos, f"callbacks={callbacks}")
    assert figures["samples_seen"] == 4
    # The figures are those of the weights that others are given, which averaging makes two of.
    cfg = tiny.config(*tiny.overrides(photos), f"folder={tmp_path}")
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    network, data = runs.load_network(tmp_path)[0], create(cfg.data)
    again = trainer.test(Removal(network), data, verbose=False)[0]
    names = [name for name in again if not math.isnan(again[name])]
    assert [figures[n] for n in names] == pytest.approx([again[n] for n in names], rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_steps_that_wait_for_their_samples_are_told_of_once(
    workers, photos, tmp_path, monkeypatch, capsys
):
    make = MarkedPhotos.__getitem__

    def late(self, key):
        time.sleep(0.1)
        return make(self, key)

    monkeypatch.setattr(MarkedPhotos, "__getitem__", late)
    steps = ("data.samples_per_epoch=48", "trainer.limit_train_batches=24")
    train(tmp_path, photos, *steps, f"data.workers={workers}", "+callbacks.pace.every=2")
    said = capsys.readouterr().err.count("steps wait for their samples")
    assert said == workers  # the training process itself cannot be late


def test_the_profile_times_each_step(photos, tmp_path):
    given = [word for word in tiny.overrides(photos) if not word.startswith("trainer")]
    cfg = tiny.config(*given, "trainer=profile", "trainer.accelerator=cpu", f"folder={tmp_path}")
    tiny.entry_point("train").train(cfg)
    table = (tmp_path / "fit-profile.txt").read_text()
    calls = {
        cells[1].strip(): cells[3].strip()
        for row in table.splitlines()
        if len(cells := row.split("|")) > 4
    }
    assert calls["run_training_batch"] == "2", table


@pytest.mark.slow
def test_a_compiled_network_trains_alike(photos, tmp_path):
    eager = train(tmp_path / "eager", photos)
    compiled = train(tmp_path / "compiled", photos, "compile=true")
    names = ("test/psnr", "test/rmsew", "gmac", "training_gmac")
    assert [compiled[n] for n in names] == pytest.approx([eager[n] for n in names], rel=1e-3)
    weights = [
        torch.load(tmp_path / f / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for f in ("eager", "compiled")
    ]
    assert weights[0].keys() == weights[1].keys()


@pytest.mark.slow
def test_compile_is_refused_where_there_is_no_compiler(photos, tmp_path):
    command = [sys.executable, "src/train.py", *tiny.overrides(photos), "compile=true"]
    bare = {"CXX": "none", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [*command, f"hydra.run.dir={tmp_path / 'run'}"],
        cwd=tiny.ROOT,
        env=os.environ | bare,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: compile=true: torch cannot compile here (")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def covering(factors):
    """Rows that hold every pair of choices: all of the two largest factors, the rest greedily."""
    names = sorted(factors, key=lambda name: -len(factors[name]))
    left = {
        frozenset([(a, x), (b, y)])
        for a, b in itertools.combinations(names, 2)
        for x in factors[a]
        for y in factors[b]
    }

    def pairs(row):
        return {frozenset(pair) for pair in itertools.combinations(row.items(), 2)}

    for first, second in itertools.product(factors[names[0]], factors[names[1]]):
        row = {names[0]: first, names[1]: second}
        for name in names[2:]:
            row[name] = max(factors[name], key=lambda c: len(pairs({**row, name: c}) & left))
        left -= pairs(row)
        yield row
    while left:
        row = dict(min(left, key=sorted))
        for name in names:
            if name not in row:
                row[name] = max(factors[name], key=lambda c: len(pairs({**row, name: c}) & left))
        left -= pairs(row)
        yield row


FACTORS = {group: tiny.choices(group) for group in ("model", "loss", "optimizer", "activation")} | {
    "precision": ["32-true", "64-true", "bf16-mixed"]
}  # 16-mixed needs a GPU
ROWS = list(covering(FACTORS))


def test_the_covering_is_one():
    for a, b in itertools.combinations(FACTORS, 2):
        found = {(row[a], row[b]) for row in ROWS}
        assert found == set(itertools.product(FACTORS[a], FACTORS[b]))


class Watched(Removal):
    """Keeps the loss of its step."""

    def training_step(self, batch, batch_idx):
        self.seen = super().training_step(batch, batch_idx)
        return self.seen


@pytest.fixture(scope="module")
def batch(photos):
    data = create(tiny.config(*tiny.overrides(photos), "folder=run").data)
    data.setup("fit")
    return next(iter(data.train_dataloader()))


@pytest.mark.parametrize("optimizer", FACTORS["optimizer"])
def test_all_pairs_of_choices_make_a_step(optimizer, batch):
    """A row of the covering a step; they are gathered by optimizer to keep the list readable."""
    conf = tiny.ROOT / "conf"
    register_resolvers()
    written = OmegaConf.load(conf / "optimizer" / f"{optimizer}.yaml")
    clip = OmegaConf.load(conf / "trainer" / "auto.yaml").gradient_clip_val
    narrow = {
        "conv_fc": {"widths": [4, 4], "hidden": 16, "patch": 8, "overlap": 2},
        "resnet": {"width": 4, "dilations": [1, 2]},
        "unet": {"widths": [4, 8]},
        "unblend": {"widths": [4, 8]},
    }
    for row in (row for row in ROWS if row["optimizer"] == optimizer):
        cfg = OmegaConf.load(conf / "model" / f"{row['model']}.yaml")
        cfg.activation = OmegaConf.load(conf / "activation" / f"{row['activation']}.yaml")
        torch.manual_seed(0)
        network = create(OmegaConf.merge(cfg, narrow.get(row["model"], {})))
        loss = create(OmegaConf.load(conf / "loss" / f"{row['loss']}.yaml"))
        before = {name: p.detach().double().clone() for name, p in network.named_parameters()}
        whole = {"optimizer": written.get("optimizer", written), "trainer": {**row}}
        make = seen_as(WAVES, create(OmegaConf.create(whole).optimizer))
        module = Watched(network, loss, make)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer = L.Trainer(
                accelerator="cpu",
                precision=row["precision"],
                gradient_clip_val=clip,
                max_steps=1,
                barebones=True,
            )
            trainer.fit(module, DataLoader([batch], batch_size=None))
        assert module.seen.isfinite(), row
        after = {name: p.detach().double() for name, p in network.named_parameters()}
        assert all(value.isfinite().all() for value in after.values()), row
        assert any(not torch.equal(after[name], before[name]) for name in after), row


@pytest.mark.slow
def test_a_multirun_leaves_a_folder_for_each_job(photos, tmp_path):
    command = [sys.executable, "src/train.py", "-m", *tiny.SMALL, f"data.root={photos}"]
    more = ["model.widths=[4,8]", "loss=removal,mae", f"hydra.sweep.dir={tmp_path}"]
    done = subprocess.run(
        [*command, *more], cwd=tiny.ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    figures = [json.loads((tmp_path / n / "results.json").read_text()) for n in ("0", "1")]
    assert figures[0].keys() >= FIGURES
    assert figures[0]["test/psnr_input"] == figures[1]["test/psnr_input"]
    names = [OmegaConf.load(tmp_path / n / "config.yaml").name for n in ("0", "1")]
    assert "loss=removal" in names[0]
    assert "loss=mae" in names[1]


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path):
    files = WholeCheckpoints()
    path = tmp_path / "checkpoints" / "last.ckpt"
    files.save_checkpoint({"epoch": 1}, path)
    with pytest.raises((AttributeError, pickle.PicklingError), match="pickle"):
        files.save_checkpoint({"epoch": 2, "broken": lambda: None}, path)
    assert files.load_checkpoint(path) == {"epoch": 1}
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]
