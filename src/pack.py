"""Pack photos into shards to train on: ``python src/pack.py input=my_photos output=shards``."""

import sys
from collections.abc import Iterable
from pathlib import Path

import hydra
from omegaconf import DictConfig

from clearmark import cli


@hydra.main(version_base="1.3", config_path="../conf", config_name="pack")
@cli.entry
def main(cfg: DictConfig) -> None:
    """Pack the photos and print how many went into each split."""
    pack(cfg)


def pack(cfg: DictConfig) -> dict[str, int]:
    """Write the shards, or index the tar files that are there; returns photos per split."""
    from rich.progress import track

    from clearmark.data import packing
    from clearmark.limits import check_numbers

    def shown(paths: Iterable[Path], total: int) -> Iterable[Path]:
        return track(paths, "packing", total)

    root, output = cli.path(cfg, "input"), cli.path(cfg, "output")
    check_numbers(cfg)
    left_out = 0
    if root.is_dir() and output.is_dir() and root.samefile(output):
        counts = packing.index_tars(root, shown)
    else:
        settings = (cfg.short_side, cfg.quality, cfg.shard_mb)
        counts, broken = packing.pack(root, output, *settings, shown)
        left_out = len(broken)
    print(f"packed {', '.join(f'{count} {split}' for split, count in counts.items())}: {output}")
    if left_out:
        print(f"left out {left_out} photos, listed in {output / packing.LEFT_OUT}")
    empty = [split for split, count in counts.items() if not count]
    if empty:
        print(f"no photo fell into {' or '.join(empty)}: training needs all three, add more photos")
    return counts


if __name__ == "__main__":
    sys.argv = cli.quote_paths(sys.argv, ("input", "output"))
    cli.run(main)
