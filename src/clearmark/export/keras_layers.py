"""The layers that Keras has for a network's operators, with channels last, as TensorFlow has them.

Only Keras's own layers and operations, so that a file of them loads where this package is not.
A picture's sides are known when it comes: they are carried as rows of ones of that length.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops
from sympy import Expr
from torch import Tensor

from clearmark.export.keras_patches import Patches
from clearmark.export.keras_rows import arange, every, interpolated, longer, ones, take
from clearmark.export.walk import END, growth

AXES = (0, 3, 1, 2)
"""Where the dimensions of (B, C, H, W) lie in a picture with channels last."""


class KerasLayers:
    """A method for each of ATen's operators; pictures are (B, H, W, C), the rest as in torch.

    Args:
        marked: (B, H, W, 3), the network's input.
        sides: the symbols of H and W.
    """

    def __init__(self, marked: keras.KerasTensor, sides: tuple[Expr, Expr]) -> None:
        self.sides = sides
        self.rows = [ones(marked, axis) for axis in (1, 2)]
        self.patches: Patches | None = None

    # Layers with weights

    def conv2d(
        self,
        x: Any,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: list[int] = [1, 1],  # noqa: B006
        padding: list[int] = [0, 0],  # noqa: B006
        dilation: list[int] = [1, 1],  # noqa: B006
        groups: int = 1,
    ) -> Any:
        filters, _, *kernel = weight.shape
        if any(padding):
            x = layers.ZeroPadding2D(tuple(padding))(x)
        layer = layers.Conv2D(
            filters,
            tuple(kernel),
            strides=tuple(stride),
            dilation_rate=tuple(dilation),
            groups=groups,
            use_bias=bias is not None,
        )
        return _filled(layer, x, weight.permute(2, 3, 1, 0), bias)

    def linear(self, x: Any, weight: Tensor, bias: Tensor | None = None) -> Any:
        layer = layers.Dense(weight.shape[0], use_bias=bias is not None)
        return _filled(layer, x, weight.t(), bias)

    def batch_norm(
        self,
        x: Any,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        training: bool,
        momentum: float,
        eps: float,
        *_: Any,
    ) -> Any:
        layer = layers.BatchNormalization(epsilon=eps)
        return _filled(layer, x, weight, bias, mean, variance)

    def prelu(self, x: Any, weight: Tensor) -> Any:
        shared = list(range(1, len(x.shape) - 1))
        shape = (1,) * len(shared) + (x.shape[-1],)
        layer = layers.PReLU(shared_axes=shared or None)
        return _filled(layer, x, weight.expand(x.shape[-1]).reshape(shape))

    # Sizes

    def max_pool2d(
        self,
        x: Any,
        kernel: list[int],
        stride: list[int] | None = None,
        padding: list[int] = [0, 0],  # noqa: B006
    ) -> Any:
        stride = stride or kernel
        if any(padding) and (stride != [1, 1] or [2 * side + 1 for side in padding] != kernel):
            raise NotImplementedError(f"it pools {kernel} with a rim of {padding}")
        rim = "same" if any(padding) else "valid"  # nothing of a rim is ever the largest
        return layers.MaxPooling2D(tuple(kernel), tuple(stride), rim)(x)

    def avg_pool2d(self, x: Any, kernel: list[int], stride: list[int] | None = None) -> Any:
        return layers.AveragePooling2D(tuple(kernel), tuple(stride or kernel))(x)

    def upsample_nearest2d(self, x: Any, size: None, scales: list[float]) -> Any:
        return layers.UpSampling2D(tuple(map(int, scales)))(x)

    def upsample_bilinear2d(self, x: Any, size: None, corners: bool, scales: list[float]) -> Any:
        if corners:
            raise NotImplementedError("it interpolates with align_corners=True")
        for axis, scale in enumerate(scales, 1):  # UpSampling2D's sizes have to be known
            x = interpolated(x, axis, int(scale))
        return x

    def pixel_unshuffle(self, x: Any, scale: int) -> Any:
        order = np.arange(x.shape[-1] * scale**2).reshape(scale**2, -1).T  # (i, j, C) to (C, i, j)
        return _channels(ops.space_to_depth(x, scale), order)

    def pixel_shuffle(self, x: Any, scale: int) -> Any:
        order = np.arange(x.shape[-1]).reshape(-1, scale**2).T
        return ops.depth_to_space(_channels(x, order), scale)

    def pad(self, x: Any, widths: list[Any], mode: str = "constant", value: float = 0) -> Any:
        if mode != "replicate" or len(widths) != 4:
            raise NotImplementedError(f"it pads with mode={mode}")
        for axis, (before, after) in enumerate((widths[2:], widths[:2])):
            grown = growth(self.sides[axis], before, after)
            row = self.rows[axis]
            blocks = every(longer(row, grown.more), grown.multiple)
            row = longer(ops.tile(blocks, [grown.multiple]), grown.rest)
            last = ops.sum(self.rows[axis]) - 1
            where = ops.maximum(ops.minimum(arange(row) - grown.before, last), 0)
            x = take(x, where, axis + 1)
        return x

    def slice(self, x: Any, dim: int, start: Any = None, end: Any = None, step: int = 1) -> Any:
        start, end = start or 0, END if end is None else end
        if (start, end, step) == (0, END, 1):
            return x
        if dim == 1 and len(x.shape) == 4:
            return x[:, :, :, start : None if end == END else end]
        if dim < 2 or step != 1 or end - start != self.sides[dim - 2]:
            raise NotImplementedError(f"it takes {start} to {end} of dimension {dim}")
        return take(x, arange(self.rows[dim - 2]) + int(start), dim - 1)

    # Patches

    def im2col(
        self, x: Any, kernel: list[int], dilation: Any, padding: Any, stride: list[int]
    ) -> Any:
        if kernel[0] != kernel[1] or stride[0] != stride[1] or dilation != [1, 1] or any(padding):
            raise NotImplementedError("its patches are not squares side by side")
        self.patches = Patches(x, kernel[0], stride[0])
        return self.patches.cut

    def col2im(self, x: Any, *_: Any) -> Any:
        if self.patches is None:
            raise NotImplementedError("it joins patches that it did not cut")
        return self.patches.joined(x.flatten().numpy() if isinstance(x, Tensor) else x)

    def transpose(self, x: Any, *_: Any) -> Any:
        return x  # patches come before their values anyway

    def expand(self, x: Tensor, *_: Any) -> Tensor:
        return x  # to as many as there are patches, see ``col2im``

    def reshape(self, x: Any, shape: list[Any]) -> Any:
        if len(x.shape) == 4 and tuple(shape[1:]) == (x.shape[3], *x.shape[1:3]):
            return x
        if len(x.shape) == 2 and len(shape) == 4:  # (B, N, C, patch^2)
            return ops.reshape(x, (-1, x.shape[1] // shape[3], shape[3]))
        raise NotImplementedError(f"it has a reshape to {shape}")

    def flatten(self, x: Any, start: int = 0, end: int = -1) -> Any:
        if len(x.shape) == 4:
            x = layers.Permute((3, 1, 2))(x)
        return layers.Flatten()(x)

    # Arithmetic

    def add(self, x: Any, y: Any) -> Any:
        return _arrayed(x) + _arrayed(y)

    def sub(self, x: Any, y: Any) -> Any:
        return _arrayed(x) - _arrayed(y)

    def neg(self, x: Any) -> Any:
        return -x

    def mul(self, x: Any, y: Any) -> Any:
        return _arrayed(x) * _arrayed(y)

    def div(self, x: Any, y: Any) -> Any:
        return _arrayed(x) / _arrayed(y)

    def addcmul(self, x: Any, y: Any, z: Any) -> Any:
        return x + y * z

    def pow(self, x: Any, exponent: float) -> Any:
        return ops.power(x, exponent)

    def cat(self, parts: list[Any], dim: int = 0) -> Any:
        return layers.Concatenate(AXES[dim])(list(parts))

    def mean(self, x: Any, dims: list[int], keep: bool = False) -> Any:
        return ops.mean(x, [AXES[dim] for dim in dims], keepdims=keep)

    def amax(self, x: Any, dims: list[int], keep: bool = False) -> Any:
        return ops.amax(x, [AXES[dim] for dim in dims], keepdims=keep)

    def clamp(self, x: Any, low: float, high: float) -> Any:
        return ops.clip(x, low, high)

    def square(self, x: Any) -> Any:
        return ops.square(x)

    def abs(self, x: Any) -> Any:
        return ops.abs(x)

    # Activations

    def relu(self, x: Any) -> Any:
        return layers.ReLU()(x)

    def leaky_relu(self, x: Any, slope: float = 0.01) -> Any:
        return layers.LeakyReLU(negative_slope=slope)(x)

    def elu(self, x: Any, alpha: float = 1.0) -> Any:
        return layers.ELU(alpha=alpha)(x)

    def hardtanh(self, x: Any, low: float = -1.0, high: float = 1.0) -> Any:
        return ops.clip(x, low, high)

    def gelu(self, x: Any, approximate: str = "none") -> Any:
        return ops.gelu(x, approximate=approximate == "tanh")

    def celu(self, x: Any, alpha: float = 1.0) -> Any:
        return ops.celu(x, alpha=alpha)

    def softplus(self, x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
        return ops.softplus(x * beta) / beta

    def mish(self, x: Any) -> Any:
        return layers.Activation("mish")(x)

    def silu(self, x: Any) -> Any:
        return layers.Activation("silu")(x)

    def hardswish(self, x: Any) -> Any:
        return layers.Activation("hard_swish")(x)

    def selu(self, x: Any) -> Any:
        return layers.Activation("selu")(x)

    def sigmoid(self, x: Any) -> Any:
        return layers.Activation("sigmoid")(x)

    def tanh(self, x: Any) -> Any:
        return layers.Activation("tanh")(x)


def _filled(layer: keras.Layer, x: Any, *weights: Tensor | None) -> Any:
    """A layer's output, with its weights."""
    output = layer(x)
    layer.set_weights([weight.numpy() for weight in weights if weight is not None])
    return output


def _channels(x: Any, order: np.ndarray) -> Any:
    """Channels in another order."""
    flat = order.flatten()
    return x if (flat == np.arange(flat.size)).all() else ops.take(x, flat.tolist(), axis=-1)


def _arrayed(x: Any) -> Any:
    if isinstance(x, Tensor):
        return (x.permute(0, 2, 3, 1) if x.dim() == 4 else x).numpy()
    return x
