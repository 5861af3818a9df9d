"""What a network's layers look for, and what they answer to a picture."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clearmark.errors import UserError


class Activation(NamedTuple):
    """A layer's answer to one picture.

    name: of the layer, as in ``network.named_modules()``.
    maps: (N, h, w), a map for each channel; of a network that works patch by patch, the maps of
        all patches, laid out as in the picture.
    """

    name: str
    maps: Tensor


def first_filters(network: nn.Module) -> Tensor:
    """The filters that see the picture itself: (N, 3, k, k), of any range.

    Networks whose first layer sees cells of s x s pixels (``F.pixel_unshuffle``) have filters of
    3 s^2 channels; these are the same filters over pixels, k = s times the kernel's side. What they
    see beside pixels (``extremes`` of ``models.unet.Body``) is left out.

    Raises:
        UserError: no convolution of the network sees RGB pixels.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            pixels = layer.in_channels - 6 * len(getattr(network, "extremes", ()))
            scale = math.isqrt(max(pixels, 0) // 3)
            if pixels == 3 * scale**2:
                return F.pixel_shuffle(layer.weight[:, :pixels].detach().float(), scale)
            break
    raise UserError("the network begins with no convolution of RGB pixels: it has no first filters")


@torch.no_grad()
def activations(network: nn.Module, marked: Tensor) -> list[Activation]:
    """What each stage of the network answers to a square picture (1, 3, H, H), in its own order.

    A stage is a child of the network; of children that are lists of layers, each layer is one.
    Stages that answer with something else than maps (B, C, h, w), as fully connected layers do,
    are left out.
    """
    found: list[Activation] = []

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                found.append(Activation(name, _joined(output.float())))

        return hook

    handles = [stage.register_forward_hook(keep(name)) for name, stage in _stages(network)]
    try:
        network(marked)
    finally:
        for handle in handles:
            handle.remove()
    return found


def mosaic(maps: Tensor, columns: int, most: int | None = None) -> np.ndarray:
    """Maps side by side, each stretched to [0, 1]: grey (h, w), or (h, w, 3) of coloured ones.

    Args:
        maps: (N, h, w) or (N, 3, h, w). Rims are NaN between the former, white between the latter.
        columns: in a row.
        most: show only so many, those with the largest variance, largest first.
    """
    maps = maps.detach().cpu().float()
    if most is not None:
        order = maps.flatten(1).var(1).argsort(descending=True)
        maps = maps[order[:most]]
    flat = maps.flatten(1)
    low, high = flat.amin(1), flat.amax(1)
    shape = (-1, *[1] * (maps.ndim - 1))
    maps = (maps - low.view(shape)) / (high - low).clamp_min(1e-12).view(shape)
    rim_value = 1.0
    if maps.ndim == 3:
        maps, rim_value = maps[:, None], math.nan
    count = len(maps)
    rim = max(1, maps.shape[-1] // 12)
    maps = F.pad(maps, (rim, 0, rim, 0), value=rim_value)
    empty = -count % columns
    maps = torch.cat([maps, maps.new_full((empty, *maps.shape[1:]), rim_value)])
    rows = maps.unflatten(0, (-1, columns))  # (rows, columns, C, h, w)
    joined = rows.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)  # (rows h, columns w, C)
    joined = F.pad(joined, (0, 0, 0, rim, 0, rim), value=rim_value)
    return joined.squeeze(2).numpy()


def _stages(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, child in network.named_children():
        if isinstance(child, (nn.ModuleList, nn.Sequential)):
            yield from ((f"{name}.{number}", layer) for number, layer in child.named_children())
        else:
            yield name, child


def _joined(output: Tensor) -> Tensor:
    """(C, h, w) of a batch (B, C, h, w): one picture, or all patches of a square one."""
    side = math.isqrt(len(output))
    grid = output[: side**2].unflatten(0, (side, side))  # (rows, columns, C, h, w)
    return grid.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
