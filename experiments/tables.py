"""Make the tables in the studies' READMEs again, each from the results.csv beside it.

python experiments/tables.py                                  (every study)
python experiments/tables.py losses                           (one)
python experiments/tables.py losses multirun/DATE/TIME        (from a new sweep, with its figure)
"""

from __future__ import annotations

import csv
import shutil
import sys
from pathlib import Path

from clearmark import comparison

HERE = Path(__file__).parent
BEGIN, END = "<!-- made by experiments/tables.py from results.csv -->\n", "<!-- end -->"


def studies() -> list[str]:
    """The folders whose README holds such a table."""
    pages = HERE.glob("*/README.md")
    return sorted(page.parent.name for page in pages if BEGIN in page.read_text(encoding="utf-8"))


def table(path: Path) -> str:
    """The table of a results.csv as Markdown: of a sweep, or of what was tested on what."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if "tested" not in rows[0]:
        return comparison.table(comparison.read(path))
    gains: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        gains.setdefault((row["trained"], row["tested"]), []).append(float(row["gain"]))
    trained, tested = (list(dict.fromkeys(pair[at] for pair in gains)) for at in (0, 1))
    lines = [["trained on", *tested], ["---"] * (len(tested) + 1)]
    for name in trained:
        means = [comparison.mean(gains[name, on]) for on in tested]
        lines.append([name, *(f"{m.mean:.2f} [{m.low:.2f}, {m.high:.2f}]" for m in means)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def page(study: str) -> str:
    """A study's README with its table made anew."""
    text = (HERE / study / "README.md").read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END, 1)[1]
    return f"{before}{BEGIN}\n{table(HERE / study / 'results.csv')}\n\n{END}{after}"


def main(study: str | None = None, sweep: str | None = None) -> None:
    """Take a sweep's results into a study if one is given, then make the tables."""
    if study and sweep:
        shutil.copy(Path(sweep) / "sweep.csv", HERE / study / "results.csv")
        shutil.copy(Path(sweep) / "figure.png", HERE / study / "figure.png")
    for name in [study] if study else studies():
        (HERE / name / "README.md").write_text(page(name), encoding="utf-8")
        print(f"experiments/{name}/README.md")


if __name__ == "__main__":
    main(*sys.argv[1:])
