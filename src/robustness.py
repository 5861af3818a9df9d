"""How well does my mark hold: ``python src/robustness.py mark=logo.png`` (docs/robustness.md)."""

from __future__ import annotations

import math
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig

from clearmark import cli
from clearmark.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from clearmark.robustness.detector import Detector
    from clearmark.robustness.measure import Marker, Remover, Setting

PATHS = ("mark", "text", "ckpt", "data.root", "watermark.font")


@hydra.main(version_base="1.3", config_path="../conf", config_name="robustness")
@cli.entry
def main(cfg: DictConfig) -> None:
    """Mark photos in many ways, take the mark off, and say which way holds."""
    robustness(cfg)


def robustness(cfg: DictConfig) -> pd.DataFrame:
    """Returns the means of every setting and remover, as they are written."""
    import torch

    from clearmark import released, runs
    from clearmark.config import check, create, register_resolvers
    from clearmark.data import PhotosModule
    from clearmark.robustness.advice import advice, table
    from clearmark.robustness.measure import Marker, settings, summary

    cfg.mark = chosen(cfg)
    register_resolvers()
    check(cfg)
    todo = settings(cfg)
    if cfg.calibration * cfg.false_alarms < 1 - cfg.false_alarms:
        raise UserError(
            f"calibration={cfg.calibration} clean photos cannot tell a share of "
            f"false_alarms={cfg.false_alarms}; give {math.ceil(1 / cfg.false_alarms) - 1} or more"
        )
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    data = create(cfg.data)
    if not isinstance(data, PhotosModule):
        raise UserError("data has no clean photos; use data=photos, or data=folder data.root=...")
    marker = Marker(partial(create, cfg.watermark), data, cfg.colour, cfg.seed)
    names = [cfg.ckpt] if cfg.ckpt else released.names()
    removers = {Path(name).name: remover(name, cfg.device) for name in names}
    detectors = {setting[:3]: marker.detector(setting) for setting in todo}
    folder = Path(cfg.folder)
    runs.start(folder, cfg, {k: v for p in marker.photos.values() for k, v in p.broken.items()})
    alarms = calibrate(cfg, marker, detectors)
    rows = measure(cfg, marker, todo, detectors, removers)
    means = summary(rows)
    said = advice(means, cfg.holds, cfg.false_alarms)
    said.append(f"Of the {cfg.photos} clean photos the detector took {alarms:.1%} for marked ones.")
    rows.to_csv(folder / "pictures.csv", index=False)
    means.to_csv(folder / "settings.csv", index=False)
    lines = "\n".join(f"- {line}" for line in said)
    page = f"# How well {cfg.mark} holds\n\n{lines}\n\n![figure](figure.png)\n\n{table(means)}\n"
    (folder / "report.md").write_text(page, encoding="utf-8")
    show(cfg, marker, means, removers, folder / "figure.png")
    print("\n".join(said))
    print(f"all settings {folder / 'report.md'}, as CSV {folder / 'settings.csv'}")
    print(f"figure       {folder / 'figure.png'}")
    return means


def chosen(cfg: DictConfig) -> str:
    """The mark, a picture or a text.

    Raises:
        UserError: there is none, or two.
    """
    given = [str(cfg[key]) for key in ("mark", "text") if cfg[key] not in (None, "")]
    if len(given) != 1:
        which = "mark and text are both set" if given else "mark is not set"
        raise UserError(f'{which}; add one of them, as mark=logo.png or text="Jane Doe"')
    return given[0]


def remover(name: str, device: str | None) -> Remover:
    """Restores the marked picture of a sample with a network."""
    import clearmark

    network = clearmark.load(name, device)
    return lambda sample: network.restore(sample["marked"])[0]


def calibrate(cfg: DictConfig, marker: Marker, detectors: dict[tuple[Any, ...], Detector]) -> float:
    """Set all thresholds on train photos; returns the share of the measured photos above them."""
    from rich.progress import track

    from clearmark.robustness import measure as measuring

    clean = marker.samples("train", None)
    for detector in track(detectors.values(), "calibrating", transient=True):
        photos = (clean[0, index]["marked"] for index in range(cfg.calibration))
        measuring.calibrate(detector, photos, cfg.false_alarms)
    samples = marker.samples("test", None)
    measured = [samples[0, index]["marked"] for index in range(cfg.photos)]
    alarms = [d.score(photo) > d.threshold for d in detectors.values() for photo in measured]
    return sum(alarms) / len(alarms)


def measure(
    cfg: DictConfig,
    marker: Marker,
    todo: list[Setting],
    detectors: dict[tuple[Any, ...], Detector],
    removers: dict[str, Remover],
) -> pd.DataFrame:
    """Every figure of every photo in every setting, after each remover."""
    import pandas as pd
    from rich.progress import Progress

    from clearmark.robustness import measure as measuring

    rows = []
    with Progress(transient=True) as progress:
        task = progress.add_task("measuring", total=len(todo) * cfg.photos)
        for setting in todo:
            samples = marker.samples("test", setting)
            for index in range(cfg.photos):
                found = measuring.measure(samples[0, index], detectors[setting[:3]], removers)
                rows += [setting._asdict() | {"photo": index} | row for row in found]
                progress.advance(task)
    return pd.DataFrame(rows)


def show(
    cfg: DictConfig, marker: Marker, means: pd.DataFrame, removers: dict[str, Remover], path: Path
) -> None:
    """Draw the figure, with a photo under the least visible mark that holds, or nearly does."""
    from clearmark.robustness import figure
    from clearmark.robustness.advice import choices
    from clearmark.robustness.measure import SETTING, Setting

    rows = choices(means, cfg.holds)
    best = rows.sort_values(["holds", "found"], ascending=False, kind="stable").iloc[0]
    if best["holds"]:
        best = rows[rows["holds"]].iloc[0]
    setting = Setting(*best[SETTING])
    sample = marker.samples("test", setting)[0, 0]
    pictures = {"clean": sample["clean"], "marked": sample["marked"]}
    pictures |= {f"restored by {name}": of(sample) for name, of in removers.items()}
    figure.draw(means, cfg.holds, pictures, f"How well {cfg.mark} holds", path)


if __name__ == "__main__":
    sys.argv = cli.quote_paths(sys.argv, PATHS)
    cli.run(main)
