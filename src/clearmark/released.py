"""Released models: networks with their weights for others to use, each a folder of its own.

``config.json`` says which network it is, ``model.safetensors`` holds its weights, and ``README.md``
is the model card. Those that come with the package go by their names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from clearmark import disk
from clearmark.errors import UserError, first_line

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
EMBEDDED = Path(__file__).parent / "assets" / "models"
BEST = "unblend"
"""The embedded model that restores pictures where no other is named."""


def names() -> list[str]:
    """The embedded models."""
    return sorted(path.parent.name for path in EMBEDDED.glob(f"*/{WEIGHTS}"))


def check_place(folder: Path) -> None:
    """See that a released model can be put there.

    Raises:
        UserError: something else is in the place of the folder, or in it.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"output={folder} is a file; a released model is a folder")
    kept = {CONFIG, WEIGHTS, CARD}
    others = (
        sorted(p.name for p in folder.iterdir() if p.name not in kept) if folder.exists() else ()
    )
    if others:
        raise UserError(
            f"output={folder} holds {others[0]}, which is of no released model; give a new folder"
        )


def write(folder: Path, network: nn.Module, config: dict[str, Any], card: str) -> None:
    """Write a released model; a folder that is there is replaced if it holds one, or nothing.

    Kernels are stored in 16 bits, which halves the file. What is small or must not lose precision
    stays in 32: biases, gains, running statistics, and what 16 bits cannot hold.

    Args:
        folder: where it goes; it is whole or not there.
        network: on any device.
        config: of the checkpoint; its ``model`` builds the network again.
        card: the text of the model card.

    Raises:
        UserError: see ``check_place``.
    """
    check_place(folder)
    buffers = {name for name, _ in network.named_buffers()}
    weights = {
        name: _stored(value, exact=name in buffers) for name, value in network.state_dict().items()
    }
    with disk.whole_folder(folder) as new:
        # Its save_file would make a file that nobody else may read.
        (new / WEIGHTS).write_bytes(save(weights, metadata={"format": "pt"}))
        text = json.dumps({"model": config["model"]}, indent=2)
        (new / CONFIG).write_text(text + "\n", encoding="utf-8")
        (new / CARD).write_text(card, encoding="utf-8")


def read(path: Path, key: str = "ckpt") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights of a ``model.safetensors`` and the ``config.json`` beside it, as they stand.

    Neither file can hold code. What network the config names is not looked at here.

    Args:
        path: of ``model.safetensors``.
        key: what the user calls it, for errors.

    Raises:
        UserError: one of the two is missing or damaged.
    """
    beside = path.with_name(CONFIG)
    if not beside.is_file():
        raise UserError(f"{key}={path}: {beside} is missing; a released model is both in a folder")
    try:
        config = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{key}={path}: {beside} cannot be read: {first_line(error)}") from error
    if not (isinstance(config, dict) and "model" in config):
        raise UserError(f'{key}={path}: {beside} has no "model"; it is of no released model')
    try:
        return load_file(path), config
    except Exception as error:  # whatever safetensors and torch make of a file that is none
        raise UserError(f"{key}={path} cannot be read as weights: {first_line(error)}") from error


def _stored(value: Tensor, exact: bool) -> Tensor:
    value = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    if exact or value.ndim < 2 or not value.is_floating_point():
        return value
    half = value.half()
    return half if bool(half.isfinite().all()) else value
