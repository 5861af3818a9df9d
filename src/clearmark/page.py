"""One HTML page that compares runs, and holds all that it shows.

A run's folder may come from somebody else: whatever is said in it is escaped, its pictures are
encoded anew, and the page's own policy lets a browser run nothing but the script in its template.
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from clearmark import comparison, pictures
from clearmark.sweeps import less_is_better

if TYPE_CHECKING:
    import pandas

TEMPLATES = Path(__file__).parent / "assets" / "report"
MOST_RUNS, MOST_PANELS, MOST_LINES = 300, 48, 60  # runs, pictures, differences of a run
LONGEST = 160  # characters of a value
MEGAPIXELS, WIDTH, HEIGHT = 50, 720, 1440  # of a picture that is read; of one in the page
QUALITY = 80  # of its JPEG
NAMED = 10  # curves that a legend names
CURVES = ("train/loss", "val/psnr_gain", "val/mask_f1")
# Figure -> heading, digits.
FIGURES = {
    "test/psnr_gain": ("gain (dB)", 2),
    "test/psnr": ("PSNR (dB)", 2),
    "test/ssim": ("SSIM", 4),
    "test/rmsew": ("RMSEw", 2),
    "test/mask_f1": ("mask F1", 3),
    "test/clean_psnr": ("unmarked (dB)", 1),
    "parameters": ("parameters", 0),
    "gmac": ("GMAC", 2),
    "wall_seconds": ("seconds", 0),
}
WITH_INTERVAL = ("test/psnr_gain", "test/ssim", "test/rmsew", "test/mask_f1", "test/clean_psnr")


def render(table: pandas.DataFrame, title: str, objective: str) -> str:
    """The page of the runs that ``runs.load`` gives; of very many, the best are shown.

    Args:
        table: with a finished run at least.
        title: where the runs are.
        objective: the figure that they are ordered by, a column.
    """
    done, failed = table[table.failed == ""], table[table.failed != ""]
    less = less_is_better(objective)
    ordered = done.sort_values(objective, ascending=less, kind="stable", key=_numbers)
    shown = ordered.head(MOST_RUNS)
    keys = comparison.differing(table)
    same = [key for key in table.attrs["commands"] if key not in keys]
    names = [_place(run, title) for run in shown.index]
    settings = [f"{at}: {setting(run, keys)}" for at, (_, run) in enumerate(shown.iterrows(), 1)]
    script = (TEMPLATES / "report.js").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters["shown"] = text
    template = environment.from_string((TEMPLATES / "report.html").read_text("utf-8"))
    return template.render(
        title=title,
        done=len(done),
        shown=len(shown),
        objective=objective,
        script=Markup(script),
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        keys=keys,
        same={key: shown[key].iloc[0] for key in same if shown[key].notna().all()},
        headings=[heading for heading, _ in _figures(shown, objective).values()],
        rows=_rows(shown, names, keys, objective),
        seeds=_seeds(shown),
        interval_headings=[FIGURES[figure][0] for figure in WITH_INTERVAL if figure in shown],
        curves=_curves(shown, settings),
        panels=_panels(shown, settings),
        most_panels=MOST_PANELS,
        differences=_differences(shown, settings),
        failed=[
            (_place(run, title), setting(row, keys), row.failed)
            for run, row in failed.head(MOST_RUNS).iterrows()
        ],
        failures=len(failed),
    )


def text(value: Any) -> str:
    """A value of a stranger's, short and printable."""
    said = "" if value is None or value != value else str(value)
    said = said if len(said) <= LONGEST else f"{said[: LONGEST - 1]}…"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in said)


def setting(run: pandas.Series, keys: Sequence[str]) -> str:
    """What tells a run apart, short and printable."""
    return text(comparison.setting(run, keys))


def _numbers(values: pandas.Series) -> pandas.Series:
    import pandas

    return pandas.to_numeric(values, errors="coerce")


def _place(run: Any, title: str) -> str:
    return str(run).removeprefix(title).strip("/") or str(run)


def _figures(runs: pandas.DataFrame, objective: str) -> dict[str, tuple[str, int]]:
    known = FIGURES if objective in FIGURES else {objective: (objective, 3)} | FIGURES
    return {name: about for name, about in known.items() if name in runs}


def _rows(
    runs: pandas.DataFrame, names: Sequence[str], keys: Sequence[str], objective: str
) -> list[dict[str, Any]]:
    figures = _figures(runs, objective)
    numbers = {name: _numbers(runs[name]).to_list() for name in figures}
    return [
        {
            "name": names[at],
            "set": [run[key] for key in keys],
            "figures": [
                ("", "") if math.isnan(value) else (f"{value:,.{digits}f}", repr(float(value)))
                for value, digits in ((numbers[name][at], figures[name][1]) for name in figures)
            ],
        }
        for at, (_, run) in enumerate(runs.iterrows())
    ]


def _seeds(runs: pandas.DataFrame) -> list[tuple[str, int, list[str]]]:
    """What was set, how many seeds, figures with intervals; empty if nothing was repeated."""
    figures = [name for name in WITH_INTERVAL if name in runs]
    over = comparison.over_seeds(runs.assign(**{n: _numbers(runs[n]) for n in figures}), figures)
    if over.seeds.max() < 2:
        return []
    return [
        (str(name), int(row.seeds), [_interval(row, figure) for figure in figures])
        for name, row in over.iterrows()
    ]


def _interval(row: pandas.Series, figure: str) -> str:
    digits = FIGURES[figure][1]
    mean, low, high = (f"{row[f'{figure}{end}']:.{digits}f}" for end in ("", "_low", "_high"))
    return mean if math.isnan(row[f"{figure}_low"]) else f"{mean} [{low}, {high}]"


def _curves(runs: pandas.DataFrame, settings: Sequence[str]) -> str:
    """A figure as a data URI; empty if no run has left curves."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    names = [n for n in CURVES if any(n in c and c[n].notna().any() for c in runs.curves)]
    if not names:
        return ""
    figure = Figure(figsize=(4.6 * len(names), 4.2), layout="constrained")
    few = len(runs) <= NAMED
    labels = [setting.replace("$", r"\$") for setting in settings]  # a dollar would begin a formula
    for axis, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for at, curves in reversed(list(enumerate(runs.curves))):  # the best on top
            if name in curves:
                points = curves[["step", name]].dropna()
                colour = f"C{at}" if few else colormaps["viridis"](at / (len(runs) - 1))
                line = {"color": colour, "label": labels[at], "linewidth": 1}
                axis.plot(*points.to_numpy().T, ".-", **line)
        axis.set(title=name, xlabel="step")
        axis.grid(alpha=0.3)
    found = [axis.get_legend_handles_labels() for axis in figure.axes]
    drawn = {label: line for lines in found for line, label in zip(*lines, strict=True)}
    if few:
        shown = [label for label in labels if label in drawn]
        figure.legend(
            [drawn[label] for label in shown], shown, loc="outside lower left", fontsize=8
        )
    return _uri(_saved(figure), "png")


def _saved(figure: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    return file.getvalue()


def _panels(runs: pandas.DataFrame, settings: Sequence[str]) -> list[tuple[int, str, str]]:
    """Number of the run, what it set, its test pictures as a data URI or what is wrong there."""
    found = []
    for at, paths in enumerate(runs.panels.iloc[:MOST_PANELS]):
        if paths:
            try:
                found.append((at + 1, settings[at], _picture(paths[0])))
            except pictures.PictureError as error:
                found.append((at + 1, f"{settings[at]} ({paths[0].name}: {error})", ""))
    return found


def _picture(path: Path) -> str:
    """A picture as a data URI of a JPEG that is small, whatever the picture was."""
    pixels = pictures.read(path, MEGAPIXELS).pixels
    if pixels.dtype != "uint8":
        pixels = pictures.eight_bits(pixels)
    height, width = pixels.shape[:2]
    scale = min(1, WIDTH / width, HEIGHT / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return _uri(bytes(data), "jpeg")


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _differences(
    runs: pandas.DataFrame, settings: Sequence[str]
) -> list[tuple[str, list[tuple[str, Any, Any]], int]]:
    """For each run but the best: key, value there and here; and how many are left out."""
    best, found = runs.config.iloc[0], []
    for name, config in list(zip(settings, runs.config, strict=True))[1:]:
        keys = [key for key in best | config if best.get(key, "") != config.get(key, "")]
        lines = [(key, best.get(key, ""), config.get(key, "")) for key in keys[:MOST_LINES]]
        found.append((name, lines, len(keys) - len(lines)))
    return found
