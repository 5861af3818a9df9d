"""Many runs by one command: what is done is not done again, and what fails stops nothing else.

The folder of a job holds ``results.json`` once it is done, or ``failed.json`` with the reason. So a
sweep's state lies on the disk alone, whichever launcher runs the jobs, and the same command with
``hydra.sweep.dir=<the old folder>`` finishes what was killed.
"""

from __future__ import annotations

import contextlib
import json
import math
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from clearmark.errors import UserError, first_line

RESULTS, FAILED, TABLE = "results.json", "failed.json", "sweep.csv"
OVERRIDES = Path(".hydra") / "overrides.yaml"
FREE = {"resume", "launcher", "jobs"}  # keys that may differ when a job is taken up again
NAMES = "hydra.job.config.override_dirname.exclude_keys"
STUDY = "study.db"  # Optuna's
LOWER = ("rmse",)  # figures of which less is better


class Begun(Callback):
    """Hydra's callback that notes what this process has begun, before Hydra makes any folder."""

    sweep: DictConfig | None = None
    new: Path | None = None  # the folder of the run or sweep, if it was not there before

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.run.dir)
        Begun.sweep, Begun.new = None, None if folder.exists() else folder

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        Begun.sweep, Begun.new = config, None if folder.exists() else folder
        typed = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        same = [o.key_or_group for o in typed if not o.is_sweep_override()]
        if len(same) < len(typed):  # the names of the jobs tell what differs
            keys = ",".join(f"'{key}'" for key in same)
            config.hydra.overrides.hydra.append(f"{NAMES}=[{keys}]")


def in_one() -> bool:
    """Whether this is a job of a multirun."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def less_is_better(figure: str) -> bool:
    """Whether a figure, by its name, is an error."""
    return any(name in figure for name in LOWER)


def job(main: Callable[[Any], Any], cfg: Any, tell: Callable[[Exception], str | None]) -> Any:
    """Call a job's main, unless its results are there; a failure is noted in the job's folder.

    Returns what main returns, or None if it fails.

    Args:
        main: returns what the sweep is judged by.
        cfg: the job's config.
        tell: the line for the user of an error, or None if it is the program's own.

    Raises:
        UserError: the folder holds the results of another command.
    """
    hydra = HydraConfig.get()
    folder, typed = Path(hydra.runtime.output_dir), list(hydra.overrides.task)
    if (folder / RESULTS).is_file():
        if _kept(typed) != _kept(read_overrides(folder)):
            raise UserError(f"{folder} holds the results of another command; use another folder")
        print(f"done before: {folder}")
        return json.loads((folder / RESULTS).read_text(encoding="utf-8")).get(cfg.get("objective"))
    (folder / FAILED).unlink(missing_ok=True)
    try:
        return main(cfg)
    except Exception as error:
        reason = tell(error) or " ".join(f"{type(error).__name__}: {error}".split())
        note = {"overrides": typed, "reason": reason, "traceback": traceback.format_exc()}
        from clearmark.runs import write_json  # torch, which only jobs need

        write_json(folder / FAILED, note)
        print(f"job {hydra.job.num} failed: {reason}")
        return None  # an exception would end a sweep with several batches, and nan Optuna's


def report() -> str | None:
    """Print the table of the sweep that has ended, best first, and leave it as ``sweep.csv``.

    Networks on the same budget get a table and a figure of their own beside it (``comparison``).

    Returns the line to end with if jobs have failed. A sweep of which no job began leaves nothing.
    """
    config, Begun.sweep = Begun.sweep, None
    if config is None:
        return None
    folder, objective = Path(config.hydra.sweep.dir), str(config.get("objective", ""))
    rows = sorted(_rows(folder, objective), key=lambda row: row["rank"])
    failed = [row["failed"] for row in rows if row["failed"]]
    if len(failed) == len(rows) and discard(FAILED, STUDY, "multirun.yaml"):
        every = "" if len(failed) < 2 else f"all {len(failed)} jobs: "
        return f"{every}{' | '.join(dict.fromkeys(failed))}" if failed else None
    if not rows:
        return None
    keys = [k for k in dict.fromkeys(k for row in rows for k in row["typed"]) if k not in FREE]
    swept = [key for key in keys if len({str(row["typed"].get(key)) for row in rows}) > 1]
    _write(folder / TABLE, rows, swept, objective)
    _show(folder, rows, swept, objective)
    if config.get("budget") is not None and len(failed) < len(rows):
        from clearmark import comparison

        budgets = dict.fromkeys(row["typed"].get("budget", str(config.budget)) for row in rows)
        print(comparison.write(folder / TABLE, " or ".join(budgets)))
        print(f"equal budget: {folder / 'table.md'}, {folder / 'figure.png'}")
    if not failed:
        return None
    return (
        f"{len(failed)} of {len(rows)} jobs failed; the reasons stand above and in their "
        f"{FAILED}; the same command with hydra.sweep.dir={folder} does only these again"
    )


def read_overrides(run: Path) -> list[str]:
    """What was typed for a run, as plain words; empty if that was not kept.

    Raises:
        UserError: the file is no list of words.
    """
    path = run / OVERRIDES
    if not path.is_file():
        return []
    try:
        # Not resolved: a run folder of somebody else's may hold ${...} of any kind.
        found = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        words = [str(word) for word in found or []]
        OverridesParser.create().parse_overrides(words)
    except Exception as error:
        raise UserError(
            f"{path} is not what Hydra writes; delete it: {first_line(error)}"
        ) from error
    return words


def discard(*names: str) -> bool:
    """Remove the folder that this process has made, unless more than ``names`` and logs are in it.

    Folders above it that are empty now go as well, if they lie below the working directory.
    """
    if (folder := Begun.new) is None:
        return False
    files = [path for path in folder.rglob("*") if not path.is_dir()]
    if any(path.name not in names and path.suffix != ".log" for path in files):
        return False
    with contextlib.suppress(OSError):
        for path in files:
            path.unlink()
        inside = sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True)
        above = [p for p in folder.absolute().parents if Path.cwd() in p.parents]
        for empty in [*inside, folder, *above]:
            empty.rmdir()
    return True


def _kept(words: list[str]) -> set[str]:
    return {word for word in words if word.partition("=")[0].lstrip("+") not in FREE}


def _rows(folder: Path, objective: str) -> Iterator[dict[str, Any]]:
    """A row for each job that is done or has failed."""
    found = sorted([*folder.rglob(RESULTS), *folder.rglob(FAILED)])
    for path in sorted(found, key=lambda p: (len(p.parts), len(p.parent.name))):
        content = json.loads(path.read_text(encoding="utf-8"))
        failed = content["reason"] if path.name == FAILED else ""
        words = content["overrides"] if failed else read_overrides(path.parent)
        parsed = OverridesParser.create().parse_overrides([str(word) for word in words])
        value = content.get(objective, math.nan)
        worse = value if less_is_better(objective) else -value
        yield {
            "job": str(path.parent.relative_to(folder)),
            "typed": {o.key_or_group: _plain(o.get_value_element_as_str()) for o in parsed},
            "value": value,
            "figures": {} if failed else content,
            "minutes": content.get("wall_seconds", math.nan) / 60,
            "failed": failed,
            "rank": math.inf if math.isnan(worse) else worse,
        }


def _write(path: Path, rows: list[dict[str, Any]], swept: list[str], objective: str) -> None:
    """A line for each job: what was swept, then every figure, the objective first."""
    import csv

    figures = list(dict.fromkeys([objective, *(name for row in rows for name in row["figures"])]))
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["job", *swept, "minutes", "failed", *filter(None, figures)])
        for row in rows:
            typed = [row["typed"].get(key, "") for key in swept]
            values = [row["figures"].get(name, "") for name in filter(None, figures)]
            table.writerow([row["job"], *typed, row["minutes"], row["failed"], *values])


def _show(folder: Path, rows: list[dict[str, Any]], swept: list[str], objective: str) -> None:
    """The same on the terminal, of all figures the objective alone."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    timed, failed = (any(found(row) for row in rows) for found in (_timed, _failed))
    table = Table("job", title=escape(f"Sweep: {len(rows)} jobs ({folder / TABLE})"))
    for head in [*map(escape, swept), objective, *["minutes"] * timed, *[""] * failed]:
        table.add_column(head)
    for row in rows:
        typed = [escape(row["typed"].get(key, "")) for key in swept]
        value = "" if _failed(row) else f"{row['value']:.3f}"
        minutes = [f"{row['minutes']:.1f}" if _timed(row) else ""] * timed
        table.add_row(
            escape(row["job"]), *typed, value, *minutes, *[escape(row["failed"])] * failed
        )
    Console().print(table)


def _plain(value: str) -> str:
    """Without the quotes that only Hydra's grammar asks for, as in precision='32'."""
    return value[1:-1] if value[:1] in ("'", '"') and value[-1:] == value[:1] else value


def _timed(row: dict[str, Any]) -> bool:
    return not math.isnan(row["minutes"])


def _failed(row: dict[str, Any]) -> bool:
    return bool(row["failed"])
