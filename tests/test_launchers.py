"""Launchers and sweepers: other processes make the same figures, fail, go on and end the same."""

import csv
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time

import optuna
import pytest
import tiny
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from clearmark import launchers

SPEED = {"samples_per_second", "training_seconds", "wall_seconds"}
# Stands for a training: a program of this package's kind whose jobs take no time.
PROGRAM = """
import os, time
from pathlib import Path
import hydra
from clearmark import cli, runs

@hydra.main(version_base="1.3", config_path="../conf", config_name="program")
@cli.entry
def main(cfg):
    folder = Path(cfg.folder)
    runs.start(folder, cfg, {})
    with open(folder / "times", "a") as file:
        file.write("once ")
    if cfg.sleep:
        (folder / "pid").write_text(str(os.getpid()))
        time.sleep(cfg.sleep)
    if cfg.y < 5.5 and not Path("mended").exists():
        raise RuntimeError("y is low")
    runs.write_json(folder / "results.json", {cfg.objective: cfg.y})
    return cfg.y

cli.run(main)
"""
CONFIG = """
defaults: [_self_, {launcher: local}, {sweeper: grid}]
y: 1.0
sleep: 0
threads: null
resume: null
ckpt: null
objective: test/psnr
name: ${hydra:job.override_dirname}
folder: ${hydra:runtime.output_dir}
hydra:
  output_subdir: null
  callbacks: {begun: {_target_: clearmark.sweeps.Begun}}
  job_logging: {handlers: {file: {delay: true}}}
"""


def started(command, folder):
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=folder,
        env=os.environ | {"HYDRA_FULL_ERROR": "", "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ran(command, folder=tiny.ROOT):
    process = started(command, folder)
    process.out, process.err = process.communicate()
    return process


@pytest.fixture
def program(tmp_path):
    """The program's path, in a tree with this package's launchers and sweepers."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "program.py").write_text(PROGRAM)
    for group in ("launcher", "sweeper"):
        shutil.copytree(tiny.ROOT / "conf" / group, tmp_path / "conf" / group)
    (tmp_path / "conf" / "program.yaml").write_text(CONFIG)
    return tmp_path / "src" / "program.py"


def table(folder):
    with (folder / "sweep.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def figures(job):
    found = json.loads((job / "results.json").read_text())
    return {name: value for name, value in found.items() if name not in SPEED}


@pytest.fixture(scope="module")
def by(tmp_path_factory):
    """Runs the same four tiny jobs, two of which are wrong, by a launcher, once."""
    root, known = tmp_path_factory.mktemp("launchers"), {}
    photos = tiny.photos(root / "photos")

    def by(words):
        if words not in known:
            folder = root / words.partition("=")[2]
            swept = ["seed=0,1", "trainer.max_epochs=0,1", "data.workers=1"]
            command = ["src/train.py", "-m", *tiny.overrides(photos), *swept]
            known[words] = folder, ran([*command, words, f"hydra.sweep.dir={folder}"])
        return known[words]

    return by


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", ["launcher=joblib", "launcher=ray", "hydra/launcher=submitit_local"]
)
def test_the_figures_are_the_same_by_any_launcher(words, by):
    (first, told), (folder, done) = by("launcher=local"), by(words)
    assert (told.returncode, done.returncode) == (2, 2), done.err
    assert "2 of 4 jobs failed" in done.err
    for job in ("1", "3"):
        assert figures(folder / job) == figures(first / job)
        assert (folder / job / "panels" / "test.png").read_bytes() == (
            first / job / "panels" / "test.png"
        ).read_bytes()
        assert OmegaConf.load(folder / job / "config.yaml").name == (
            f"seed={job == '3':d},trainer.max_epochs=1"
        )
    for job in ("0", "2"):
        assert "max_epochs=0" in json.loads((folder / job / "failed.json").read_text())["reason"]
    keys = ("job", "seed", "trainer.max_epochs", "test/psnr_gain")
    assert [[row[k] for k in keys] for row in table(folder)] == [
        [row[k] for k in keys] for row in table(first)
    ]


@pytest.mark.slow
def test_other_processes_fail_and_go_on_as_this_one(program, tmp_path):
    command = [program, "-m", "launcher=joblib", "jobs=2", "y=1,6,9", "hydra.sweep.dir=sweep"]
    done = ran(command, tmp_path)
    assert done.returncode == 2
    assert done.err.startswith("error: 1 of 3 jobs failed")
    assert [row["y"] for row in table(tmp_path / "sweep")] == ["9", "6", "1"]
    (tmp_path / "mended").touch()
    again = ran([*command[:2], "launcher=local", *command[4:]], tmp_path)
    assert again.returncode == 0, again.err
    assert [row["failed"] for row in table(tmp_path / "sweep")] == ["", "", ""]
    times = [(tmp_path / "sweep" / job / "times").read_text() for job in "012"]
    assert times == ["once once ", "once ", "once "]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "ray"])
def test_no_process_is_left_at_sigterm(launcher, program, tmp_path):
    words = ["-m", f"launcher={launcher}", "jobs=2", "y=6,7,8", "sleep=90", "hydra.sweep.dir=sweep"]
    process = started([program, *words], tmp_path)
    until = time.monotonic() + 80
    while len(pids := list(tmp_path.glob("sweep/*/pid"))) < 2 and time.monotonic() < until:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    jobs = [int(path.read_text()) for path in pids]
    assert len(jobs) == 2
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode != 0
    while any(map(alive, jobs)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(map(alive, jobs))


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def trials(folder):
    engine = {"isolation_level": "AUTOCOMMIT"}
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'study.db'}", engine)
    return optuna.load_study("sweep", storage).trials


@pytest.mark.slow
def test_a_study_goes_on(program, tmp_path):
    folder = tmp_path / "sweep"
    command = [program, "-m", "sweeper=optuna", "y=interval(0,10)", f"hydra.sweep.dir={folder}"]
    first = ran([*command, "hydra.sweeper.n_trials=4"], tmp_path)
    assert "jobs failed" in first.err
    states = {trial.number: trial.state.name for trial in trials(folder)}
    failed = {int(row["job"]) for row in table(folder) if row["failed"]}
    assert 0 < len(failed) < 4
    assert {n for n, state in states.items() if state == "FAIL"} == failed
    values = [trial.params["y"] for trial in trials(folder)]

    (tmp_path / "mended").touch()
    second = ran([*command, "hydra.sweeper.n_trials=6"], tmp_path)
    assert second.returncode == 0, second.err
    assert second.out.count("done before") == 4 - len(failed)
    found = trials(folder)
    assert [trial.params["y"] for trial in found][:4] == values
    assert len({trial.params["y"] for trial in found}) == 6
    assert [trial.value for trial in found] == [trial.params["y"] for trial in found]
    for number in range(6):
        wanted = "once once " if number in failed else "once "
        assert (folder / str(number) / "times").read_text() == wanted
    best = max(trial.value for trial in found)
    assert float(table(folder)[0]["y"]) == best  # val/psnr: more is better


@pytest.fixture
def refused(monkeypatch, capfd, tmp_path):
    """Types a command in an empty folder; returns the one line that it ends with."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")
    monkeypatch.chdir(tmp_path)

    def type_in(*words):
        script = str(tiny.ROOT / "src" / "train.py")
        monkeypatch.setattr(sys, "argv", [script, *words])
        with pytest.raises(SystemExit) as left:
            runpy.run_path(script, run_name="__main__")
        line = capfd.readouterr().err
        assert left.value.code == 2
        assert line.startswith("error: ")
        assert line.count("\n") == 1
        assert not list(tmp_path.iterdir())
        return line

    return type_in


@pytest.mark.parametrize(
    ("typed", "kind", "name", "extra"),
    [
        ("launcher=joblib", "launcher", "joblib", "joblib"),
        ("launcher=ray", "launcher", "ray", "ray"),
        ("launcher=slurm", "launcher", "submitit_slurm", "submitit"),
        ("sweeper=optuna", "sweeper", "optuna", "optuna"),
    ],
)
def test_a_missing_package_is_told_with_its_pip_line(
    typed, kind, name, extra, refused, monkeypatch
):
    Plugins.instance()  # finds what is installed, once
    monkeypatch.delitem(ConfigStore.instance().repo["hydra"][kind], f"{name}.yaml")
    line = refused("-m", typed, "seed=0,1")
    assert line == f'error: {typed} needs: pip install -c constraints.txt -e ".[{extra}]"\n'


@pytest.mark.parametrize("typed", ["launcher=joblib", "sweeper=optuna"])
def test_one_run_needs_no_launcher(typed, refused):
    assert f"{typed} is for many runs; add -m" in refused(typed)


@pytest.mark.slow
def test_ddp_is_refused_by_any_launcher(tmp_path):
    words = ["-m", "launcher=joblib", "trainer=ddp", "seed=0,1", f"hydra.sweep.dir={tmp_path}/x"]
    done = ran(["src/train.py", *words])
    assert done.returncode == 2
    assert "cannot run in a multirun" in done.err
    assert done.err.count("\n") == 1


def test_cores_are_divided_among_the_jobs(composed, monkeypatch):
    launchers.register_resolvers()
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(12)))
    for launcher in ("joblib", "ray"):
        cfg = composed("train", f"launcher={launcher}")
        assert (cfg.jobs, cfg.threads, cfg.data.workers) == (12, 1, 1)
        for jobs, share in ((1, 12), (4, 3), (5, 2), (24, 1)):
            cfg.jobs = jobs
            assert (cfg.threads, cfg.data.workers) == (share, min(share, 8))
    assert composed("train", "launcher=joblib", "jobs=4", "threads=5").threads == 5
    assert composed("train").threads is None


def test_a_cluster_of_ray_that_is_joined_keeps_its_own_size():
    path = tiny.ROOT / "conf" / "launcher" / "ray.yaml"
    for address, none in (("there:6379", True), (None, False)):
        cfg = OmegaConf.load(path)
        cfg.hydra.launcher.ray.init.address = address
        init = cfg.hydra.launcher.ray.init
        names = ("num_cpus", "object_store_memory", "include_dashboard")
        assert all((init[name] is None) is none for name in names)


@pytest.mark.parametrize(("mode", "group"), [("MULTIRUN", "2026-11-23/10-00-00"), ("RUN", None)])
def test_the_runs_of_a_sweep_are_one_group(mode, group, monkeypatch):
    launchers.register_resolvers()
    words = [f"hydra.mode={mode}", "hydra.sweep.dir=/x/multirun/2026-11-23/10-00-00"]
    with initialize_config_dir(str(tiny.ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", words, return_hydra_config=True)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    HydraConfig.instance().set_config(cfg)
    assert cfg.logger.wandb.group == group
