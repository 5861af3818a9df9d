"""Figures as Markdown: a row for a table of removers, and the tables of one of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

# figure -> heading, digits
MARKED = {
    "psnr": ("PSNR (dB)", 2),
    "psnr_gain": ("gain (dB)", 2),
    "ssim": ("SSIM", 4),
    "rmse": ("RMSE", 2),
    "rmsew": ("RMSEw", 2),
    "psnr_mask": ("PSNR in the mark (dB)", 2),
    "mask_f1": ("mask F1", 3),
    "mask_iou": ("mask IoU", 3),
}
UNMARKED = {"noop_psnr": ("no-op (dB)", 2), "noop_changed": ("no-op, share changed", 4)}
COST = {
    "parameters": ("parameters", 0),
    "gmac": ("GMAC", 2),
    "seconds_per_mp": ("s/MP", 3),
    "peak_mb_per_mp": ("MB/MP", 0),
}
HEADLINE = ("psnr", "psnr_gain", "ssim", "rmsew", "mask_f1")


def headline(name: str, summary: pd.DataFrame, cost: Mapping[str, float]) -> list[str]:
    """One remover as a table of one row (three lines of Markdown), to be set below others."""
    overall = summary[summary["table"] == "overall"]
    marked = overall[overall["group"] == "marked"].set_index("figure")
    unmarked = overall[overall["group"] == "unmarked"].set_index("figure")
    cells = [_cell(marked, figure, MARKED[figure][1]) for figure in HEADLINE]
    cells.append(_cell(unmarked, "noop_psnr", 2))
    cells += [_number(cost.get(key, math.nan), digits) for key, (_, digits) in COST.items()]
    heads = [MARKED[figure][0] for figure in HEADLINE] + [UNMARKED["noop_psnr"][0]]
    return _table(["remover", *heads, *(head for head, _ in COST.values())], [[name, *cells]])


def tables(summary: pd.DataFrame) -> list[str]:
    """A table for each way of grouping: mean and 95 % interval of each figure of each group."""
    lines = []
    for table, part in summary.groupby("table", sort=False):
        columns = {k: v for k, v in (MARKED | UNMARKED).items() if k in set(part["figure"])}
        rows = []
        for group, figures in part.groupby("group", sort=False):
            known = figures.set_index("figure")
            cells = [_cell(known, key, digits) for key, (_, digits) in columns.items()]
            rows.append([str(group), str(known["samples"].max()), *cells])
        heads = [str(table), "pictures", *(head for head, _ in columns.values())]
        lines += ["", f"## {str(table).capitalize()}", "", *_table(heads, rows)]
    return lines


def _cell(known: pd.DataFrame, figure: str, digits: int) -> str:
    if figure not in known.index:
        return ""
    mean, low, high = (float(known.loc[figure, key]) for key in ("mean", "low", "high"))
    if math.isnan(low) or low == high:
        return _number(mean, digits)
    return f"{_number(mean, digits)} [{_number(low, digits)}, {_number(high, digits)}]"


def _number(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:,.{digits}f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]
