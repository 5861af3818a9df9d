"""Runs on a Weights & Biases server, as ``runs.load`` gives those on disk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
import wandb

from clearmark import finished
from clearmark.errors import UserError

PICTURES = Path("wandb") / "online"  # where they are fetched to, as wandb keeps its own files
PANEL = re.compile(r"media/images/test/panel_\w+\.png")
FAILED = ("failed", "crashed", "killed")
GOES_ON = ("running", "pending", "preempting", "preempted")
ROWS = 10_000  # of a run's curves; the server thins out more
# As a run was named on disk, where its name is what its command line set: comma and key.
NEXT = re.compile(r",(?=[~+]*[\w./@-]+=)")


def fetch(project: str) -> Iterator[tuple[str, finished.Run]]:
    """The runs of a project, the oldest first; those that go on are left out.

    What the command line set is read from a run's name, where that tells it, as training names it.

    Args:
        project: ``ENTITY/PROJECT``.

    Raises:
        UserError: the server does not answer, or knows no such project or no account.
    """
    if not re.fullmatch(r"[^/\s]+/[^/\s]+", project):
        raise UserError(f"{finished.ONLINE}{project} is no project; give wandb://ENTITY/PROJECT")
    try:
        for run in wandb.Api().runs(project, lazy=False):
            if run.state not in GOES_ON:
                yield f"{finished.ONLINE}{project}/{run.id}", _read(run, project)
    except (wandb.errors.Error, requests.RequestException, ValueError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{finished.ONLINE}{project}: {why} (an account: wandb login)") from error


def _read(run: Any, project: str) -> finished.Run:
    curves = run.history(samples=ROWS)
    curves = curves.rename(columns={"trainer/global_step": "step"})
    kept = [name for name in curves if name == "step" or "/" in name]
    summary = {k: v for k, v in run.summary_metrics.items() if not k.startswith("_")}
    return finished.Run(
        typed=_typed(str(run.name)),
        figures={k: v for k, v in summary.items() if isinstance(v, int | float)},
        curves=finished.numeric(curves[kept]),
        panels=list(_panels(run, PICTURES / project / Path(run.id).name)),
        checkpoint=None,  # training sends none
        config=finished.flat(run.config) if run.config else {},
        failed=run.state if run.state in FAILED else "",
    )


def _typed(name: str) -> dict[str, Any]:
    words = NEXT.split(name)
    try:
        return finished.parse(words)
    except Exception:  # a name that somebody gave
        return {"name": name}


def _panels(run: Any, folder: Path) -> Iterator[Path]:
    """Fetch the pictures of the test."""
    for file in run.files(pattern="media/images/test/%"):
        if not PANEL.fullmatch(file.name):
            continue
        # wandb's own process fetches it, which may have begun in another folder.
        file.download(root=str(folder.absolute()), exist_ok=True).close()
        yield folder / file.name
