"""Sweeps: one failing job stops nothing, and what is done is not done again."""

import csv
import json
import os
import subprocess
import sys

import pytest
import tiny
from hydra import compose, initialize_config_dir

# Stands for a training: a program of this package's kind whose jobs take no time.
PROGRAM = """
import json, os, sys
from pathlib import Path
import hydra
from clearmark import cli, runs
from clearmark.errors import UserError

@hydra.main(version_base="1.3", config_path="../conf", config_name="program")
@cli.entry
def main(cfg):
    if cfg.x == 2:
        raise UserError("x=2 cannot be; use another")
    runs.start(Path(cfg.folder), cfg, {})
    if cfg.x == 3:
        raise RuntimeError("out of\\nmemory")
    if cfg.x == 4:
        raise KeyboardInterrupt
    with open(Path(cfg.folder) / "times", "a") as file:
        file.write("once ")
    runs.write_json(Path(cfg.folder) / "results.json", {cfg.objective: float(cfg.y) / cfg.x})
    return float(cfg.y) / cfg.x

cli.run(main)
"""
CONFIG = """
x: 1
y: 1.0
resume: null
ckpt: null
objective: {objective}
folder: ${{hydra:runtime.output_dir}}
hydra:
  output_subdir: null
  callbacks:
    begun:
      _target_: clearmark.sweeps.Begun
  job_logging:
    handlers:
      file:
        delay: true
"""


@pytest.fixture
def sweep(tmp_path):
    """Runs the program as a command in an empty folder."""
    root = tmp_path / "program"
    for name in ("src", "conf"):
        (root / name).mkdir(parents=True)
    (root / "src" / "program.py").write_text(PROGRAM)
    (tmp_path / "work").mkdir()

    def sweep(*words, objective="test/psnr"):
        (root / "conf" / "program.yaml").write_text(CONFIG.format(objective=objective))
        return subprocess.run(
            [sys.executable, str(root / "src" / "program.py"), *words],
            cwd=tmp_path / "work",
            env=os.environ | {"HYDRA_FULL_ERROR": "", "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
        )

    return sweep


def rows(folder):
    with (folder / "sweep.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_failing_job_stops_nothing_and_can_be_done_again(sweep, tmp_path):
    folder = tmp_path / "sweep"
    words = ["-m", "x=1,2,3,5", f"hydra.sweep.dir={folder}"]
    done = sweep(*words)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: 2 of 4 jobs failed")
    assert done.stderr.count("\n") == 1
    assert f"hydra.sweep.dir={folder}" in done.stderr
    table = rows(folder)
    assert [(row["x"], row["test/psnr"]) for row in table[:2]] == [("1", "1.0"), ("5", "0.2")]
    failed = {row["x"]: row["failed"] for row in table[2:]}
    assert failed == {"2": "x=2 cannot be; use another", "3": "RuntimeError: out of memory"}
    for word in ("x=2 cannot be; use another", "RuntimeError: out of memory", "0.200"):
        assert word in done.stdout
    kept = json.loads((folder / "2" / "failed.json").read_text())
    assert "Traceback" in kept["traceback"]
    assert json.loads((folder / "1" / "failed.json").read_text())["overrides"] == ["x=2"]

    again = sweep(*words)
    assert again.stdout.count("done before") == 2
    assert rows(folder) == table
    for job in ("0", "3"):
        assert (folder / job / "times").read_text() == "once "


@pytest.mark.slow
def test_a_sweep_that_was_stopped_is_finished(sweep, tmp_path):
    folder = tmp_path / "sweep"
    stopped = sweep("-m", "x=1,4,5", f"hydra.sweep.dir={folder}")
    assert stopped.returncode == 130
    assert stopped.stderr.strip().endswith("stopped; nothing was saved")
    assert [row["job"] for row in rows(folder)] == ["0"]
    (folder / "1" / "results.json").write_text('{"test/psnr": 7.0}')  # as if it had been done
    done = sweep("-m", "x=1,4,5", "resume=auto", f"hydra.sweep.dir={folder}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("done before") == 2
    assert [row["test/psnr"] for row in rows(folder)] == ["7.0", "1.0", "0.2"]


@pytest.mark.slow
def test_less_is_better_of_an_error(sweep, tmp_path):
    folder = tmp_path / "sweep"
    assert not sweep("-m", "x=1,5,6", f"hydra.sweep.dir={folder}", objective="test/rmse").returncode
    assert [row["x"] for row in rows(folder)] == ["6", "5", "1"]


@pytest.mark.slow
def test_results_of_another_command_are_not_taken(sweep, tmp_path):
    folder = tmp_path / "sweep"
    assert not sweep("-m", "x=1,5", f"hydra.sweep.dir={folder}").returncode
    before = {path: path.read_bytes() for path in folder.rglob("results.json")}
    done = sweep("-m", "x=1,6", f"hydra.sweep.dir={folder}")
    assert done.returncode == 2
    assert "holds the results of another command" in done.stderr
    for words in (["ckpt=a,b"], ["ckpt=c,d"]):
        done = sweep("-m", *words, f"hydra.sweep.dir={tmp_path / 'networks'}")
    assert "holds the results of another command" in done.stderr
    assert sorted(row["ckpt"] for row in rows(tmp_path / "networks")) == ["a", "b"]
    assert before == {path: path.read_bytes() for path in folder.rglob("results.json")}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["-m", "x=2,2"], "error: all 2 jobs: x=2 cannot be; use another"),
        (["-m", "z=1,2"], "error: z is neither a group nor a key"),
        (["x=2"], "error: x=2 cannot be; use another"),
    ],
)
def test_what_is_refused_leaves_nothing(words, line, sweep, tmp_path):
    done = sweep(*words)
    assert done.returncode == 2
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.slow
def test_a_sweep_of_trainings(tmp_path):
    photos = tiny.photos(tmp_path / "photos")
    words = ["-m", *tiny.overrides(photos), "trainer.max_epochs=0,1", "objective=test/psnr"]
    done = subprocess.run(
        [sys.executable, "src/train.py", *words, f"hydra.sweep.dir={tmp_path / 'sweep'}"],
        cwd=tiny.ROOT,
        env=os.environ | {"HYDRA_FULL_ERROR": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "1 of 2 jobs failed" in done.stderr
    found = rows(tmp_path / "sweep")
    assert [bool(row["failed"]) for row in found] == [False, True]
    assert "trainer.max_epochs=0 is not allowed" in found[1]["failed"]


@pytest.mark.slow
def test_quotes_are_not_part_of_a_value(sweep, tmp_path):
    sweep("-m", "y='1',\"2\"", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert {row["y"] for row in rows(tmp_path / "sweep")} == {"1", "2"}


@pytest.mark.slow
def test_the_table_has_no_empty_columns(sweep, tmp_path):
    """The program's jobs tell no time, and none of them fails."""
    done = sweep("-m", "x=1,5", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    lines = [line.split("│")[1:-1] for line in done.stdout.splitlines() if "│" in line]
    assert [[cell.strip() for cell in line] for line in lines] == [
        ["0", "1", "1.000"],
        ["1", "5", "0.200"],
    ]


@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluations_are_sorted_by_the_gain_on_their_split(split):
    with initialize_config_dir(str(tiny.ROOT / "conf"), version_base="1.3"):
        cfg = compose("evaluate", [f"split={split}", "ckpt=unet"])
    assert cfg.objective == f"{split}/psnr_gain"
