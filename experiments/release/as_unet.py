"""A U-Net with the body of an Unblend network, and with what its heads say, cell by cell.

python experiments/release/as_unet.py outputs/release/pruned outputs/release/unet_start
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from clearmark import released, runs
from clearmark.config import build_network


def main(run: Path, output: Path) -> None:
    """Write the U-Net as a released model, for ``init=`` to start from."""
    unblend, config = runs.load_network(run)
    kept = {key: value for key, value in config["model"].items() if key != "_target_"}
    model = {"_target_": "clearmark.models.UNet", **kept, "mask": True}
    unet = build_network(model)
    weights = unblend.state_dict()
    heads = {f"correction.mask.{name}": weights.pop(f"mask.{name}") for name in ("weight", "bias")}
    for name in ("weight", "bias"):
        # Gain and offset hold for a cell, and the fill is an offset of each of its pixels.
        maps = weights.pop(f"unmix.{name}").repeat_interleave(model["scale"] ** 2, 0)
        fill = weights.pop(f"fill.{name}")
        heads[f"correction.maps.{name}"] = torch.cat(
            [maps[: -len(fill)], maps[-len(fill) :] + fill]
        )
    unet.load_state_dict({**weights, **heads})
    released.write(output, unet, {**config, "model": model}, "")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
