"""A network that is shown extremes as well, and does what it did before it was.

python experiments/release/with_extremes.py outputs/release/second outputs/release/extremes
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from clearmark import released, runs
from clearmark.config import build_network

EXTREMES = [1, 5, 17]


def main(run: Path, output: Path) -> None:
    """Write the network, of no weight yet for what is new, as a released model for ``init=``."""
    before, config = runs.load_network(run)
    model = {**config["model"], "extremes": EXTREMES}
    network = build_network(model)
    weights = before.state_dict()
    first = "encoders.0.0.weight"
    seen = torch.zeros_like(network.state_dict()[first])
    seen[:, : weights[first].shape[1]] = weights[first]
    network.load_state_dict({**weights, first: seen})
    released.write(output, network, {**config, "model": model}, "")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
