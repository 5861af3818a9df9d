"""A run that is broken off, anywhere, and goes on ends as one that was left alone, bit for bit."""

import csv
import functools
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import lightning as L
import pytest
import tiny
import torch
from omegaconf import OmegaConf

from clearmark import resume, runs, sweeps
from clearmark.checkpoints import Last
from clearmark.data import splits
from clearmark.data.order import Counted, EpochBatches
from clearmark.errors import UserError
from clearmark.loggers import MetricsFile, WandbLogger


def experiment(name):
    spec = importlib.util.spec_from_file_location("kills", tiny.ROOT / "experiments" / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


kills = experiment("resume/kills.py")
LONGER = [
    *("trainer.limit_train_batches=1.0", "trainer.max_epochs=3", "data.samples_per_epoch=13"),
    *("data.val_samples=5", "callbacks.last.every=2", "activation=rrelu"),
    "trainer.limit_val_batches=1.0",
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return tiny.photos(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture
def words(photos):
    return [*tiny.overrides(photos), *LONGER]


def train(folder, words, *more):
    return tiny.entry_point("train").train(tiny.config(*words, f"folder={folder}", *more))


@pytest.mark.parametrize(
    ("key", "line", "value", "now"),
    [
        ("data.mask_above", "  mask_above: null\n", None, 15),
        ("basis", "basis: pixels\n", "pixels", "waves"),
    ],
)
def test_a_run_from_before_a_key_goes_on(words, tmp_path, key, line, value, now):
    cfg = tiny.config(*words, f"folder={tmp_path}", "basis=pixels")
    OmegaConf.save(cfg, tmp_path / "config.yaml", resolve=True)
    before = (tmp_path / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(before.replace(line, ""))
    assert before != (tmp_path / "config.yaml").read_text()
    assert resume._difference(resume._read(tmp_path), cfg) is None
    OmegaConf.update(cfg, key, now)
    said = resume._difference(resume._read(tmp_path), cfg)
    assert said == f"{key}={now}, but the run has {key}={value}"


class PowerCut(BaseException):
    """No error that anything would catch."""


class Cut(L.Callback):
    """Ends everything the n-th time that a hook is called."""

    def __init__(self, hook, number):
        self.left = number
        setattr(self, hook, self.cut)

    def cut(self, *args, **kwargs):
        self.left -= 1
        if not self.left:
            raise PowerCut


@pytest.fixture
def cut(monkeypatch):
    """Trains until a moment comes."""
    make = L.Trainer.__init__

    def until(hook, number, first, *arguments):
        @functools.wraps(make)
        def with_cut(self, *args, callbacks=(), **kwargs):
            both = [Cut(hook, number), *callbacks] if first else [*callbacks, Cut(hook, number)]
            make(self, *args, callbacks=both if callbacks else [], **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(L.Trainer, "__init__", with_cut)
            with pytest.raises(PowerCut):
                train(*arguments)

    return until


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory):
    """Folders of runs that were left alone, by what was typed beside the usual."""
    made = {}

    def run(*more):
        if more not in made:
            made[more] = tmp_path_factory.mktemp("whole")
            train(made[more], [*tiny.overrides(photos), *LONGER], *more)
        return made[more]

    return run


# Six steps an epoch; checkpoints after steps 2, 4, 6 (before the validation), 8, ...
MOMENTS = {
    "before the first checkpoint": ("on_train_batch_end", 2, False),
    "within a step": ("on_before_optimizer_step", 10, False),
    "between two steps": ("on_train_batch_end", 10, False),
    "before the last batch": ("on_train_batch_start", 12, False),
    "on the last batch of an epoch": ("on_train_batch_end", 12, False),
    "before a validation": ("on_validation_start", 2, True),
    "within a validation": ("on_validation_batch_end", 5, True),
    "after a validation": ("on_validation_end", 2, False),
    "after the best was kept": ("on_train_epoch_end", 2, False),
    "at an epoch's begin": ("on_train_epoch_start", 3, True),
    "while a checkpoint is written": ("on_save_checkpoint", 4, False),
    "on the last batch of all": ("on_train_batch_end", 18, False),
    "at the end of training": ("on_train_end", 1, False),
    "in the test": ("on_test_batch_end", 1, False),
}


RARE = {
    *("before the last batch", "before a validation", "after a validation"),
    *("at an epoch's begin", "on the last batch of all", "in the test"),
    *("validation every second epoch", "so many steps", "another schedule", "early stopping"),
    *("a budget, within a validation", "a budget, after a validation"),
    *("a budget, at the end of training", "a budget, at an epoch's end"),
}


def each(names):
    return [pytest.param(n, marks=pytest.mark.slow) if n in RARE else n for n in names]


@pytest.mark.parametrize("moment", each(MOMENTS))
def test_a_run_that_was_cut_ends_as_one_left_alone(moment, cut, whole, words, tmp_path):
    cut(*MOMENTS[moment], tmp_path, words)
    assert not (tmp_path / "results.json").exists()
    train(tmp_path, words, "resume=auto")
    assert kills.differences(whole(), tmp_path) == []


STEP, WITHIN = ("on_train_batch_end", 10, False), ("on_validation_batch_end", 5, False)
# Thirty steps; validations after 4, 8, 12 (an epoch's end), 15, ... and 30.
OF_BUDGET = {
    "between two steps": STEP,
    "within a validation": WITHIN,
    "at an epoch's end": ("on_validation_batch_end", 8, False),
    "after a validation": ("on_train_batch_start", 9, True),
    "within the last validation": ("on_validation_batch_end", 23, False),
    "at the end of training": ("on_train_end", 1, False),
}
CHOICES = {
    "averaged weights": (STEP, "callbacks=ema"),
    "norms of gradients": (WITHIN, "callbacks=gradients"),
    "early stopping": (WITHIN, "callbacks=early_stopping", "callbacks.early_stopping.patience=1"),
    "validation within the epoch": (WITHIN, "+trainer.val_check_interval=0.5"),
    "validation every second epoch": (STEP, "trainer.check_val_every_n_epoch=2"),
    "accumulated gradients": (
        STEP,
        *("trainer.accumulate_grad_batches=2", "callbacks.last.every=1"),
    ),
    "so many steps": (STEP, "+trainer.max_steps=15"),
    "another schedule": (STEP, "scheduler=step", "optimizer=momentum"),
    "weights of a released model": (STEP, "init=unet"),
    **{f"a budget, {name}": (moment, "budget=60samples") for name, moment in OF_BUDGET.items()},
}


@pytest.mark.slow
@pytest.mark.parametrize("choice", each(CHOICES))
def test_so_it_does_with_other_choices(choice, cut, whole, words, tmp_path):
    moment, *more = CHOICES[choice]
    cut(*moment, tmp_path, words, *more)
    train(tmp_path, words, *more, "resume=auto")
    assert kills.differences(whole(*more), tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_it_repeats_with_any_number_of_workers_before_and_after(
    workers, cut, whole, words, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        splits, "run_when_idle", lambda: None
    )  # or on a busy machine the test would wait for them
    train(tmp_path / "repeated", words, f"data.workers={workers}")
    assert kills.differences(whole(), tmp_path / "repeated") == []
    if workers == 2:
        folder = tmp_path / "resumed"
        cut("on_train_batch_end", 11, False, folder, words, "data.workers=2")
        train(folder, words, "data.workers=1", "resume=auto")
        assert kills.differences(whole(), folder) == []


def test_the_comparison_sees_what_differs(whole, words, tmp_path):
    train(tmp_path, words, "seed=1")
    found = kills.differences(whole(), tmp_path)
    for part in ("state_dict", "exp_avg", "train/loss", "test/psnr", "rmse"):
        assert any(part in line for line in found), part


def test_half_a_checkpoint_is_not_taken(cut, whole, words, tmp_path, capsys):
    cut(*MOMENTS["between two steps"], tmp_path, words)
    last = tmp_path / "checkpoints" / "last.ckpt"
    (tmp_path / "checkpoints" / "last.ckpt.part").write_bytes(last.read_bytes()[:-1000])
    train(tmp_path, words, "resume=auto")
    assert "from epoch 1, step 8" in capsys.readouterr().out
    assert kills.differences(whole(), tmp_path) == []
    assert not list(tmp_path.rglob("*.part"))


def test_a_damaged_one_is_not_taken(cut, whole, words, tmp_path, capsys):
    cut(*MOMENTS["between two steps"], tmp_path, words)
    last = tmp_path / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"last.ckpt is no checkpoint to go on from; resume=auto"):
        train(tmp_path, words, f"ckpt={tmp_path}")
    train(tmp_path, words, "resume=auto")
    assert "begins anew" in capsys.readouterr().out
    assert kills.differences(whole(), tmp_path) == []


def test_a_finished_run_is_left_alone(whole, words, capsys):
    folder = whole()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    capsys.readouterr()
    for how in ("resume=auto", f"ckpt={folder}"):
        figures = train(folder, words, how)
        assert figures == json.loads((folder / "results.json").read_text())
    assert capsys.readouterr().out == f"finished before, and left as it is: {folder}\n" * 2
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_another_config_is_refused_and_speed_is_not(cut, words, tmp_path):
    cut(*MOMENTS["between two steps"], tmp_path, words)
    for word, said in (
        ("optimizer.lr=0.5", r"optimizer.lr=0.5, but the run has optimizer.lr=0.0"),
        ("trainer.max_epochs=9", r"trainer.max_epochs=9, but the run has trainer.max_epochs=3"),
        ("+optimizer.weight_decay=1", r"weight_decay=1, but the run has no optimizer.weight_decay"),
    ):
        with pytest.raises(UserError, match=said):
            train(tmp_path, words, word, "resume=auto")
    train(tmp_path, words, "data.workers=1", "print_config=true", f"ckpt={tmp_path}")
    environment = json.loads((tmp_path / "environment.json").read_text())
    assert environment["seeds"] == {"seed": 0, "data.seed": 0, "data.eval_seed": 0}
    assert environment["went_on"][0]["packages"]["torch"] == torch.__version__


def test_a_run_may_be_moved_before_it_goes_on(cut, whole, words, tmp_path):
    cut(*MOMENTS["within a validation"], tmp_path / "old", words)
    (tmp_path / "old").rename(tmp_path / "new")
    train(tmp_path / "new", words, "resume=auto")
    assert kills.differences(whole(), tmp_path / "new") == []
    assert not (tmp_path / "old").exists()


def test_without_resume_nothing_of_the_old_run_is_left(cut, whole, words, tmp_path):
    cut(*MOMENTS["between two steps"], tmp_path, [*words, "seed=5"])
    cut(*MOMENTS["before the first checkpoint"], tmp_path, words)
    train(tmp_path, words, "resume=auto")
    assert kills.differences(whole(), tmp_path) == []


def test_nor_is_what_it_left_beside(whole, words, tmp_path):
    for name in ("bad_batch.json", "broken_photos.tsv", "panels/val_epoch99.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    train(tmp_path, words)
    assert kills.differences(whole(), tmp_path) == []


def test_a_run_without_a_checkpoint_keeps_its_words(tmp_path, monkeypatch):
    """What ``ckpt=`` takes up was asked for by them, and may be stopped and taken up again."""
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text("- model=resnet\n")
    now = SimpleNamespace(overrides=SimpleNamespace(task=[f"ckpt={tmp_path}"]))
    monkeypatch.setattr(runs.HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(runs.HydraConfig, "get", lambda: now)
    for ckpt, kept in ((str(tmp_path), ["model=resnet"]), (None, [f"ckpt={tmp_path}"])):
        runs.start(tmp_path, OmegaConf.create({"ckpt": ckpt}), {})
        assert sweeps.read_overrides(tmp_path) == kept


def test_a_stop_before_the_first_checkpoint_says_so(tmp_path, capsys):
    last = SimpleNamespace(path=tmp_path / "last.ckpt", signal=signal.SIGTERM)
    with pytest.raises(SystemExit) as left:
        tiny.entry_point("train").leave(SystemExit(128 + signal.SIGTERM), last, tmp_path)
    assert left.value.code == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "stopped by SIGTERM; nothing was saved\n"


def test_two_processes_do_not_train_in_one_folder(tmp_path):
    held = (
        "import sys; from pathlib import Path; from clearmark import resume\n"
        "resume.hold(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", held, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=tiny.ROOT,
    ) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="trained in by another process"):
            resume.hold(tmp_path)
        other.kill()
    resume.hold(tmp_path)


def test_a_table_of_metrics_goes_on_where_it_is_told(tmp_path):
    whole, broken = MetricsFile(tmp_path / "whole"), MetricsFile(tmp_path / "broken")
    rows = [{"a": 0.1 * n, **({"b,c": n} if n % 3 == 2 else {})} for n in range(9)]
    for step, row in enumerate(rows):
        whole.log_metrics(row, step)
        whole.save()
    for step, row in enumerate(rows[:5]):
        broken.log_metrics(row, step)
        broken.save()
    with (tmp_path / "broken" / "metrics.csv").open("a") as file:
        file.write("0.5,")  # half a row
    again = MetricsFile(tmp_path / "broken")
    again.go_on(3)
    assert again.rows == 3
    for step, row in list(enumerate(rows))[3:]:
        again.log_metrics(row, step)
        again.save()
    found = [(tmp_path / run / "metrics.csv").read_bytes() for run in ("whole", "broken")]
    assert found[0] == found[1]
    with (tmp_path / "whole" / "metrics.csv").open() as file:
        assert [row["b,c"] for row in csv.DictReader(file)] == [
            "",
            "",
            "2",
            "",
            "",
            "5",
            "",
            "",
            "8",
        ]


def test_wandb_goes_on_with_its_run(tmp_path):
    for name in ("offline-run-20260101_000000-abc123", "offline-run-20260102_000000-def456"):
        (tmp_path / "wandb" / name).mkdir(parents=True)
    logger = WandbLogger(save_dir=str(tmp_path), offline=True)
    assert logger.version is None
    logger.go_on()
    assert logger.version == "def456"


def test_the_batches_of_numbered_samples_are_the_epoch():
    for epoch, seen in ((0, 0), (2, 0), (2, 4), (2, 10)):
        batches = EpochBatches(Counted(10), 10, 2, epoch=epoch, seen=seen)
        drawn = [key for batch in batches for key in batch]
        assert drawn == [(epoch, number) for number in range(seen, 10)]
        assert len(batches) == 5
    batches = EpochBatches(Counted(10), 10, 2, fresh=False, epoch=2, seen=4)
    assert next(iter(batches)) == [(0, 4), (0, 5)]


def test_checkpoints_cost_nothing_between():
    """Two comparisons a step: see that no other work crept in."""
    callback, trainer = Last("nowhere", every=10**9), L.Trainer(logger=False, accelerator="cpu")
    trainer.strategy.connect(L.LightningModule())
    began = time.perf_counter()
    for at in range(2000):
        callback.on_train_batch_start(trainer, None, None, at)
    assert (time.perf_counter() - began) / 2000 < 1e-4


# As commands, for signals.


def command(words, folder, *more):
    return subprocess.Popen(
        [sys.executable, str(tiny.ROOT / "src" / "train.py"), *words, *more],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def trained(folder, steps=3):
    """Wait until a run has done so many steps."""
    for _ in range(1200):
        found = folder / "metrics.csv"
        if found.is_file() and len(found.read_text().splitlines()) > steps:
            return
        time.sleep(0.1)
    raise TimeoutError


LONG = ("data.samples_per_epoch=4000", "trainer.max_epochs=1")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT"])
def test_signals_save_first(how, cut, words, tmp_path):
    """The workers get the signal as well, as from a terminal or a cluster."""
    number, folder = getattr(signal, how), tmp_path / "run"
    words = [word for word in words if not word.startswith(("trainer.max_epochs", "data.samples"))]
    words = [*words, *LONG[:2], "callbacks.last.every=10000"]
    process = command(words, tmp_path, "data.workers=1", f"hydra.run.dir={folder}")
    trained(folder)
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=60)
    last = folder / "checkpoints" / "last.ckpt"
    assert process.returncode == 128 + number, said
    kept = f"the network so far is in {last}; ckpt={folder} goes on"
    assert said.splitlines()[-1].endswith(kept)
    assert "Traceback" not in said
    assert not (folder / "results.json").exists()
    found = torch.load(last, weights_only=True)
    step = found["global_step"]
    assert 0 < step < 2000
    # What stands there is the state after that step and of no other.
    other = tmp_path / "other"
    cut("on_train_batch_end", step + 1, False, other, words, f"callbacks.last.every={step}")
    expected = torch.load(other / "checkpoints" / "last.ckpt", weights_only=True)
    assert expected["global_step"] == step
    for key, value in expected["state_dict"].items():
        assert torch.equal(value, found["state_dict"][key])
    assert found["loops"] == expected["loops"]


@pytest.mark.slow
def test_as_typed(photos, tmp_path):
    """Killed for good; then the same words and resume=auto, or the folder alone."""
    words = [*tiny.overrides(photos), *LONGER, "data.samples_per_epoch=200"]
    process = command(words, tmp_path)
    while not (found := list(tmp_path.glob("outputs/*/*/checkpoints/last.ckpt"))):
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    folder = found[0].parents[1]
    stopped = command(words, tmp_path, "resume=auto")
    out = stopped.stdout.readline()
    assert out.startswith(f"goes on in {folder}")
    os.killpg(stopped.pid, signal.SIGKILL)
    stopped.communicate()
    done = command([], tmp_path, f"ckpt={folder.relative_to(tmp_path)}", "data.workers=1")
    out, said = done.communicate(timeout=120)
    assert done.returncode == 0, said
    assert "goes on in" in out
    assert (folder / "results.json").is_file()
    assert list(tmp_path.glob("outputs/*/*")) == [folder], "another folder was left behind"
