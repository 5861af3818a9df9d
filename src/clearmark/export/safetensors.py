"""A released model: 16-bit weights, the network's config and a model card, in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from clearmark import released, runs
from clearmark.export.card import card
from clearmark.export.graph import Limits

LIMITS = Limits(largest=0.1, psnr=50)
"""Of 16 bits, which cost a trained network a thousandth, some 100 dB."""


def check(output: Path) -> None:
    """See that the folder can be put there.

    Raises:
        UserError: see ``released.check_place``.
    """
    released.check_place(output)


def write(output: Path, network: nn.Module, config: dict[str, Any], ckpt: Path) -> None:
    """Write the folder ``output``.

    Args:
        output: replaced if it is a released model.
        network: with the weights to release.
        config: of the checkpoint.
        ckpt: the checkpoint's file, in the run that the card tells of; or the weights of a
            released model, which comes out as it is.

    Raises:
        UserError: something else is in the place of ``output``.
    """
    told = ckpt.with_name(released.CARD)
    if ckpt.suffix == ".safetensors" and told.is_file():
        text = told.read_text(encoding="utf-8")
    else:
        text = card(output.name, network, config, ckpt)
    released.write(output, network, config, text)


def load(output: Path, threads: int | None = None) -> nn.Module:
    """The released network; torch's threads are those of the process."""
    return runs.load_network(output)[0]
