"""Compare runs on one HTML page: ``python src/report.py runs=multirun/DATE/TIME``."""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from clearmark import cli


@hydra.main(version_base="1.3", config_path="../conf", config_name="report")
@cli.entry
def main(cfg: DictConfig) -> None:
    """Write the page and print where it is."""
    report(cfg)


def report(cfg: DictConfig) -> Path:
    """Returns the page's path."""
    from clearmark import disk, page
    from clearmark.errors import UserError
    from clearmark.finished import ONLINE, load

    folder = cli.path(cfg, "runs")
    online = str(cfg.runs).startswith(ONLINE)
    if not online and not folder.is_dir():
        raise UserError(f"runs={cfg.runs} is no folder; give that of a run, a sweep or of many")
    if online and cfg.output is None:
        raise UserError(f"runs={cfg.runs} is no folder to write to; add output=report.html")
    output = folder / "report.html" if cfg.output is None else cli.path(cfg, "output")
    if output.suffix.lower() not in (".html", ".htm") or output.is_dir():
        raise UserError(f"output={output} is no page's name; use .html")
    disk.check_place(output)
    table = load(cfg.runs if online else folder)
    done = int((table.failed == "").sum())
    if cfg.objective not in table or not done:
        known = ", ".join(name for name in table if name.startswith(("test/", "val/")))
        raise UserError(
            f"objective={cfg.objective} is no figure of these runs; use one of {known}"
            if done
            else f"runs={cfg.runs}: all {len(table)} runs failed: {table.failed.iloc[0]}"
        )
    html = page.render(table, str(cfg.runs if online else folder), cfg.objective)
    with disk.whole(output) as beside:
        # File names need not be text: what UTF-8 cannot say is written as a number.
        beside.write_bytes(html.encode("utf-8", "xmlcharrefreplace"))
    failed = f", {len(table) - done} failed" * (done < len(table))
    print(f"{done} runs{failed}: {output} ({output.stat().st_size / 1e6:.1f} MB)")
    return output


if __name__ == "__main__":
    sys.argv = cli.quote_paths(sys.argv, ("runs", "output"))
    cli.run(main)
