"""Unblend: find the mark, undo it by the formation model, and fill in what that cannot explain.

marked ─ body (as the U-Net's) ─┬─ mask: what it does not find marked passes through untouched
                                ├─ gain and offset, smooth over a mark: the inverse formation
                                └─ fill, pixel by pixel: edges, and what is lost under the mark
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clearmark.models.base import MAPS, Restoration, gated, grow
from clearmark.models.unet import Body

FLOOR = 0.1
"""Probability of a mark up to which a pixel is passed through as it is."""


class Unblend(Body):
    """Predicts a mark's opacity and colour where the mark is, and inverts the formation.

    Opacity and colour come as gain and offset (see ``base.corrected``), one value for a cell of
    ``scale`` pixels and drawn out between cells, since they change slowly over a mark; whatever
    changes faster is left to the fill.

    Args:
        activation, widths, blocks, finest, scale, extremes: of the body, as in ``unet.Body``.
    """

    def __init__(
        self,
        activation: Callable[[], nn.Module],
        widths: Sequence[int] = (32, 48, 64),
        blocks: int = 1,
        finest: int = 3,
        scale: int = 4,
        extremes: Sequence[int] = (),
    ) -> None:
        super().__init__(activation, widths, blocks, finest, scale, extremes)
        width, pixels = widths[0], scale**2
        self.mask = nn.Conv2d(width, pixels, 1)
        self.unmix = nn.Conv2d(width, MAPS, 1)
        self.fill = nn.Conv2d(width, 3 * pixels, 1)
        nn.init.zeros_(self.mask.bias)  # type: ignore[arg-type]
        for layer in (self.unmix, self.fill):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, marked: Tensor, overview: Tensor | None = None) -> Restoration:
        """Restore (B, 3, H, W); a tile with the overview of its picture (see ``SeesWhole``)."""
        height, width = marked.shape[-2:]
        picture = grow(marked, self.multiple)
        features = self.features(picture, overview)
        mask, fill = (F.pixel_shuffle(x(features), self.scale) for x in (self.mask, self.fill))
        cells = self.unmix(features)
        maps = F.interpolate(cells, scale_factor=float(self.scale), mode="bilinear")
        correction = torch.addcmul(maps[:, 1:] + fill, maps[:, :1], picture - 0.5)
        mask, correction, maps = (x[..., :height, :width] for x in (mask, correction, maps))
        return gated(marked, correction, mask, FLOOR, maps)
