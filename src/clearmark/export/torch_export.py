"""PyTorch's own format (torch.export, ``.pt2``): the graph with its weights, run without this code.

``torch.export.load(FILE).module()(marked)`` takes (B, 3, H, W) float32 in [0, 1] and gives the
restored picture and the mask.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clearmark import disk
from clearmark.export.graph import SINGLE, Restored, check_suffix, traced

SUFFIX = ".pt2"
LIMITS = SINGLE


def check(output: Path) -> None:
    """See that the file has its format's name.

    Raises:
        UserError: see ``graph.check_suffix``.
    """
    check_suffix(output, SUFFIX, "torch")


def write(output: Path, network: nn.Module, config: dict[str, Any], ckpt: Path) -> None:
    """Write the file ``output``."""
    check(output)
    with disk.whole(output) as beside, beside.open("wb") as file:
        torch.export.save(traced(network), file)


def load(output: Path, threads: int | None = None) -> Callable[[Tensor], Restored]:
    """What runs the file on the CPU; torch's threads are those of the process."""
    module = torch.export.load(output).module()

    def restore(marked: Tensor) -> Restored:
        with torch.inference_mode():
            return Restored(*module(marked))

    return restore
