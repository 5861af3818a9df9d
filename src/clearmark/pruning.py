"""Structured pruning: a network's most important channels, as a narrower network of its kind.

Channels that depend on each other (both ends of an addition, a convolution and its norm) are kept
or left out together, by the norm of their weights (DepGraph; Fang et al., 2023).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from clearmark.config import build_network
from clearmark.errors import UserError
from clearmark.limits import Limit
from clearmark.models.base import Restoration

SHARE = Limit(0, 1, whole=False, above=True)
WIDTHS = ("widths", "width")
"""What networks call their numbers of channels."""


def narrowed(model: Mapping[str, Any], keep: float) -> dict[str, Any]:
    """The config of a network with the share ``keep`` of the channels, rounded down.

    Raises:
        UserError: ``keep`` is not within (0, 1], or the network has no width.
    """
    if not SHARE.allows(keep):
        raise UserError(f"keep={keep} is no share of the channels; give {SHARE}")
    key = next((key for key in WIDTHS if key in model), None)
    if key is None:
        raise UserError(f"keep={keep}: {model['_target_']} has no widths that could be pruned")
    width = model[key]
    fewer = [_kept(w, keep) for w in width] if key == "widths" else _kept(width, keep)
    return {**model, key: fewer}


def prune(network: nn.Module, model: Mapping[str, Any], keep: float) -> nn.Module:
    """The network of ``narrowed(model, keep)``, with the weights of the channels that are kept.

    Args:
        network: it is taken apart.
        model: its config.
        keep: share of the channels, 0 to 1.

    Raises:
        UserError: as ``narrowed``; or the network cannot be taken apart, or the extra is missing.
    """
    narrow = build_network(narrowed(model, keep))
    pruning = _library()
    picture = torch.zeros(1, 3, 64, 64)
    pruning.pruner.BasePruner(
        network,
        picture,
        importance=pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=1 - keep,
        ignored_layers=_as_wide(network, narrow),
        output_transform=_tensors,
    ).step()
    try:
        narrow.load_state_dict(network.state_dict())
    except RuntimeError as error:
        raise UserError(f"keep={keep}: {model['_target_']} cannot be pruned") from error
    return narrow


def _kept(width: int, keep: float) -> int:
    return max(1, int(width * (1 - (1 - keep))))  # as the library counts


def _as_wide(network: nn.Module, narrow: nn.Module) -> list[nn.Module]:
    """The layers that have as many channels in both, such as those that make the picture."""
    fewer = narrow.state_dict()
    return [
        network.get_submodule(name.removesuffix(".weight"))
        for name, value in network.state_dict().items()
        if name.endswith(".weight") and len(value) == len(fewer[name])
    ]


def _tensors(restored: Restoration) -> list[Tensor]:
    return [value for value in restored if isinstance(value, Tensor)]


def _library() -> ModuleType:
    try:
        import torch_pruning
    except ImportError as error:
        raise UserError(
            f'keep= needs {error.name}: pip install -c constraints.txt -e ".[prune]"'
        ) from error
    library: ModuleType = torch_pruning
    return library
