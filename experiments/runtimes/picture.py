"""The same marked photos restored in every runtime, side by side: docs/runtimes.jpg.

python experiments/runtimes/picture.py
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from matplotlib.figure import Figure

from clearmark import runs
from clearmark.config import create, register_resolvers
from clearmark.data import as_tensors
from clearmark.export import FORMATS
from clearmark.export.graph import Restored

SUFFIXES = {"torch": "pt2", "keras": "keras", "litert": "tflite"}  # others look at none
ROOT = Path(__file__).parents[2]
SAMPLES = (34, 88)  # of which much comes off, or all pictures would look the same


def main() -> None:
    """Export, load and run each format; draw what came out."""
    register_resolvers()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        dataset = create(compose("export").data).dataset("test")
    marked = [
        as_tensors(
            {key: torch.from_numpy(values)[None] for key, values in dataset[(0, index)].items()},
            torch.float32,
        )["marked"]
        for index in SAMPLES
    ]
    network, config = runs.load_network("unblend")
    weights = runs.checkpoint_of("unblend")
    columns = {"marked": marked, "PyTorch": restored(network, marked)}
    with tempfile.TemporaryDirectory() as folder:
        for name, kind in FORMATS.items():
            if name == "safetensors":  # what PyTorch reads here
                continue
            output = Path(folder) / f"{name}.{SUFFIXES.get(name, 'onnx')}"
            kind.write(output, network, config, weights)
            columns[name] = restored(kind.load(output, 1), marked)
    draw(columns)


def restored(
    network: Callable[[torch.Tensor], Restored], marked: list[torch.Tensor]
) -> list[torch.Tensor]:
    """What a runtime makes of each picture."""
    with torch.inference_mode():
        return [network(picture).image for picture in marked]


def draw(columns: dict[str, list[torch.Tensor]]) -> None:
    """A column a runtime, a row a photo."""
    figure = Figure(figsize=(1.6 * len(columns), 1.65 * len(SAMPLES)), layout="constrained")
    grid = figure.subplots(len(SAMPLES), len(columns))
    for axes, (name, pictures) in zip(grid.T, columns.items(), strict=True):
        axes[0].set_title(name, fontsize=10)
        for axis, picture in zip(axes, pictures, strict=True):
            axis.imshow(np.clip(picture[0].permute(1, 2, 0).numpy(), 0, 1))
            axis.axis("off")
    figure.savefig(ROOT / "docs" / "runtimes.jpg", dpi=110, pil_kwargs={"quality": 90})


if __name__ == "__main__":
    main()
