"""What the figures say to somebody who has to choose: a table, and plain advice."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from clearmark.robustness.measure import NOTHING, SETTING, TILED

# Column -> heading, format.
COLUMNS = {
    "psnr": ("PSNR (dB)", ".1f"),
    "ssim": ("SSIM", ".3f"),
    "psnr_mark": ("in the mark (dB)", ".1f"),
    "ssim_mark": ("SSIM there", ".3f"),
    "psnr_around": ("around it (dB)", ".1f"),
    "ssim_around": ("SSIM there", ".3f"),
    "found": ("found", ".0%"),
}


def choices(means: pd.DataFrame, share: float) -> pd.DataFrame:
    """The settings (see ``measure.SETTING``), the least visible first.

    Columns: psnr and ssim of the marked picture against the clean one; ``found``, the share of the
    photos in which the mark is found after the remover that hides it best; ``holds``, whether that
    is at least ``share``. The higher PSNR is the less visible, SSIM decides between equal ones.

    Args:
        means: of ``measure.summary``.
        share: of the photos.
    """
    marked = means[means["remover"] == NOTHING].set_index(SETTING)[["psnr", "ssim"]]
    after = means[means["remover"] != NOTHING].groupby(SETTING)["found"].min()
    rows = marked.join(after).sort_values(["psnr", "ssim"], ascending=False, kind="stable")
    return rows.assign(holds=rows["found"] >= share).reset_index()


def advice(means: pd.DataFrame, share: float, rate: float) -> list[str]:
    """Plain sentences: what counts as holding, the least visible setting that does, or that none.

    Args:
        means: see ``choices``.
        share: see ``choices``.
        rate: of false alarms that the detector's threshold was set for.
    """
    rows, removers = choices(means, share), means["remover"].unique()
    others = " and of ".join(name for name in removers if name != NOTHING)
    lines = [
        f"A setting holds if the detector, which takes {rate:.1%} of clean photos for marked ones, "
        f"still finds the mark in {share:.0%} of the photos after the work of {others}."
    ]
    held = rows[rows["holds"]]
    if held.empty:
        best = rows.sort_values("found", ascending=False, kind="stable").iloc[0]
        lines.append(
            f"None of the {len(rows)} settings holds. {_said(best).capitalize()} comes nearest, "
            f"found in {best['found']:.0%}: try it stronger, larger or tiled."
        )
        return lines
    lines.append(
        f"{len(held)} of {len(rows)} settings hold. The least visible one is "
        f"{_details(held.iloc[0], means)}."
    )
    for place in rows["place"].unique():
        part = held[held["place"] == place]
        if place == held.iloc[0]["place"]:
            continue
        named = "Tiled" if place == TILED else f"At the place {place}"
        said = (
            f"the least visible one that holds is {_details(part.iloc[0], means)}"
            if len(part)
            else "no setting holds"
        )
        lines.append(f"{named}, {said}.")
    if held.iloc[0]["place"] != TILED:
        lines.append("A single mark may also be cut off with the part of the photo it lies on.")
    return lines


def table(means: pd.DataFrame) -> str:
    """All figures as Markdown, a row for each setting and remover."""
    heads = ["place", "size", "gap", "opacity", "remover", *(head for head, _ in COLUMNS.values())]
    lines = [heads, ["---"] * len(heads)]
    for row in means.to_dict("records"):
        gap = f"{row['spacing']:g}" if row["place"] == TILED else ""
        cells = [row["place"], f"{row['size']:g}", gap, f"{row['opacity']:g}", row["remover"]]
        cells += [
            "" if row[k] != row[k] else format(row[k], form) for k, (_, form) in COLUMNS.items()
        ]
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _said(row: pd.Series) -> str:
    gap = f" with gaps of {row['spacing']:g}" if row["place"] == TILED else ""
    return f"{row['place']}, size {row['size']:g}{gap}, opacity {row['opacity']:g}"


def _details(row: pd.Series, means: pd.DataFrame) -> str:
    """A setting with what it costs, and what of it remains."""
    remains = "; ".join(_remains(row, means))
    return (
        f"{_said(row)} (PSNR {row['psnr']:.1f} dB, SSIM {row['ssim']:.3f} when marked; {remains})"
    )


def _remains(row: pd.Series, means: pd.DataFrame) -> Iterator[str]:
    same = means[(means[SETTING] == row[SETTING]).all(axis=1)].set_index("remover")
    for name, after in same.drop(index=NOTHING).iterrows():
        yield (
            f"after {name} found in {after['found']:.0%}, in the mark {after['psnr_mark']:.1f} dB "
            f"where it was {same.loc[NOTHING, 'psnr_mark']:.1f}"
        )
