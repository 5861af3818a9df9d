"""Two real processes: what they train and measure is what one does, and they end together."""

import contextlib
import csv
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import tiny
import torch

from clearmark import cli, config, ranks
from clearmark.errors import UserError

TRAIN = str(tiny.ROOT / "src" / "train.py")
# Neither the samples nor the batches divide by two processes.
UNEVEN = ["data.samples_per_epoch=13", "data.val_samples=5", "data.test_samples=5"]
# A mean over pictures without batch statistics: the gradient is that of the whole batch.
SAME = ["model=conv_fc", *tiny.NARROW["conv_fc"], "loss=mse", *UNEVEN, "callbacks.last.every=2"]
SMALL = [word for word in tiny.SMALL if not word.startswith(("trainer=", "trainer.detect"))]
TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.log_every_n_steps=1"]
SPEED = {"samples_per_second", "wall_seconds", "training_seconds"}

CALLBACK = """
import os, signal
import lightning as L
from clearmark.errors import UserError

class AtStep(L.Callback):  # does WHAT in process RANK at step STEP
    def on_train_batch_start(self, trainer, module, batch, at):
        rank, step, what = os.environ.get("AT_STEP", "-1 0 none").split()
        if (trainer.global_rank, trainer.global_step) == (int(rank), int(step)):
            if what == "fail":
                raise UserError("the power went off; pay the bill")
            if what.startswith("group-"):
                os.killpg(os.getpgrp(), getattr(signal, what[6:]))
            else:
                os.kill(os.getpid(), getattr(signal, what))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    base = tmp_path_factory.mktemp("two processes")
    tiny.photos(base / "photos")
    (base / "at_step.py").write_text(CALLBACK)
    return base


def words(home, epochs=2):
    return [
        *(*SMALL, *SAME, f"data.root={home / 'photos'}", f"trainer.max_epochs={epochs}"),
        *("trainer.log_every_n_steps=1", "+callbacks.at._target_=at_step.AtStep"),
    ]


def started(home, command, at_step="", **environment):
    path = f"{home}{os.pathsep}{environment.pop('PATH', '')}"
    own = {"PYTHONPATH": str(home), "CLEARMARK_TRUST": "at_step"}
    given = {"AT_STEP": at_step} if at_step else {}
    return subprocess.Popen(
        command,
        cwd=home,
        env={**os.environ, **own, **given, **environment, "PATH": path + os.environ["PATH"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C in a test is not for pytest
    )


def ended(process, seconds=150):
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return SimpleNamespace(status=process.returncode, out=out, err=err)


def two(home, name, at_step="", more=()):
    folder = home / name
    command = [sys.executable, TRAIN, *words(home), *TWO, f"hydra.run.dir='{folder}'", *more]
    return folder, ended(started(home, command, at_step))


@pytest.fixture(scope="module")
def run(home):
    folder, done = two(home, "once", more=["print_config=true"])
    assert done.status == 0, done.err
    return folder, done


def weights(folder, name="last.ckpt"):
    content = torch.load(folder / "checkpoints" / name, weights_only=True)
    return content["state_dict"] | {"optimizer": content["optimizer_states"]}


def leaves(node):
    if isinstance(node, dict):
        return [leaf for key in sorted(node, key=str) for leaf in leaves(node[key])]
    return [leaf for one in node for leaf in leaves(one)] if isinstance(node, list) else [node]


def equal(one, other):
    pairs = list(zip(leaves(one), leaves(other), strict=True))
    return all(torch.equal(*p) if isinstance(p[0], torch.Tensor) else p[0] == p[1] for p in pairs)


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        found = list(csv.DictReader(file))
    return [{name: cell for name, cell in row.items() if name != "train/seconds"} for row in found]


def figures(folder):
    found = json.loads((folder / "results.json").read_text())
    return {name: value for name, value in found.items() if name not in SPEED}


@pytest.mark.slow
def test_only_one_process_speaks_and_writes(run, home):
    folder, done = run
    assert done.err == ""
    assert done.out.count("strategy: ddp") == 1
    assert done.out.count("Test split:") == 1
    steps = [row["step"] for row in rows(folder) if row["train/loss"]]
    assert steps == [str(number) for number in range(6)]  # 13 samples: three steps of two by two
    assert not list(folder.glob("*.log"))
    assert not (home / "outputs").exists()


@pytest.mark.slow
def test_the_same_command_gives_the_same_bits(run, home):
    folder, done = two(home, "twice")
    assert done.status == 0, done.err
    assert equal(weights(folder), weights(run[0]))
    assert equal(weights(folder, "best.ckpt"), weights(run[0], "best.ckpt"))
    assert figures(folder) == figures(run[0])
    assert rows(folder) == rows(run[0])


def test_two_processes_are_one_with_twice_the_batch(run, home, monkeypatch):
    monkeypatch.syspath_prepend(str(home))
    monkeypatch.setenv("CLEARMARK_TRUST", "at_step")
    given = [*words(home), "trainer=cpu", "data.batch_size=4", f"folder='{home / 'alone'}'"]
    tested = tiny.entry_point("train").train(tiny.config(*given))
    together = figures(run[0])
    for name in [name for name in tested if name.startswith("test/")]:
        assert math.isclose(tested[name], together[name], rel_tol=1e-4), name
    mine, theirs = weights(home / "alone"), weights(run[0])
    for key in mine.keys() - {"optimizer"}:
        torch.testing.assert_close(mine[key], theirs[key], rtol=1e-4, atol=1e-6)
    losses = [
        [float(r["train/loss"]) for r in rows(f) if r["train/loss"]]
        for f in (home / "alone", run[0])
    ]
    torch.testing.assert_close(*map(torch.tensor, losses), rtol=1e-4, atol=0)


def test_figures_are_those_of_one_process_with_these_weights(run, home):
    """Of five pictures one process has three: a repeated one would show."""
    from lightning import Trainer

    from clearmark.config import create
    from clearmark.removal import Removal
    from clearmark.runs import load_network

    given = [*SMALL, *SAME, f"data.root={home / 'photos'}", f"folder={home}"]
    data = create(tiny.config(*given).data)
    module = Removal(load_network(run[0])[0].to(memory_format=torch.channels_last))
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    alone = Trainer(accelerator="cpu", use_distributed_sampler=False, **quiet)
    tested = alone.test(module, data, verbose=False)[0]
    assert len(tested) > 10
    for name, value in tested.items():
        assert math.isclose(value, figures(run[0])[name], rel_tol=1e-5, abs_tol=1e-6), name


STAND_INS = {
    "srun": """
status=0 tasks=()
while [[ $1 == --* ]]; do shift; done
for number in 0 1; do
    SLURM_PROCID=$number SLURM_LOCALID=$number SLURM_NODEID=0 "$@" & tasks+=($!)
done
for task in "${tasks[@]}"; do wait $task; s=$?; (( s > status )) && status=$s; done
exit $status
""",
    "scontrol": 'echo "$@" >> "$(dirname "$0")/scontrol.log"\n',
}


def script():
    page = (tiny.ROOT / "docs" / "clusters.md").read_text()
    return re.search(r"```bash\n(.*?)```", page, re.S)[1].replace("src/train.py", TRAIN)


def job_number():
    """One that Lightning makes a free port of."""
    for number in range(4000, 9999):
        with socket.socket() as free:
            if free.connect_ex(("127.0.0.1", 15000 + number)):
                return str(number)
    raise AssertionError


@pytest.mark.slow
def test_a_slurm_job_stops_is_requeued_and_goes_on_exactly(run, home):
    texts = STAND_INS | {"python": f'exec "{sys.executable}" "$@"\n'}
    (home / "cluster").mkdir()
    for name, text in texts.items():
        (home / "cluster" / name).write_text("#!/bin/bash\n" + text)
        (home / "cluster" / name).chmod(0o755)
    (home / "train.sh").write_text(script())
    job = job_number()
    slurm = {
        **{"SLURM_JOB_ID": job, "SLURM_JOB_NAME": "train", "SLURM_NODELIST": "127.0.0.1"},
        **{"SLURM_NNODES": "1", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"},
        **{"SLURM_CPUS_PER_TASK": "0", "PATH": f"{home / 'cluster'}{os.pathsep}"},
    }
    command = ["bash", "train.sh", *words(home), "trainer.accelerator=cpu"]
    # The signal reaches one process alone, which is not the one that saves.
    first = ended(started(home, command, "1 4 SIGUSR1", **slurm))
    folder = home / "outputs" / "slurm" / job
    assert first.status == cli.AGAIN, first.err
    assert (home / "cluster" / "scontrol.log").read_text() == f"requeue {job}\n"
    assert first.err.count("stopped by SIGUSR1; the network so far is in") == 1
    assert not (folder / "results.json").exists()
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 5
    second = ended(started(home, command, **slurm))
    assert second.status == 0, second.err
    assert f"goes on in {folder} from epoch 1, step 5" in second.out
    assert (home / "cluster" / "scontrol.log").read_text() == f"requeue {job}\n"
    assert equal(weights(folder), weights(run[0]))
    assert figures(folder) == figures(run[0])
    assert rows(folder) == rows(run[0])
    assert not list(folder.rglob("hpc_ckpt*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "status"), [("group-SIGINT", 130), ("group-SIGTERM", 143), ("SIGTERM", 143)]
)
def test_a_signal_stops_all_with_one_line_and_saves(home, what, status):
    """To the group means: to the processes that make samples as well."""
    folder, done = two(home, what, f"0 4 {what}", more=["data.workers=1"])
    assert done.status == status
    lines = [line for line in done.err.splitlines() if line]
    assert lines[0] == "stopping after this step"
    assert len(lines) == 2, lines
    assert "the network so far is in" in lines[1]
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 5


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_one_that_fails_ends_the_other(home, rank):
    began = time.monotonic()
    folder, done = two(home, f"fails {rank}", f"{rank} 4 fail")
    assert done.status == 2
    lines = done.err.splitlines()
    assert lines[0] == "error: the power went off; pay the bill"
    assert lines[1:] == [
        "error: another process of the run ended; what it said stands above, if it was not killed"
    ] * (rank == 1)
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    assert time.monotonic() - began < 100


def refusal(*given):
    with pytest.raises(UserError) as refused:
        config.check(tiny.config(*SMALL, "data.root=photos", "folder=run", *TWO, *given))
    return str(refused.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["data.val_samples=1"], "data.val_samples=1 leaves one of 2 processes without work"),
        (["data.test_samples=1"], "data.test_samples=1 leaves .* give 2 or more"),
        (["data.samples_per_epoch=3"], "samples_per_epoch=3 .* give 4 or more with data.batch"),
        (["trainer.num_nodes=3", "data.samples_per_epoch=99"], "val_samples=2 leaves one of 6"),
        (["trainer.devices=[0,1,2]", "data.samples_per_epoch=99"], "val_samples=2 leaves one of 3"),
        (["optimizer=gd"], "optimizer=gd .* not in 2; use trainer=cpu"),
        (["trainer.sync_batchnorm=true"], "sync_batchnorm=true needs GPUs"),
    ],
)
def test_what_processes_cannot_share_is_refused(given, message):
    assert re.search(message, refusal(*given))


def test_evaluation_is_left_to_one_process(composed):
    cfg = composed("evaluate", "ckpt=run", "trainer=ddp", "folder=run")
    with pytest.raises(UserError, match="is for training; measure in one process"):
        ranks.check(cfg)


@pytest.mark.parametrize(
    ("devices", "gpus", "several"),
    [("[1]", 2, False), ("[0,1]", 2, True), ("auto", 1, False), ("auto", 2, True), ("-1", 2, True)],
)
def test_one_device_of_several_is_one_process(devices, gpus, several, composed, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    cfg = composed(
        "evaluate", "ckpt=run", "trainer=gpu", f"trainer.devices={devices}", "folder=run"
    )
    with pytest.raises(UserError) if several else contextlib.nullcontext():
        ranks.check(cfg)


@pytest.mark.parametrize("name", ranks.STARTED)
def test_processes_started_by_others_need_a_folder(name, monkeypatch):
    monkeypatch.setenv(name, "2")
    typed = SimpleNamespace(hydra=["hydra.job.name=x"], task=["trainer=ddp"])
    fake = SimpleNamespace(overrides=typed, mode=None)
    monkeypatch.setattr(ranks.HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(ranks.HydraConfig, "get", lambda: fake)
    monkeypatch.setattr(ranks.sweeps, "in_one", lambda: False)
    assert "add hydra.run.dir=FOLDER" in refusal()
    typed.hydra.append("hydra.run.dir=here")
    ranks.check(tiny.config(*SMALL, "data.root=photos", "folder=run", *TWO))


@pytest.mark.parametrize("environment", [{"RANK": "3"}, {"LOCAL_RANK": "3"}, {"SLURM_PROCID": "3"}])
def test_a_process_knows_its_rank(environment, monkeypatch):
    for name in ranks.RANKS:
        monkeypatch.delenv(name, raising=False)
    assert ranks.rank() == 0
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert ranks.rank() == 3
