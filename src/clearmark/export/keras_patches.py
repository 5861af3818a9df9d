"""Overlapping patches of a picture of any size, cut and joined with Keras's operations."""

from __future__ import annotations

from typing import Any

from keras import ops

from clearmark.export.keras_rows import arange, column, every, longer, ones, take


class Patches:
    """The square patches of a picture, and the way back.

    Args:
        picture: (B, H, W, C), of sides ``stride * N + patch - stride``.
        patch: side of a patch, at most two strides.
        stride: between patches.

    Attributes:
        cut: (B * N, patch, patch, C), row by row.
    """

    def __init__(self, picture: Any, patch: int, stride: int) -> None:
        if not stride <= patch <= 2 * stride:
            raise NotImplementedError("more than two of its patches overlap, or none meet")
        self.patch, self.stride = patch, stride
        rows = [longer(ones(picture, axis), stride - patch) for axis in (1, 2)]
        self.counts = [every(row, stride) for row in rows]
        for axis, count in enumerate(self.counts):
            each = arange(ops.tile(count, [patch]))
            picture = take(picture, each // patch * stride + each % patch, axis + 1)
        channels = picture.shape[-1]
        grid = ops.space_to_depth(picture, patch)  # (B, rows, columns, patch^2 * C)
        self.cut = ops.reshape(grid, (-1, patch, patch, channels))
        pictures = arange(ones(grid, 0))
        rows, columns = map(arange, self.counts)
        height, width = map(ops.sum, self.counts)
        first = ops.expand_dims(pictures, (1, 2)) * height + ops.expand_dims(rows, (0, 2))
        self.number = first * width + ops.expand_dims(columns, (0, 1))  # (B, rows, columns)

    def joined(self, values: Any) -> Any:
        """The sum of patches (B * N, C * patch^2), or of one (C * patch^2) for all, as a picture.

        Returns:
            (B, H, W, C).
        """
        if not hasattr(values, "dtype") or len(values.shape) == 1:
            values = ops.ones_like(self.cut[:, :1, 0, 0]) * values
        channels = values.shape[-1] // self.patch**2
        values = ops.reshape(values, (-1, channels, self.patch**2))
        values = ops.reshape(ops.transpose(values, (0, 2, 1)), (-1, channels * self.patch**2))
        grid = take(values, self.number, 0)
        picture = ops.depth_to_space(grid, self.patch)  # (B, rows * patch, columns * patch, C)
        for axis, count in enumerate(self.counts):
            picture = self._overlapped(picture, axis + 1, count)
        return picture

    def _overlapped(self, picture: Any, axis: int, count: Any) -> Any:
        """Patches that stand side by side along an axis, moved over each other and added."""
        patch, stride = self.patch, self.stride
        overlap = patch - stride
        where = arange(longer(ops.tile(count, [stride]), overlap))
        block, inside, last = where // stride, where % stride, ops.sum(count) - 1
        there = column(block <= last, axis)
        here = take(picture, ops.minimum(block, last) * patch + inside, axis) * there
        if not overlap:
            return here
        before = column(ops.logical_and(block >= 1, inside < overlap), axis)
        reach = ops.maximum(block - 1, 0) * patch + ops.minimum(inside + stride, patch - 1)
        return here + take(picture, reach, axis) * before
