"""Every notebook runs from scratch, and what it keeps of its last run is whole."""

import os
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = [pytest.param(path, id=path.stem) for path in sorted(FOLDER.glob("*.ipynb"))]
LARGEST = 1_000_000  # bytes


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def check(notebook):
    """Each cell was run, in order; no output is an error or a warning, and there are pictures."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    found = outputs(notebook)
    assert "error" not in {output.output_type for output in found}
    assert not [output.text for output in found if output.get("name") == "stderr"]
    kinds = {kind for output in found for kind in output.get("data", {})}
    assert kinds & {"image/png", "image/jpeg"}


def left():
    """What lies in the repository, and when it was changed."""
    return {file: file.stat().st_mtime_ns for file in FOLDER.parent.glob("[!.]*")}


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_the_outputs_are_kept(path):
    assert path.stat().st_size < LARGEST
    text = path.read_text("utf-8")
    assert str(FOLDER.parent) not in text
    check(nbformat.reads(text, as_version=4))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS)
def test_it_runs_from_scratch(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FOLDER.parent / "src"), *sys.path]))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = left()
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": FOLDER}}
    )
    client.execute()
    check(notebook)
    assert len(nbformat.writes(notebook)) < LARGEST
    assert left() == before
