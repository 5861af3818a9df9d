"""Clearmark: networks that remove visible watermarks from photos, and how they are trained."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from clearmark.remover import Remover

__all__ = ["load"]
__version__ = version("clearmark")


def load(ckpt: str | Path | None = None, device: str | None = None) -> Remover:
    """A remover for pictures, ``load()(image)``: see ``clearmark.remover.load``."""
    from clearmark import remover  # torch, which --help does not wait for

    return remover.load(ckpt, device)
