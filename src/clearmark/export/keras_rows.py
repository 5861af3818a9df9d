"""Sizes that are known only when a picture comes, as rows of ones of that length.

Keras's operations take no size from a tensor and reshape to one unknown size at most; but indices
can be computed from rows of ones, and what they say be gathered.
"""

from __future__ import annotations

from typing import Any

from keras import ops


def ones(x: Any, axis: int) -> Any:
    """A row of ones as long as an axis of (B, H, W, C)."""
    index = tuple(slice(None) if n == axis else 0 for n in range(4))
    return ops.ones_like(x[index], dtype="int32")


def arange(row: Any) -> Any:
    """0, 1, 2, ... as long as a row of ones."""
    return ops.cumsum(row) - 1


def longer(row: Any, more: int) -> Any:
    """A row of ones, longer by so many, or shorter."""
    return row[..., :more] if more < 0 else ops.pad(row, [[0, more]], constant_values=1)


def every(row: Any, step: int) -> Any:
    """A row of ones, one for every so many that there are, or begin."""
    pooled = ops.max_pool(ops.cast(row, "float32")[None, :, None], step, step, "same")
    return ops.cast(pooled[0, :, 0], "int32")


def take(x: Any, where: Any, axis: int) -> Any:
    """The entries of an axis at computed indices."""
    return ops.take(x, where, axis=axis)


def column(row: Any, axis: int) -> Any:
    """A row of numbers or truths as floats along an axis of pictures."""
    return ops.expand_dims(ops.cast(row, "float32"), [n for n in range(4) if n != axis])


def interpolated(x: Any, axis: int, scale: int) -> Any:
    """An axis drawn out linearly, as with ``align_corners=False``."""
    row = ones(x, axis)
    step = arange(ops.tile(row, [scale])) * 2 + 1 - scale  # in halves of a new pixel
    below, last = step // (2 * scale), ops.sum(row) - 1
    share = column(step % (2 * scale), axis) / (2 * scale)
    low = take(x, ops.maximum(below, 0), axis)
    return low + share * (take(x, ops.minimum(below + 1, last), axis) - low)
