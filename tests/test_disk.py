"""A disk that takes no more, and a server that does not answer, stop no training."""

import contextlib
import csv
import os
import resource
import signal
import subprocess
import sys

import lightning as L
import pytest
import tiny
import torch
import wandb
import wandb_server

from clearmark import disk, loggers
from clearmark.checkpoints import Checkpoints, WholeCheckpoints
from clearmark.errors import UserError

# A limit on the size of a file fails as a full disk does, with an OSError, and needs no rights.
LIMITED = """
import resource, runpy, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
sys.argv = ["src/train.py", *sys.argv[1:]]
sys.path.insert(0, "src")
runpy.run_path("src/train.py", run_name="__main__")
"""


def train(folder, photos, limit):
    more = ("trainer.max_epochs=2", "data.samples_per_epoch=4", f"hydra.run.dir={folder}")
    return subprocess.run(
        [sys.executable, "-c", LIMITED.format(limit=limit), *tiny.overrides(photos), *more],
        cwd=tiny.ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return tiny.photos(tmp_path_factory.mktemp("data") / "photos")


@pytest.mark.slow
def test_training_goes_on_without_checkpoints_and_pictures(photos, tmp_path):
    done = train(tmp_path, photos, 20_000)  # enough for the metrics
    said = [line for line in done.stderr.splitlines() if "could not be written" in line]
    last, panel = tmp_path / "checkpoints" / "last.ckpt", tmp_path / "panels" / "val_epoch000.png"
    assert said[0].startswith(f"warning: {last} could not be written: File too large")
    assert said[1].startswith(f"warning: {panel} could not be written")
    best = tmp_path / "checkpoints" / "best.ckpt"
    assert said[2].startswith(f"error: {best} could not be written")
    assert len(said) == 3
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "PSNR gain over doing nothing" in done.stdout
    assert {"config.yaml", "metrics.csv", "results.json"} <= set(os.listdir(tmp_path))
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".ckpt", ".part", ".png")]


class Full:
    """A disk that takes so many bytes a file from a test's process."""

    def __init__(self, limit):
        self.limit = limit

    def __enter__(self):
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.limit, self.before[1]))

    def __exit__(self, *error):
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)
        signal.signal(signal.SIGXFSZ, self.handler)


def read(path):
    with path.open(newline="") as file:
        return [row["a"] for row in csv.DictReader(file)]


@pytest.mark.parametrize("more", [{}, {"b": 1.5}], ids=["appended", "another column"])
def test_rows_wait_until_there_is_room(more, tmp_path, capsys):
    path, logger = tmp_path / "metrics.csv", loggers.MetricsFile(str(tmp_path))
    logger.log_metrics({"a": 0.0}, 0)
    logger.save()
    for number in range(1, 4):
        logger.log_metrics({"a": float(number)} | more, number)
        with Full(path.stat().st_size + 3):
            logger.save()
        assert read(path) == ["0.0"]
    assert disk.failed(path)
    assert capsys.readouterr().err.count("could not be written") == 1
    with pytest.raises(UserError, match=r"metrics\.csv could not be written: File too large"):
        disk.check(path)
    logger.save()
    assert read(path) == ["0.0", "1.0", "2.0", "3.0"]
    disk.check(path)
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.csv"]


def test_metrics_are_saved_elsewhere_in_the_end(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "elsewhere"))
    logger = loggers.MetricsFile(str(tmp_path / "run"))
    logger.log_metrics({"a": 0.0}, 0)
    logger.save()
    logger.log_metrics({"a": 1.0}, 1)
    (tmp_path / "run" / "metrics.csv.part").mkdir()  # in the way of another column
    logger.log_metrics({"a": 2.0, "b": 0.0}, 2)
    logger.finalize("success")
    logger.finalize("success")
    (rescued,) = (tmp_path / "elsewhere").iterdir()
    assert read(rescued) == ["0.0", "1.0", "2.0"]
    assert capfd.readouterr().err.count(f"all metrics are in {rescued}") == 1


def test_a_server_out_of_reach(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    logger = loggers.WandbLogger(patience=1, silent=True, project="p", save_dir=str(tmp_path))
    logger.log_metrics({"a": 1.0}, 0)
    wandb.finish()
    said = capfd.readouterr().err
    assert said.count("Weights & Biases could not be reached; the metrics are in metrics.csv") == 1
    (kept,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert kept.stat().st_size > 0


@pytest.mark.slow
def test_a_server_that_is_lost(tmp_path, monkeypatch):
    """A run goes on when its server goes away, ends, and has what was logged on disk."""
    wandb.teardown()  # it remembers the server of an earlier run in this process
    with wandb_server.server() as (address, asked, off):
        monkeypatch.setenv("WANDB_MODE", "online")
        monkeypatch.setenv("WANDB_BASE_URL", address)
        monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
        logger = loggers.WandbLogger(patience=8, silent=True, project="p", save_dir=str(tmp_path))
        logger.log_metrics({"a": 1.0}, 0)
        (kept,) = tmp_path.glob("wandb/run-*/run-*.wandb")  # and no offline run: it was reached
        assert "/graphql" in asked
        off()
        for step in range(1, 200):
            logger.log_metrics({f"lost{step}": 1.0}, step)
        wandb.finish()
    wandb.teardown()
    assert all(f"lost{step}".encode() in kept.read_bytes() for step in range(1, 200))


def test_the_best_is_tried_again(tmp_path, capsys):
    """A better score that could not be kept does not stand in the way of the next one."""

    class Scored(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(2000))

        def training_step(self, batch, at):
            return self.weight.sum()

        def validation_step(self, batch, at):
            self.log("val/psnr", [1.0, 3.0, 2.0, 2.5][self.current_epoch])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    class Sometimes(WholeCheckpoints):
        def save_checkpoint(self, checkpoint, path, storage_options=None):
            with Full(1000) if checkpoint["epoch"] == 1 else contextlib.nullcontext():
                super().save_checkpoint(checkpoint, path, storage_options)

    kept = Checkpoints(
        dirpath=str(tmp_path),
        filename="best",
        monitor="val/psnr",
        mode="max",
        enable_version_counter=False,
    )
    module, loader = Scored(), [torch.zeros(1)]
    L.Trainer(
        accelerator="cpu",
        max_epochs=4,
        logger=False,
        callbacks=[kept],
        plugins=[Sometimes()],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    ).fit(module, loader, loader)
    assert float(kept.best_model_score) == 2.5
    content = torch.load(kept.best_model_path, weights_only=True)
    assert content["epoch"] == 3
