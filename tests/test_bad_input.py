"""What a user can get wrong: one line that says what to do, and no traceback."""

import os
import runpy
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import tiny
import torch

from clearmark import runs
from clearmark.callbacks import Checkpoints


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return tiny.photos(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture
def refused(monkeypatch, capfd, tmp_path):
    """Types a command, checks that it is refused as it should be, and returns the line."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")
    folder = tmp_path / "run"

    def type_in(*arguments, places=(f"hydra.run.dir={folder}", f"hydra.sweep.dir={folder}")):
        command = ["src/train.py", *arguments, *places]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as left:
            runpy.run_path(str(tiny.ROOT / "src/train.py"), run_name="__main__")
        _, stderr = capfd.readouterr()
        assert left.value.code == 2
        lines = [line for line in stderr.splitlines() if line]
        assert len(lines) == 1, stderr
        assert lines[0].startswith("error: ")
        for name in ("results.json", "config.yaml", "best.ckpt", "last.ckpt", "*.part"):
            assert not [p for p in folder.rglob(name) if ".hydra" not in p.parts]
        return lines[0]

    return type_in


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["modell=unet"], ["modell", "--cfg job", "--help"]),
        (["model=unett"], ["model/unett", "conv_fc", "resnet", "unet"]),
        (["data.batchsize=4"], ["data.batchsize", "--cfg job"]),
        (["+data.batchsize=4"], ["data.batchsize=4", "did you mean batch_size?"]),
        (["data.batch_size=abc"], ["data.batch_size=abc", "int"]),
        (["data.batch_size=[1"], ["[1"]),
        (["precision=17"], ["precision/17", "bf16"]),
        (["precision=16", "trainer=cpu"], ["precision=16", "GPU", "precision=bf16"]),
        (["-m", "trainer=ddp", "seed=0,1"], ["trainer.strategy=ddp", "multirun", "trainer=gpu"]),
        (["-m", "trainer.devices=2", "seed=0,1"], ["trainer.devices=2", "without -m"]),
        (["model.mask=false"], ["MaskBCE", "model.mask=false", "loss=charbonnier"]),
        (["optimizer=gd", "data.batch_size=7"], ["data.batch_size=7", "multiple"]),
        (["data.crop=512"], ["data.crop=512", "data.size=256"]),
        (["watermark=text", "watermark.opacity=[0.5,1.5]"], ["opacity=[0.5, 1.5]", "[0, 1]"]),
        (["loss=mse", "loss.where=everywhere"], ["everywhere", "marked"]),
        (["data=folder"], ["data.root is not set", "data.root=..."]),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_wrong_choice_is_named_with_the_fix(typed, words, refused):
    line = refused(*typed)
    for word in words:
        assert word in line


@pytest.mark.parametrize("kind", ["missing", "empty", "a file", "no pictures"])
def test_a_wrong_folder_is_named(kind, refused, tmp_path):
    root = tmp_path / "photos"
    if kind == "a file":
        root.write_text("")
    elif kind != "missing":
        root.mkdir()
    if kind == "no pictures":
        (root / "notes.txt").write_text("")
    assert f"data.root={root}" in refused("data=folder", f"data.root={root}")


def test_a_folder_that_cannot_be_made_is_named(refused, tmp_path):
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "run"
    assert str(place) in refused("model=unet", places=[f"hydra.run.dir={place}"])


def test_a_run_folder_that_cannot_be_written_is_named(refused, tmp_path, photos):
    (tmp_path / "file").write_text("")
    line = refused(*tiny.overrides(photos), f"folder={tmp_path / 'file' / 'run'}")
    assert str(tmp_path / "file") in line


def test_ctrl_c_leaves_a_checkpoint(photos, tmp_path):
    long = ["trainer.limit_train_batches=1.0", "data.samples_per_epoch=1000000"]
    place = [f"hydra.run.dir={tmp_path}"]
    process = subprocess.Popen(
        [sys.executable, "src/train.py", *tiny.overrides(photos), *long, *place],
        cwd=tiny.ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"HYDRA_FULL_ERROR": ""},
    )
    try:
        metrics, until = tmp_path / "metrics.csv", time.monotonic() + 240
        while not (metrics.is_file() and metrics.stat().st_size) and time.monotonic() < until:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=120)
    finally:
        process.kill()
    path = tmp_path / "checkpoints" / "last.ckpt"
    assert process.returncode == 130, stderr
    assert stderr.splitlines()[-1] == f"stopped; the network so far is in {path}"
    assert "Traceback" not in stderr
    assert torch.load(path, weights_only=True)["global_step"] > 0
    assert not (tmp_path / "results.json").exists()
    network, _ = runs.load_network(tmp_path)
    assert network(torch.rand(1, 3, 20, 20)).image.isfinite().all()


@pytest.mark.parametrize(("doing", "step"), [("fit", 3), ("fit", 0), ("test", 3)])
def test_what_breaks_off_is_kept_beside_the_best(doing, step, tmp_path):
    written = []
    trainer = SimpleNamespace(
        state=SimpleNamespace(fn=doing), global_step=step, save_checkpoint=written.append
    )
    callback = Checkpoints(dirpath=str(tmp_path), filename="best")
    callback.on_exception(trainer, None, KeyboardInterrupt())
    expected = [str(tmp_path / "last.ckpt")] if doing == "fit" and step else []
    assert written == expected
    assert callback.last_model_path == "".join(expected)
