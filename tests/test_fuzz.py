"""The fuzz target of ``tests/fuzz`` runs over its corpus, and a little beyond."""

import re
import subprocess
import sys

import pytest
import tiny

FUZZ = tiny.ROOT / "tests" / "fuzz"


def test_opening_pictures(tmp_path):
    pytest.importorskip("atheris", reason="pip install atheris")
    done = subprocess.run(
        [
            *(sys.executable, FUZZ / "open_picture.py", "-runs=3000", "-seed=1"),
            *(f"-artifact_prefix={tmp_path}/", tmp_path, FUZZ / "corpus"),
        ],
        cwd=tiny.ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seeds = len(list((FUZZ / "corpus").iterdir()))
    assert f"{seeds} files found in {FUZZ / 'corpus'}" in done.stderr
    assert "Done 3000 runs" in done.stderr
    # The instrumented code is ours and Pillow's: a target that reaches neither covers next to none.
    assert int(re.findall(r"cov: (\d+)", done.stderr)[-1]) > 1000


def test_the_corpus_is_small():
    files = list((FUZZ / "corpus").iterdir())
    assert len(files) < 100
    assert sum(file.stat().st_size for file in files) < 100_000
