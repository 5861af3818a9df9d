"""Runs that have ended, as a table to work with: below a folder, or on a W&B server.

Nothing in a run's folder is executed: it may come from somebody else.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml  # type: ignore[import-untyped]
from hydra.core.override_parser.overrides_parser import OverridesParser

from clearmark.errors import UserError, first_line
from clearmark.sweeps import FAILED, RESULTS, read_overrides

if TYPE_CHECKING:
    import pandas

ONLINE = "wandb://"
REMOVED = "(removed)"  # the value of a key that a command line deleted, as ~callbacks.progress
HERE = "RUN"  # stands in a config for the run's own folder
OTHER = ("folder", "name")  # keys of a config that differ from run to run, and say nothing
OWN = ("curves", "panels", "checkpoint", "config", "failed")  # columns beside keys and figures
MOST_KEYS, DEEPEST = 2000, 20  # of a config; ours have a tenth of that


class Run(NamedTuple):
    """What is known of one run."""

    typed: dict[str, Any]  # what its command line set
    figures: dict[str, Any]
    curves: pandas.DataFrame
    panels: list[Path]
    checkpoint: Path | None
    config: dict[str, Any]
    failed: str


def load(folder: str | Path) -> pandas.DataFrame:
    """All runs below a folder that are finished or have failed, one a row.

    The index is the run's folder. Columns: what the runs' command lines set, empty where a run kept
    the default; their names are in ``attrs["commands"]``. The figures of ``results.json``. And:

    - ``curves``: what was logged, as a frame with a row for each time and a column ``step``
    - ``panels``: the paths of the run's pictures by name, those of the test first
    - ``checkpoint``: the path of the best weights, for ``runs.load_network``; None without any
    - ``config``: the whole config, dotted key to value
    - ``failed``: why it failed, empty if it did not

    Args:
        folder: of one run, of a sweep or of many; or ``wandb://ENTITY/PROJECT``, the runs of a
            project on a W&B server, whose pictures are fetched to ``wandb/online``.

    Raises:
        UserError: there is no such run, or a file of one cannot be read.
    """
    if str(folder).startswith(ONLINE):
        from clearmark.online import fetch

        runs = dict(fetch(str(folder).removeprefix(ONLINE)))
    else:
        runs = dict(_found(Path(folder)))
    if not runs:
        raise UserError(f"{folder} holds no finished run (no {RESULTS})")
    return _table(runs)


def _table(runs: Mapping[str, Run]) -> pandas.DataFrame:
    import pandas

    # In this order, so that no key that somebody made up stands in for a column of ours.
    rows = [run.typed | run.figures for run in runs.values()]
    keys = dict.fromkeys(key for run in runs.values() for key in run.typed)
    columns = list(keys | dict.fromkeys(key for row in rows for key in row))
    table = pandas.DataFrame(rows, pandas.Index(list(runs), name="run"), columns)
    for column in OWN:
        cells = [getattr(run, column) for run in runs.values()]
        table[column] = pandas.Series(cells, table.index, dtype=object)
    table.attrs["commands"] = [key for key in keys if key not in OWN]
    return table


def parse(words: Iterable[str]) -> dict[str, Any]:
    """Key to value of a command line's words."""
    parsed = OverridesParser.create().parse_overrides([str(word) for word in words])
    return {o.key_or_group: REMOVED if o.is_delete() else _cell(o.value()) for o in parsed}


def flat(config: Any) -> dict[str, Any]:
    """A config as dotted key to value: a list is one value, unless something is nested in it."""
    return dict(islice(_leaves(config, "", 0), MOST_KEYS))


def _leaves(node: Any, at: str, depth: int) -> Iterator[tuple[str, Any]]:
    nested = isinstance(node, list) and any(isinstance(one, dict | list) for one in node)
    if depth > DEEPEST or not node or not (nested or isinstance(node, dict)):
        yield at, f"{type(node).__name__} too deep" if depth > DEEPEST else _cell(node)
        return
    for key, value in enumerate(node) if nested else node.items():
        yield from _leaves(value, f"{at}.{key}" if at else str(key), depth + 1)


def _cell(value: Any) -> Any:
    """A value that a table takes: a number, a word or None."""
    if isinstance(value, int) and abs(value) > 2**53:
        return str(value)
    plain = value is None or isinstance(value, bool | int | float | str)
    return value if plain else str(value)


def _found(folder: Path) -> Iterator[tuple[str, Run]]:
    """The runs below a folder; the tenth job of a sweep comes behind the ninth."""
    runs = {path.parent for name in (RESULTS, FAILED) for path in folder.rglob(name)}
    for run in sorted(runs, key=lambda path: [(len(part), part) for part in path.parts]):
        yield str(run), _read(run)


def _read(folder: Path) -> Run:
    figures = _json(folder / RESULTS) if (folder / RESULTS).is_file() else None
    failed = _json(folder / FAILED) if figures is None else {}
    words = failed.get("overrides", []) if figures is None else read_overrides(folder)
    try:
        typed = parse(words)
    except Exception as error:  # whatever the parser makes of a stranger's words
        raise UserError(f"{folder / FAILED} holds words that are no command line") from error
    checkpoint = folder / "checkpoints" / "best.ckpt"
    pictures = sorted(folder.glob("panels/*.png"), key=lambda p: (not p.stem.startswith("test"), p))
    return Run(
        typed=typed,
        figures={key: _cell(value) for key, value in (figures or {}).items()},
        curves=_curves(folder / "metrics.csv"),
        panels=pictures,
        checkpoint=checkpoint if checkpoint.is_file() else None,
        config=_config(folder / "config.yaml"),
        failed=str(failed.get("reason", "unknown")) if figures is None else "",
    )


def _json(path: Path) -> dict[str, Any]:
    with _readable(path):
        content = json.loads(path.read_text("utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it is no mapping")
    return content


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    with _readable(path):
        # The loader in C is faster, and crashes where something is nested very deep.
        config = flat(yaml.safe_load(path.read_text("utf-8")))
    own = str(config.get("folder") or "")
    return {
        key: HERE + value[len(own) :] if own and str(value).startswith(own) else value
        for key, value in config.items()
        if key not in OTHER
    }


def _curves(path: Path) -> pandas.DataFrame:
    import pandas

    if not path.is_file() or not path.stat().st_size:
        return pandas.DataFrame({"step": []})
    with _readable(path):
        return numeric(pandas.read_csv(path, index_col=False))


def numeric(curves: pandas.DataFrame) -> pandas.DataFrame:
    """The same curves, whose cells are numbers or empty."""
    import pandas

    if "step" not in curves:
        curves = curves.assign(step=range(len(curves)))
    return curves.apply(pandas.to_numeric, errors="coerce")


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(
            f"{path} is not what a run leaves; delete it: {first_line(error)}"
        ) from error
