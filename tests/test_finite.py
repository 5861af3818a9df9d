"""Numbers gone bad: the run stops, says where, and keeps what it takes to look at it again."""

import json
import math
import subprocess
import sys
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import tiny
import torch
from omegaconf import OmegaConf
from torch import nn

from clearmark.checkpoints import Checkpoints, Last
from clearmark.config import create
from clearmark.finite import Finite, NotFiniteError
from clearmark.losses import Loss
from clearmark.models.base import Restoration
from clearmark.removal import Removal


class Shift(nn.Module):
    """Adds a number to every picture."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, marked):
        return Restoration(marked + self.weight)


class Fails(Loss):
    """Goes bad at one step: in a term, or in the gradient alone."""

    def __init__(self, at, gradient=False):
        super().__init__()
        self.at, self.gradient, self.calls = at, gradient, 0

    def terms(self, restored, batch):
        image = (restored.image - batch["clean"]).abs().mean()
        other = 0 * image
        if self.calls == self.at:
            # sqrt has an infinite slope at 0, and times 0 that is NaN.
            other = (0 * image).sqrt() if self.gradient else image * math.inf
        self.calls += 1
        return {"image": image, "other": other}


class Watched:
    """A dataset that notes what it is asked for."""

    def __init__(self, dataset):
        self.dataset, self.asked = dataset, []

    def __getitem__(self, key):
        self.asked.append(key)
        return self.dataset[key]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return tiny.photos(tmp_path_factory.mktemp("data") / "photos")


def fit(photos, folder, loss, every=None, epochs=3, network=None):
    """Trains three batches of two an epoch; returns the dataset that was asked."""
    given = [*tiny.overrides(photos), f"folder={folder}", "data.samples_per_epoch=6"]
    given += ["data.val_samples=4"]
    data = create(tiny.config(*given).data)
    data.setup("fit")
    data.datasets["train"] = watched = Watched(data.datasets["train"])
    module = Removal(
        network or Shift(), loss, lambda weights: torch.optim.SGD(weights, 0.125), config={}
    )
    finite = Finite(str(folder))
    if every:  # as on a GPU, where steps are looked at in groups
        finite.on_train_start = lambda trainer, module: setattr(finite, "every", every)
    place = folder / "checkpoints"
    kept = Checkpoints(dirpath=str(place), filename="best", monitor="val/psnr", mode="max")
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        limit_val_batches=2,
        logger=False,
        callbacks=[finite, Last(str(place)), kept],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    with pytest.raises(NotFiniteError) as caught:
        trainer.fit(module, data)
    return watched, str(caught.value)


def good(path):
    content = torch.load(path, weights_only=True)
    assert all(w.isfinite().all() for w in content["state_dict"].values())
    return content["global_step"]


# The fifth step is the second of the second epoch: a group of three steps ends after it, one of
# fifty is looked at when the epoch ends.
@pytest.mark.parametrize("every", [None, 2, 50])
def test_the_step_the_batch_and_the_term_are_named(every, photos, tmp_path):
    watched, line = fit(photos, tmp_path, Fails(4), every)
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert "loss term other not finite at step 4 (epoch 1, batch 1)" in line
    assert f"last good checkpoint: {last};" in line
    assert "now 0.125; lower optimizer.lr" in line
    assert "precision" not in line
    assert "\n" not in line
    assert good(last) == 3
    note = json.loads((tmp_path / "bad_batch.json").read_text())
    assert [tuple(key) for key in note["keys"]] == watched.asked[8:10] == [(1, 2), (1, 3)]
    assert [tuple(key) for key in note["keys_before"]] == watched.asked[6:8]
    assert note["terms"]["other"] == "inf"
    assert math.isfinite(note["terms"]["image"])
    assert note["weights_finite"] is (None if every == 50 else True)
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("at", [3, 5])
def test_a_gradient_that_spoils_the_weights(at, photos, tmp_path):
    """Seen at the next loss, or, at an epoch's end, before the validation."""
    _, line = fit(photos, tmp_path, Fails(at, gradient=True))
    if at == 3:
        assert "since the step before made the weights so, at step 4 (epoch 1, batch 1)" in line
    else:
        assert "weights not finite, made so by the gradient at step 5 (epoch 1, batch 2)" in line
    assert good(tmp_path / "checkpoints" / "last.ckpt") == 3
    assert good(tmp_path / "checkpoints" / "best.ckpt") == 3
    note = json.loads((tmp_path / "bad_batch.json").read_text())
    culprit = note["keys_before" if at == 3 else "keys"]
    assert culprit == ([[1, 0], [1, 1]] if at == 3 else [[1, 4], [1, 5]])


class Breaks(Shift):
    """Answers with NaN to one picture of the validation."""

    def forward(self, marked):
        restored = super().forward(marked)
        self.seen = getattr(self, "seen", 0) + (not self.training)
        return Restoration(restored.image * math.nan) if self.seen == 3 else restored


def test_a_nan_in_the_validation(photos, tmp_path):
    # A batch of the validation is restored twice, marked and clean: the third is of batch 1.
    _, line = fit(photos, tmp_path, Fails(-1), network=Breaks())
    assert "a validation figure is not finite, first in validation batch 1, at step 3" in line
    note = json.loads((tmp_path / "bad_batch.json").read_text())
    assert (note["split"], note["keys"]) == ("val", [[0, 2], [0, 3]])
    assert not (tmp_path / "checkpoints" / "best.ckpt").exists()


def test_no_checkpoint_of_weights_that_are_not_finite(tmp_path):
    finite = Finite(str(tmp_path))
    trainer = SimpleNamespace()
    finite.on_save_checkpoint(trainer, None, {"state_dict": {"a": torch.tensor([3e38, 3e38])}})
    finite._stop = lambda trainer, bad, alone: (_ for _ in ()).throw(NotFiniteError(bad.what))
    trainer.global_step = 7
    for value in (math.nan, math.inf, -math.inf):
        weights = {"a": torch.tensor([0, value])}
        with pytest.raises(NotFiniteError):
            finite.on_save_checkpoint(trainer, None, {"state_dict": weights})


@pytest.mark.slow
def test_a_command_ends_with_one_line_and_the_batch_can_be_drawn_again(photos, tmp_path):
    hopeless = ["optimizer=sgd", "optimizer.lr=1e5", "scheduler=constant", "logger=csv"]
    more = ["trainer.gradient_clip_val=null", "trainer.limit_train_batches=1.0", "loss=mse"]
    given = [*tiny.overrides(photos), *hopeless, *more, "data.samples_per_epoch=40"]
    done = subprocess.run(
        [sys.executable, "src/train.py", *given, f"hydra.run.dir={tmp_path}"],
        cwd=tiny.ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    said = [line for line in done.stderr.splitlines() if line.strip()]
    assert len([line for line in said if line.startswith("error: loss term mse not finite")]) == 1
    assert "Traceback" not in done.stderr
    assert (tmp_path / "metrics.csv").is_file()

    note = json.loads((tmp_path / "bad_batch.json").read_text())
    data = create(OmegaConf.load(tmp_path / "config.yaml").data)
    data.setup("fit")
    samples = [data.datasets[note["split"]][tuple(key)] for key in note["keys"]]
    assert len(samples) == 2
    assert all(isinstance(sample["marked"], np.ndarray) for sample in samples)
