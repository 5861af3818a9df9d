"""U-Net (Ronneberger et al., 2015) of residual blocks: quarter resolution, added skips.

marked ─ unshuffle ─ encoder ─┬────────── skip ──────────(+)─ decoder ─ correction
                              └ pool ─ encoder ─ ... ─ resize ┘
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clearmark.errors import UserError
from clearmark.models.base import Correction, Restoration, SeesWhole, grow, pooled
from clearmark.models.resnet import Block


class Body(SeesWhole):
    """From a picture to features at a fraction of its resolution, having seen it at all scales.

    Args:
        activation: builds the activation that follows each convolution.
        widths: channels per level, from fine to coarse; each level halves the resolution.
        blocks: residual blocks per level, on the way down and on the way up.
        finest: residual blocks of the finest level on the way up.
        scale: the finest level is that many times smaller than the picture. Its pixels are not
            lost but become channels; at 4 a sample costs a quarter of what it costs at 2.
        extremes: sides, odd and in cells of ``scale`` pixels, of the windows whose brightest and
            darkest value of each colour it is shown too. Under a mark they are bounds on opacity
            a and colour W, since ``a W <= I <= a W + 1 - a`` whatever the photo.

    Raises:
        UserError: ``extremes`` is no list, or a window has no middle.
    """

    def __init__(
        self,
        activation: Callable[[], nn.Module],
        widths: Sequence[int],
        blocks: int,
        finest: int,
        scale: int,
        extremes: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if not isinstance(extremes, Sequence) or not all(map(_has_middle, extremes)):
            raise UserError(
                f"model.extremes={extremes} is no list of odd sides; use [1,5,17], or [] for none"
            )
        self.scale, self.multiple = scale, scale * 2 ** (len(widths) - 1)
        self.extremes = tuple(extremes)
        inputs = [3 * scale**2 + 6 * len(self.extremes), *widths[:-1]]
        self.encoders = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                activation(),
                *(Block(width, 1, activation) for _ in range(blocks)),
            )
            for before, width in zip(inputs, widths, strict=True)
        )
        self.context = Context(widths[-1])
        coarse_to_fine = list(zip(widths[1:], widths[:-1], strict=True))[::-1]
        self.narrow = nn.ModuleList(nn.Conv2d(c, f, 1) for c, f in coarse_to_fine)
        counts = [blocks] * (len(widths) - 2) + [finest]
        self.decoders = nn.ModuleList(
            nn.Sequential(*(Block(fine, 1, activation) for _ in range(count)))
            for (_, fine), count in zip(coarse_to_fine, counts, strict=False)
        )

    def survey(self, marked: Tensor) -> Tensor:
        """What the context is pooled from (see ``base.SeesWhole``)."""
        return self._encoded(grow(marked, self.multiple))[-1]

    def features(self, picture: Tensor, overview: Tensor | None = None) -> Tensor:
        """(B, widths[0], H / scale, W / scale) of (B, 3, H, W), H and W multiples of `multiple`."""
        skips = self._encoded(picture)
        features = self.context(skips.pop(), overview)
        for narrow, decoder in zip(self.narrow, self.decoders, strict=True):
            wider = F.interpolate(narrow(features), scale_factor=2.0, mode="nearest")
            features = decoder(wider + skips.pop())
        return features

    def _encoded(self, picture: Tensor) -> list[Tensor]:
        """Features of every level, from fine to coarse."""
        features = self.shown(picture)
        levels = []
        for depth, encoder in enumerate(self.encoders):
            features = encoder(F.max_pool2d(features, 2) if depth else features)
            levels.append(features)
        return levels

    def shown(self, picture: Tensor) -> Tensor:
        """What the first layer sees of (B, 3, H, W), less 1/2: (B, C, H / scale, W / scale).

        The 3 scale^2 pixels of a cell, and of each window the brightest values of the colours and
        the darkest ones with their sign turned.
        """
        picture = picture - 0.5
        pixels = F.pixel_unshuffle(picture, self.scale)
        if not self.extremes:
            return pixels
        cells = F.max_pool2d(torch.cat([picture, -picture], 1), self.scale)
        return torch.cat([pixels, *(_brightest(cells, side) for side in self.extremes)], 1)


def _has_middle(side: object) -> bool:
    return isinstance(side, int) and side > 0 and side % 2 == 1


def _brightest(cells: Tensor, side: int) -> Tensor:
    """The largest values in windows of ``side`` x ``side``; of columns first, to compare fewer."""
    if side == 1:
        return cells
    columns = F.max_pool2d(cells, (side, 1), 1, (side // 2, 0))
    return F.max_pool2d(columns, (1, side), 1, (0, side // 2))


class UNet(Body):
    """Sees the picture at several scales, from letters' edges to whole marks.

    Args:
        activation, widths, blocks, finest, scale, extremes: as in ``Body``.
        mask: predict where the mark is.
    """

    def __init__(
        self,
        activation: Callable[[], nn.Module],
        widths: Sequence[int] = (32, 64, 128),
        blocks: int = 1,
        finest: int = 3,
        scale: int = 4,
        extremes: Sequence[int] = (),
        mask: bool = True,
    ) -> None:
        super().__init__(activation, widths, blocks, finest, scale, extremes)
        self.correction = Correction(widths[0], scale, mask)

    def forward(self, marked: Tensor, overview: Tensor | None = None) -> Restoration:
        """Restore (B, 3, H, W); a tile with the overview of its picture (see ``SeesWhole``)."""
        return self.correction(self.features(grow(marked, self.multiple), overview), marked)


class Context(nn.Module):
    """Adds what the whole picture says to every place: mean and maximum, through two layers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        last = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(last.weight)
        self.layers = nn.Sequential(nn.Conv2d(2 * channels, channels, 1), nn.ReLU(), last)

    def forward(self, features: Tensor, overview: Tensor | None = None) -> Tensor:
        return features + self.layers(pooled(features) if overview is None else overview)
