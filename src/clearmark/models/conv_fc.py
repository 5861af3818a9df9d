"""The plain network of the textbooks: convolution, pooling, fully connected layers.

A fully connected layer has one weight per input pixel, so it needs an input of a fixed size. The
picture is therefore cut into overlapping patches, each is restored on its own, and where patches
overlap one fades into the next.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clearmark.errors import UserError
from clearmark.models.base import MAPS, Restoration, corrected

POOLING: dict[str, Callable[[], list[nn.Module]]] = {
    "max": lambda: [nn.MaxPool2d(2)],
    "average": lambda: [nn.AvgPool2d(2)],
    "stride": list,
}


class ConvFC(nn.Module):
    """Restores a picture patch by patch; knows nothing of what lies outside a patch.

    Args:
        activation: builds the activation that follows each hidden layer.
        widths: channels of the convolutions, each followed by 2x2 pooling.
        hidden: neurons of the hidden fully connected layer.
        patch: patch side in pixels, a multiple of ``2 ** len(widths)``.
        overlap: pixels that neighbouring patches share, at most half a patch.
        mask: predict where the mark is.
        pooling: "max", the strongest of four features, "average", or "stride": the convolution
            itself takes every second place.
    """

    window: Tensor

    def __init__(
        self,
        activation: Callable[[], nn.Module],
        widths: tuple[int, ...] = (16, 32, 32),
        hidden: int = 256,
        patch: int = 32,
        overlap: int = 8,
        mask: bool = True,
        pooling: str = "max",
    ) -> None:
        super().__init__()
        if pooling not in POOLING:
            raise UserError(f"model.pooling={pooling} is none of {', '.join(POOLING)}")
        if not 0 <= overlap <= patch // 2:
            raise UserError(
                f"model.overlap={overlap} does not fit model.patch={patch}; "
                f"use {patch // 2} or less"
            )
        if patch % 2 ** len(widths):
            raise UserError(
                f"model.patch={patch} cannot be halved {len(widths)} times, once for each of "
                f"model.widths; use a multiple of {2 ** len(widths)}"
            )
        self.patch, self.overlap, self.has_mask = patch, overlap, mask
        layers: list[nn.Module] = []
        for before, width in zip((3, *widths), widths, strict=False):
            stride = 2 if pooling == "stride" else 1
            layers += [nn.Conv2d(before, width, 3, stride, padding=1), activation()]
            layers += POOLING[pooling]()
        features = widths[-1] * (patch // 2 ** len(widths)) ** 2
        self.layers = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(features, hidden), activation()
        )
        self.maps = nn.Linear(hidden, MAPS * patch**2)
        nn.init.zeros_(self.maps.weight)
        nn.init.zeros_(self.maps.bias)
        if mask:
            self.mask = nn.Linear(hidden, patch**2)
            nn.init.zeros_(self.mask.bias)
        inside = torch.arange(patch) + 0.5
        fade = (torch.minimum(inside, patch - inside) / max(overlap, 1)).clamp(max=1)
        self.register_buffer("window", torch.outer(fade, fade), persistent=False)

    def forward(self, marked: Tensor) -> Restoration:
        """Restore (B, 3, H, W)."""
        height, width = marked.shape[-2:]
        rim, stride = self.overlap, self.patch - self.overlap
        right, down = (rim + -(side + rim) % stride for side in (width, height))
        grown = F.pad(marked, (rim, right, rim, down), mode="replicate")
        patches = F.unfold(grown, self.patch, stride=stride)  # (B, 3 * patch^2, N)
        batch, _, count = patches.shape
        patches = patches.transpose(1, 2).reshape(batch * count, 3, self.patch, self.patch)
        hidden = self.layers(patches - 0.5)
        shape = (batch, count, grown.shape[-2], grown.shape[-1])

        def full(patches: Tensor) -> Tensor:
            return self._joined(patches, shape)[..., rim : rim + height, rim : rim + width]

        logits = full(self.mask(hidden)) if self.has_mask else None
        return corrected(marked, full(self.maps(hidden)), logits)

    def _joined(self, patches: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
        """Weighted mean of overlapping patches (B * N, C * patch^2) as a picture (B, C, H, W)."""
        batch, count, height, width = shape
        weights = self.window.flatten().to(patches.dtype)
        columns = patches.reshape(batch, count, -1, self.patch**2) * weights
        columns = columns.flatten(2).transpose(1, 2)

        def fold(values: Tensor) -> Tensor:
            return F.fold(values, (height, width), self.patch, stride=self.patch - self.overlap)

        return fold(columns) / fold(weights[None, :, None].expand(1, -1, count))
