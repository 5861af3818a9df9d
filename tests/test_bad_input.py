"""A run that breaks off says what is kept; wrong command lines are in test_command_lines.py."""

import os
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
