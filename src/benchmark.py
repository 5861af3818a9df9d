"""Measure a remover on MarkBench: ``python src/benchmark.py ckpt=RUN`` (see docs/benchmark.md)."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig

from clearmark import cli
from clearmark.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from clearmark.benchmark import MarkBench
    from clearmark.benchmark.checksum import Fingerprint
    from clearmark.benchmark.removers import Remover

PATHS = ("ckpt", "outputs", "export")
TASKS = ("ckpt", "outputs", "baseline", "export", "freeze")
RECORDS = Path(__file__).resolve().parents[1] / "conf" / "markbench"


@hydra.main(version_base="1.3", config_path="../conf", config_name="benchmark")
@cli.entry
def main(cfg: DictConfig) -> None:
    """Measure a remover, export the pictures, or record their checksums."""
    benchmark(cfg)


def benchmark(cfg: DictConfig) -> pd.DataFrame | None:
    """Returns the means and intervals that it has written, or None if nothing was measured."""
    import json

    import torch
    from rich.progress import track

    from clearmark.benchmark import checksum, export, removers
    from clearmark.config import check, create

    task = task_of(cfg)
    check(cfg)
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    network = network_of(cfg) if task == "ckpt" else None
    bench: MarkBench = create(cfg.markbench)
    prints = [checksum.fingerprint(s) for s in track(bench, "drawing", transient=True)]
    record = RECORDS / f"{bench.version}.json"
    if task == "freeze":
        freeze(bench, prints, record)
        return None
    if not record.is_file():
        raise UserError(f"{record} is missing; record this version once with freeze=true")
    frozen = json.loads(record.read_text(encoding="utf-8"))
    frozen["state"] = checksum.verify(prints, frozen)
    if task == "export":
        export.export(bench, cli.path(cfg, "export"), frozen)
        return None
    if network is not None:
        remover = removers.of_network(network)
    elif task == "outputs":
        remover = removers.of_folder(cli.path(cfg, "outputs"), prints)
    else:
        remover = removers.BASELINES[cfg.baseline]
    return measure(cfg, bench, remover, network, frozen)


def task_of(cfg: DictConfig) -> str:
    """What is asked for, once it is sure that it can be done."""
    from clearmark.benchmark import export, removers

    given = [name for name in TASKS if cfg[name]]
    if len(given) != 1:
        said = " and ".join(given) + " exclude each other" if given else "nothing to do"
        raise UserError(f"{said}; give one of {', '.join(f'{name}=...' for name in TASKS)}")
    if cfg.baseline and cfg.baseline not in removers.BASELINES:
        known = ", ".join(removers.BASELINES)
        raise UserError(f"baseline={cfg.baseline} does not exist; use one of {known}")
    if cfg.export:
        export.refuse(cli.path(cfg, "export"))
    if cfg.outputs:
        removers.refuse(cli.path(cfg, "outputs"))
    return given[0]


def network_of(cfg: DictConfig) -> nn.Module:
    """The network of the checkpoint, on the device it is to run on."""
    from clearmark.remover import load

    return load(cli.path(cfg, "ckpt"), cfg.device).network


def freeze(bench: MarkBench, prints: list[Fingerprint], record: Path) -> None:
    """Record the checksums of a version; a version is recorded once, before it is published."""
    from clearmark import runs
    from clearmark.benchmark import checksum
    from clearmark.benchmark.measure import terciles

    if record.exists():
        raise UserError(
            f"{record} exists, and a version does not change; use markbench.version=... for "
            "another set, or delete the file if nobody has it yet"
        )
    runs.write_json(record, checksum.record(prints, terciles(bench)))
    print(f"{len(prints)} pictures, SHA-256 {checksum.digest(prints)}: {record}")


def measure(
    cfg: DictConfig, bench: MarkBench, remover: Remover, network: nn.Module | None, frozen: Any
) -> pd.DataFrame:
    """Measure, print the row for a table of removers, and leave all figures in the run's folder."""
    from rich.progress import track

    from clearmark import runs
    from clearmark.benchmark import cost, figure, report
    from clearmark.benchmark import measure as measuring

    began = time.perf_counter()
    name = next(f"{key}={cfg[key]}" for key in TASKS if cfg[key])
    folder = Path(cfg.folder)
    runs.start(folder, cfg, {})
    costs = {} if cfg.outputs else cost.measure_cost(remover, bench[0], network)
    rows = measuring.measure(track(bench, "measuring", total=len(bench)), remover)
    summary = measuring.summary(rows, frozen["texture"])
    rows.to_csv(folder / "pictures.csv", index=False)
    summary.to_csv(folder / "summary.csv", index=False)
    means = summary[summary["table"] == "overall"].set_index(["group", "figure"])["mean"]
    figures = {f"markbench/{key}": means["marked"][key] for key in means["marked"].index}
    known = {"remover": name, "sha256": frozen["sha256"], "pictures": frozen["state"]}
    known["wall_seconds"] = time.perf_counter() - began
    runs.write_json(folder / "results.json", known | figures | costs)
    row = report.headline(name, summary, costs)
    title = f"MarkBench {bench.version}: {name}"
    kept = f"SHA-256 of the set {frozen['sha256']}, here {frozen['state']}. Mean [95 % interval]."
    text = "\n".join([f"# {title}", "", kept, "", *row, *report.tables(summary)])
    (folder / "report.md").write_text(text + "\n", encoding="utf-8")
    figure.examples(bench, remover, rows, title, folder / "examples.png")
    print("\n".join(row))
    if frozen["state"] != "exact":
        print("the pictures differ from the frozen ones by rounding: say so beside the figures")
    print(f"all tables {folder / 'report.md'}, as CSV {folder / 'summary.csv'}")
    print(f"examples   {folder / 'examples.png'}")
    return summary


if __name__ == "__main__":
    sys.argv = cli.quote_paths(sys.argv, PATHS)
    cli.run(main)
