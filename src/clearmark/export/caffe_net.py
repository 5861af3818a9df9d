"""A Caffe network as it is written: layers one after the other, arithmetic and activations.

Activations that Caffe itself lacks go by the names of OpenCV's own layers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from clearmark.export.caffe_proto import net_parameter


class Blob(NamedTuple):
    """A value of the network.

    name: of the layer that gives it.
    channels: how many.
    shape: "map" for (B, C, H, W), "point" for (B, C, 1, 1), "row" for (B, C), "patch" for
        (B * N, C, H, W) on the way from ``im2col``.
    top: rows above that are to be cropped, together with the columns; None if there are none.
    """

    name: str
    channels: int
    shape: str = "map"
    top: int | None = None


def places(side: int, groups: int) -> Tensor:
    """Weights (groups * side^2, 1, side, side) that give each pixel of a square its channel."""
    return torch.eye(side**2).reshape(-1, 1, side, side).repeat(groups, 1, 1, 1)


class CaffeNet:
    """A method for each of ATen's operators that keep a value's shape; ``net`` gets the layers."""

    def __init__(self) -> None:
        self.net = net_parameter()(name="clearmark")

    def name_outputs(self, names: dict[str, str]) -> None:
        """Give layers other names."""
        for layer in self.net.layer:
            layer.name = names.get(layer.name, layer.name)
            for blobs in (layer.bottom, layer.top):
                blobs[:] = [names.get(name, name) for name in blobs]

    def layer(self, kind: str, *bottoms: Blob, blobs: tuple[Any, ...] = (), **params: Any) -> str:
        """Add a layer.

        Args:
            kind: its type.
            bottoms: what it takes.
            blobs: its weights.
            params: a parameter message's name and its fields.

        Returns:
            Its name, which is that of what it gives.
        """
        if any(bottom.top is not None for bottom in bottoms):
            raise NotImplementedError("it crops rows alone")
        name = f"{kind.lower()}_{len(self.net.layer) + 1}"
        layer = self.net.layer.add(
            name=name, type=kind, bottom=[bottom.name for bottom in bottoms], top=[name], **params
        )
        for values in blobs:
            blob = layer.blobs.add()
            blob.shape.dim.extend(values.shape)
            blob.data.extend(np.asarray(values, np.float32).ravel())
        return name

    def input(self, name: str, side: int) -> Blob:
        """Add an input, a picture of that side."""
        self.net.input.append(name)
        self.net.input_shape.add(dim=[1, 3, side, side])
        return Blob(name, 3)

    # Arithmetic

    def add(self, x: Any, y: Any) -> Blob:
        if not isinstance(x, Blob):
            x, y = y, x
        if not isinstance(y, Blob):
            return self._power(x, shift=_number(y))
        if "point" in (x.shape, y.shape) and x.shape != y.shape:
            x, y = (y, x) if x.shape == "point" else (x, y)
            y = self.mul(self._power(x, scale=0, shift=1), y)
        return self._eltwise("SUM", x, y)

    def sub(self, x: Blob, y: Any) -> Blob:
        return self.add(x, self.mul(y, -1) if isinstance(y, Blob) else -y)

    def neg(self, x: Blob) -> Blob:
        return self.mul(x, -1)

    def rsub(self, x: Blob, y: Any) -> Blob:
        return self.add(self.mul(x, -1), y)

    def mul(self, x: Any, y: Any) -> Blob:
        if not isinstance(x, Blob):
            x, y = y, x
        if isinstance(y, Tensor) and y.numel() > 1:
            if y.dim() > 1 or x.channels % y.numel():
                raise NotImplementedError(f"it multiplies by weights {tuple(y.shape)}")
            blob = y.flatten().repeat(x.channels // y.numel())
            return x._replace(name=self.layer("Scale", x, blobs=(blob,), scale_param={"axis": 1}))
        if not isinstance(y, Blob):
            return self._power(x, scale=_number(y))
        if "point" in (x.shape, y.shape) and x.shape != y.shape:
            x, y = (y, x) if x.shape == "point" else (x, y)
            return x._replace(name=self.layer("Scale", x, y, scale_param={"axis": 0}))
        return self._eltwise("PROD", x, y)

    def div(self, x: Blob, y: Any) -> Blob:
        if isinstance(y, Blob):
            return self.mul(x, self._power(y, power=-1))
        return self.mul(x, 1 / y)

    def addcmul(self, x: Any, y: Any, z: Any) -> Blob:
        return self.add(x, self.mul(y, z))

    def pow(self, x: Blob, exponent: float) -> Blob:
        return self._power(x, power=exponent)

    def square(self, x: Blob) -> Blob:
        return self._power(x, power=2)

    def abs(self, x: Blob) -> Blob:
        return self._named("AbsVal", x)

    def clamp(self, x: Blob, low: float, high: float) -> Blob:
        raised = self.relu(self._power(x, shift=-low))
        return self.rsub(self.relu(self.rsub(raised, high - low)), high)

    def _power(self, x: Blob, **params: float) -> Blob:
        """(shift + scale * x) ^ power."""
        return x._replace(name=self.layer("Power", x, power_param=params))

    def _eltwise(self, operation: str, x: Blob, y: Blob) -> Blob:
        channels = max(x.channels, y.channels)
        both = [self._repeated(value, channels) for value in (x, y)]
        return both[0]._replace(
            name=self.layer("Eltwise", *both, eltwise_param={"operation": operation})
        )

    def _repeated(self, x: Blob, channels: int) -> Blob:
        if x.channels == channels:
            return x
        name = self.layer("Concat", *[x] * (channels // x.channels), concat_param={"axis": 1})
        return Blob(name, channels, x.shape)

    # Activations

    def _named(self, kind: str, x: Blob) -> Blob:
        return x._replace(name=self.layer(kind, x))

    def relu(self, x: Blob) -> Blob:
        return self._named("ReLU", x)

    def leaky_relu(self, x: Blob, slope: float = 0.01) -> Blob:
        return x._replace(name=self.layer("ReLU", x, relu_param={"negative_slope": slope}))

    def prelu(self, x: Blob, weight: Tensor) -> Blob:
        return x._replace(name=self.layer("PReLU", x, blobs=(weight.expand(x.channels),)))

    def elu(self, x: Blob, alpha: float = 1.0) -> Blob:
        return x._replace(name=self.layer("ELU", x, elu_param={"alpha": alpha}))

    def hardtanh(self, x: Blob, low: float = -1.0, high: float = 1.0) -> Blob:
        return self.clamp(x, low, high)

    def celu(self, x: Blob, alpha: float = 1.0) -> Blob:
        return self.mul(self.elu(self.div(x, alpha)), alpha)

    def selu(self, x: Blob) -> Blob:
        return self._named("Selu", x)

    def gelu(self, x: Blob, approximate: str = "none") -> Blob:
        return self._named("Gelu" if approximate == "none" else "GeluApproximation", x)

    def silu(self, x: Blob) -> Blob:
        return self._named("Swish", x)

    def hardswish(self, x: Blob) -> Blob:
        return self._named("HardSwish", x)

    def mish(self, x: Blob) -> Blob:
        return self._named("Mish", x)

    def softplus(self, x: Blob, beta: float = 1.0, threshold: float = 20.0) -> Blob:
        return self.div(self._named("BNLL", self.mul(x, beta)), beta)

    def sigmoid(self, x: Blob) -> Blob:
        return self._named("Sigmoid", x)

    def tanh(self, x: Blob) -> Blob:
        return self._named("TanH", x)


def _number(value: Any) -> float:
    if isinstance(value, Tensor) and value.numel() > 1:
        raise NotImplementedError(f"it adds weights {tuple(value.shape)}")
    return float(value)
