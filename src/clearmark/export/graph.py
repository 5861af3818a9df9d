"""A network as a graph of operators, for pictures of any number and size: what runtimes take.

Sides of 32 pixels or more; the networks themselves take any.
"""

from __future__ import annotations

import copy
import math
import warnings
from pathlib import Path
from typing import NamedTuple

import torch
import torch.fx.experimental._config as shapes
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from clearmark.errors import UserError

INPUT, OUTPUTS = "marked", ("restored", "mask")


class Restored(NamedTuple):
    """What a graph answers: the picture and, if the network predicts one, the mask.

    image: (B, 3, H, W) in [0, 1].
    mask: (B, 1, H, W), the probability of a mark.
    """

    image: Tensor
    mask: Tensor | None = None


class Limits(NamedTuple):
    """How far what is written may be from the network.

    largest: difference of a value of the picture or the mask, in [0, 1].
    psnr: of the one picture to the other, in dB, at least.
    """

    largest: float = math.inf
    psnr: float = 0.0


SINGLE = Limits(largest=1e-4)
"""Of formats in 32 bits."""


class Graph(nn.Module):
    """A network that answers with plain tensors, the picture clamped to [0, 1]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, marked: Tensor) -> tuple[Tensor, ...]:
        """Restore (B, 3, H, W) in [0, 1]."""
        restored = self.network(marked)
        image = restored.image.clamp(0, 1)
        return (image,) if restored.mask is None else (image, restored.mask)


def traced(network: nn.Module) -> ExportedProgram:
    """The graph of a network as it evaluates, in float32, for any B, H and W."""
    graph = Graph(copy.deepcopy(network)).eval().float()
    for module in list(graph.modules()):
        for name, layer in module.named_children():
            if isinstance(layer, nn.RReLU):  # as it evaluates; runtimes do not know it
                setattr(module, name, nn.LeakyReLU((layer.lower + layer.upper) / 2))
    # Sizes that are no multiple of anything, so that nothing is left out that others need.
    example = torch.rand(2, 3, 139, 201)
    sizes = {INPUT: {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}}
    # Without this, a graph traced with two pictures refuses one.
    with warnings.catch_warnings(), shapes.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        warnings.simplefilter("ignore", FutureWarning)  # of torch's own insides
        return torch.export.export(graph, (example,), dynamic_shapes=sizes)


def check_folder(output: Path, file: str, what: str) -> None:
    """See that nothing is in the place of a folder, or one that holds such a file.

    Raises:
        UserError: something else is.
    """
    if output.exists() and not (output / file).is_file():
        raise UserError(f"output={output} exists, and is no {what}; name another")


def check_suffix(output: Path, suffix: str, key: str) -> None:
    """See that a file is named as its format is, and can be put there.

    Raises:
        UserError: it is not, or a folder is there.
    """
    if output.is_dir():
        raise UserError(f"output={output} is a folder, and format={key} a file; name another")
    if output.suffix != suffix:
        raise UserError(f"output={output}: format={key} is a file; name it {output.name}{suffix}")
