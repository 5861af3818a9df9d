"""Evaluation gives the figures that a training ends with."""

import json
import shutil

import pytest

import evaluate
from clearmark.errors import UserError

SMALL = [
    "trainer=cpu",
    "data.size=64",
    "data.short_side=64",
    "data.val_samples=4",
    "data.test_samples=6",
    "data.eval_batch_size=3",
    "+callbacks.panels.pictures=2",
    "~callbacks.progress",
]


@pytest.fixture
def small(composed, run_folder, tmp_path):
    def small(*more, ckpt=run_folder):
        quoted = f"ckpt='{ckpt}'"
        return composed("evaluate", quoted, f"folder={tmp_path / 'out'}", *SMALL, *more)

    return small


@pytest.mark.parametrize("split", ["test", "val"])
def test_figures(small, tmp_path, split, capsys):
    figures = evaluate.evaluate(small(f"split={split}", "watermark=mixed"))
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == figures
    for name in ("psnr", "psnr_input", "psnr_gain", "ssim", "rmsew", "mask_f1", "clean_psnr"):
        assert f"{split}/{name}" in figures
    gain = figures[f"{split}/psnr"] - figures[f"{split}/psnr_input"]
    assert figures[f"{split}/psnr_gain"] == pytest.approx(gain, abs=1e-4)
    assert figures["parameters"] > 1000
    assert figures["gmac"] > 0
    assert len(list((tmp_path / "out" / "panels").glob("*.png"))) == 1
    assert f"{figures[f'{split}/psnr']:.2f}" in capsys.readouterr().out


def test_the_same_figures_again(small):
    assert evaluate.evaluate(small()) == evaluate.evaluate(small("seed=3"))


def test_a_file_and_its_folder_are_one(small, run_folder):
    file = run_folder / "checkpoints" / "best.ckpt"
    assert evaluate.evaluate(small(ckpt=file)) == evaluate.evaluate(small())


@pytest.mark.parametrize(
    ("more", "said"),
    [("split=train", "split=train"), ("ckpt=missing", "does not exist"), ("ckpt=null", "not set")],
)
def test_bad_input(small, more, said):
    with pytest.raises(UserError, match=said):
        evaluate.evaluate(small(more))


def test_the_folder_of_a_training_is_left_alone(small, run_folder, tmp_path):
    """``hydra.run.dir`` of a run would take away the very checkpoint that is measured."""
    run = shutil.copytree(run_folder, tmp_path / "out")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"out holds a trained run.*; give another folder"):
        evaluate.evaluate(small(ckpt=run))
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
