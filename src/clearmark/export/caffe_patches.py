"""Overlapping patches of a picture of any size, cut and joined with Caffe's layers.

In two steps, small cells first and then the windows of cells that are patches: one step would take
weights for each pair of pixels of a patch.
"""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING, Any

from torch import Tensor

from clearmark.export.caffe_net import Blob, places

if TYPE_CHECKING:
    from clearmark.export.caffe_layers import CaffeLayers


class Cut:
    """The square patches of a picture, and the way back.

    Args:
        net: gets the layers.
        picture: (B, 3, H, W).
        patch: side of a patch.
        stride: between patches.

    Attributes:
        patches: (B * N, 3, patch, patch), row by row.
    """

    def __init__(self, net: CaffeLayers, picture: Blob, patch: int, stride: int) -> None:
        self.net, self.patch = net, patch
        self.cell = cell = gcd(patch, stride)
        self.window, self.step = patch // cell, stride // cell
        cells = net.pixel_unshuffle(picture, cell)
        windows = net.conv2d(
            cells,
            places(self.window, cells.channels),
            stride=(self.step, self.step),
            groups=cells.channels,
        )  # (B, colour * row in cell * column in cell * row of cells * column of cells, n, m)
        self.plane = net.channels(windows, 0, patch**2)
        self.places = self._permuted(self.plane, 0, 2, 3, 1)  # (B, n, m, patch^2)
        shape = (3, cell, cell, self.window, self.window)
        split = self._reshaped(self._permuted(windows, 0, 2, 3, 1), *shape)
        ordered = self._permuted(split, 0, 1, 4, 2, 5, 3)
        self.patches = Blob(self._reshaped(ordered, 3, patch, patch).name, 3, "patch")

    def joined(self, values: Any) -> Blob:
        """The sum of patches (B * N, C * patch^2), or of one patch^2 for all, as (B, C, H, W)."""
        net, area = self.net, self.patch**2
        if isinstance(values, Tensor):
            shape = (self.window, self.cell, self.window, self.cell)
            same = values.reshape(shape).permute(1, 3, 0, 2).flatten()
            columns = net.mul(net.add(net.mul(self.plane, 0), 1), same)
        else:
            starts = range(0, values.channels, area)
            planes = [self._plane(net.channels(values, at, at + area)) for at in starts]
            columns = planes[0] if len(planes) == 1 else net.cat(planes, 1)
        groups = columns.channels // self.window**2
        cells = net.deconv2d(columns, places(self.window, groups), self.step, groups)
        return net.pixel_shuffle(cells, self.cell)

    def _plane(self, values: Blob) -> Blob:
        """(B * N, patch^2) as (B, patch^2, n, m)."""
        split = self._reshaped(values, self.window, self.cell, self.window, self.cell)
        ordered = self._permuted(split, 0, 2, 4, 1, 3)
        placed = Blob(self.net.layer("Reshape", ordered, self.places), self.patch**2)
        return self._permuted(placed, 0, 3, 1, 2)

    def _permuted(self, x: Blob, *order: int) -> Blob:
        return x._replace(name=self.net.layer("Permute", x, permute_param={"order": order}))

    def _reshaped(self, x: Blob, *shape: int) -> Blob:
        params = {"shape": {"dim": [-1, *shape]}}
        return x._replace(name=self.net.layer("Reshape", x, reshape_param=params))
