"""Put benchmark runs into one table: ``python experiments/markbench/collect.py RUN RUN ...``.

Prints the table of removers and their gains by family as Markdown, and leaves all means and
intervals in results.csv beside this file.
"""

import argparse
import json
from pathlib import Path

import pandas as pd

from clearmark.benchmark.report import headline

HERE = Path(__file__).parent
SECONDS = "seconds_per_mp"


def main() -> None:
    """Read the folders that ``src/benchmark.py`` has left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders with summary.csv")
    found, lines = {}, []
    for folder in parser.parse_args().runs:
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        summary = pd.read_csv(folder / "summary.csv")
        found[results["remover"]] = pd.concat([summary, cost(results)])
        head, rule, row = headline(f"`{results['remover']}`", summary, results)
        lines += [row] if lines else [head, rule, row]
    print("\n".join(lines), end="\n\n")
    every = pd.concat(found, names=["remover"]).droplevel(1)
    counts = {"samples": "Int64", "photos": "Int64"}  # a cost has none
    every.astype(counts).round(4).to_csv(HERE / "results.csv")
    gains = every[every["figure"] == "psnr_gain"].reset_index()
    for table in ("family", "opacity", "area", "texture"):
        part = gains[gains["table"] == table]
        wide = part.pivot(index="remover", columns="group", values="mean").round(2)
        wide = wide.loc[list(found), list(dict.fromkeys(part["group"]))]
        print(f"| gain (dB) | {' | '.join(wide)} |\n|{' --- |' * (len(wide.columns) + 1)}")
        for name, values in wide.iterrows():
            print(f"| `{name}` | {' | '.join(f'{value:.2f}' for value in values)} |")
        print()


def cost(results: dict[str, float]) -> pd.DataFrame:
    """What a picture took, as a row of the summary."""
    row = {"table": "overall", "group": "cost", "figure": SECONDS, "mean": results[SECONDS]}
    return pd.DataFrame([row])


if __name__ == "__main__":
    main()
