"""The Caffe layers for a network's operators, as OpenCV's DNN module runs them.

What Caffe has no layer for is a convolution with ones at the right places. Nothing in Caffe repeats
a picture's rim, so a padded picture is an input of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from sympy import Expr
from torch import Tensor

from clearmark.export.caffe_net import Blob, CaffeNet, places
from clearmark.export.caffe_patches import Cut
from clearmark.export.graph import INPUT
from clearmark.export.walk import END, Growth, growth

GROWN = "grown"
SIDE = 256
"""The picture's side that the file names; OpenCV takes the size of what it is given."""


class CaffeLayers(CaffeNet):
    """A method for each of ATen's operators.

    Args:
        sides: the symbols of H and W.
    """

    def __init__(self, sides: tuple[Expr, Expr]) -> None:
        super().__init__()
        self.sides = sides
        self.marked = self.input(INPUT, SIDE)
        self.growth: Growth | None = None
        self.cut: Cut | None = None

    # Layers with weights

    def conv2d(
        self,
        x: Blob,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = (1, 1),
        padding: Any = (0, 0),
        dilation: Any = (1, 1),
        groups: int = 1,
        kind: str = "Convolution",
    ) -> Blob:
        filters = weight.shape[0] if kind == "Convolution" else weight.shape[1] * groups
        name = self.layer(
            kind,
            x,
            blobs=(weight,) if bias is None else (weight, bias),
            convolution_param={
                "num_output": filters,
                "bias_term": bias is not None,
                "pad": padding,
                "kernel_size": weight.shape[2:],
                "group": groups,
                "stride": stride,
                "dilation": dilation,
            },
        )
        return Blob(name, filters, x.shape)

    def deconv2d(self, x: Blob, weight: Tensor, stride: int, groups: int, pad: int = 0) -> Blob:
        """A convolution's transpose; weight (channels, filters / groups, height, width)."""
        return self.conv2d(
            x, weight, None, (stride,) * 2, (pad,) * 2, groups=groups, kind="Deconvolution"
        )

    def linear(self, x: Blob, weight: Tensor, bias: Tensor | None = None) -> Blob:
        params = {"num_output": weight.shape[0], "bias_term": bias is not None}
        blobs = (weight,) if bias is None else (weight, bias)
        name = self.layer("InnerProduct", x, blobs=blobs, inner_product_param=params)
        return Blob(name, weight.shape[0], "row")

    def batch_norm(
        self,
        x: Blob,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        training: bool,
        momentum: float,
        eps: float,
        *_: Any,
    ) -> Blob:
        gain = weight.double() / (variance.double() + eps).sqrt()
        blobs = (gain, bias.double() - gain * mean.double())
        return x._replace(name=self.layer("Scale", x, blobs=blobs, scale_param={"bias_term": True}))

    # Sizes

    def max_pool2d(
        self,
        x: Blob,
        kernel: list[int],
        stride: list[int] | None = None,
        padding: tuple[int, int] = (0, 0),
    ) -> Blob:
        return self._pooled(x, "MAX", kernel, stride, padding)

    def avg_pool2d(self, x: Blob, kernel: list[int], stride: list[int] | None = None) -> Blob:
        return self._pooled(x, "AVE", kernel, stride)

    def _pooled(
        self, x: Blob, pool: str, kernel: list[int], stride: Any = None, padding: Any = (0, 0)
    ) -> Blob:
        sides = {"kernel": kernel, "stride": stride or kernel, "pad": padding}
        params = {
            f"{what}_{axis}": side[i] for what, side in sides.items() for i, axis in enumerate("hw")
        }
        name = self.layer("Pooling", x, pooling_param={"pool": pool, "ceil_mode": False, **params})
        return x._replace(name=name)

    def mean(self, x: Blob, dims: list[int], keep: bool = False) -> Blob:
        return self._whole(x, "AVE", dims, keep)

    def amax(self, x: Blob, dims: list[int], keep: bool = False) -> Blob:
        return self._whole(x, "MAX", dims, keep)

    def _whole(self, x: Blob, pool: str, dims: list[int], keep: bool) -> Blob:
        if list(dims) != [2, 3] or not keep:
            raise NotImplementedError(f"it pools over {dims}")
        name = self.layer("Pooling", x, pooling_param={"pool": pool, "global_pooling": True})
        return Blob(name, x.channels, "point")

    def upsample_nearest2d(self, x: Blob, size: None, scales: list[float]) -> Blob:
        scale = int(scales[0])
        return self.deconv2d(x, torch.ones(x.channels, 1, scale, scale), scale, x.channels)

    def upsample_bilinear2d(self, x: Blob, size: None, corners: bool, scales: list[float]) -> Blob:
        scale = int(scales[0])
        if corners or scale % 2:
            raise NotImplementedError("it interpolates with align_corners=True or an odd scale")
        tent = 1 - (torch.arange(2 * scale) + 0.5 - scale).abs() / scale
        weight = torch.outer(tent, tent).expand(x.channels, 1, -1, -1)
        # At the rim part of the tent is missing: what is left there counts for all of it.
        ones = self._power(x, scale=0, shift=1)
        drawn, whole = (self.deconv2d(y, weight, scale, x.channels, scale // 2) for y in (x, ones))
        return self.div(drawn, whole)

    def pixel_unshuffle(self, x: Blob, scale: int) -> Blob:
        weight = places(scale, x.channels)
        return self.conv2d(x, weight, None, (scale, scale), groups=x.channels)

    def pixel_shuffle(self, x: Blob, scale: int) -> Blob:
        groups = x.channels // scale**2
        return self.deconv2d(x, places(scale, groups), scale, groups)

    def pad(self, x: Blob, widths: list[Any], mode: str = "constant", value: float = 0) -> Blob:
        if mode != "replicate" or x != self.marked or len(widths) != 4:
            raise NotImplementedError("it pads something else than its input, or not with its rim")
        ways = [
            growth(side, before, after)
            for side, before, after in zip(self.sides, widths[2::-2], widths[3::-2], strict=True)
        ]
        if ways[0] != ways[1] or self.growth not in (None, ways[0]):
            raise NotImplementedError("it pads its input in several ways")
        if self.growth is None:
            self.growth = ways[0]
            self.input(GROWN, self.growth.total(SIDE))
        return Blob(GROWN, 3)

    def slice(self, x: Blob, dim: int, start: Any = None, end: Any = None, step: int = 1) -> Blob:
        start, end = start or 0, END if end is None else end
        if (start, end, step) == (0, END, 1):
            return x
        if dim == 1 and step == 1:
            return self.channels(x, start, min(end, x.channels))
        if dim < 2 or step != 1 or end - start != self.sides[dim - 2]:
            raise NotImplementedError(f"it takes {start} to {end} of dimension {dim}")
        if dim == 2:  # Caffe crops both sides at once
            return x._replace(top=int(start))
        params = {"axis": 2, "offset": [x.top or 0, int(start)]}
        name = self.layer("Crop", x._replace(top=None), self.marked, crop_param=params)
        return Blob(name, x.channels)

    def channels(self, x: Blob, start: int, end: int) -> Blob:
        """Some of a value's channels."""
        points = [point for point in (start, end) if 0 < point < x.channels]
        if not points:
            return x
        name = self.layer("Slice", x, slice_param={"axis": 1, "slice_point": points})
        tops = [f"{name}_{part}" for part in range(len(points) + 1)]
        self.net.layer[-1].top[:] = tops
        return Blob(tops[1 if start else 0], end - start, x.shape)

    def cat(self, parts: list[Blob], dim: int = 0) -> Blob:
        if dim != 1:
            raise NotImplementedError(f"it joins values along dimension {dim}")
        name = self.layer("Concat", *parts, concat_param={"axis": 1})
        return Blob(name, sum(part.channels for part in parts), parts[0].shape)

    # Patches

    def im2col(
        self, x: Blob, kernel: list[int], dilation: Any, padding: Any, stride: list[int]
    ) -> Blob:
        if kernel[0] != kernel[1] or stride[0] != stride[1] or dilation != [1, 1] or any(padding):
            raise NotImplementedError("its patches are not squares side by side")
        self.cut = Cut(self, x, kernel[0], stride[0])
        return self.cut.patches

    def col2im(self, x: Any, *_: Any) -> Blob:
        if self.cut is None:
            raise NotImplementedError("it joins patches that it did not cut")
        return self.cut.joined(x)

    def transpose(self, x: Any, *_: Any) -> Any:
        return x  # patches come before their values anyway

    def expand(self, x: Tensor, *_: Any) -> Tensor:
        return x  # to as many as there are patches, see ``col2im``

    def reshape(self, x: Blob, shape: list[Any]) -> Blob:
        if x.shape == "patch" and self.cut and tuple(shape[1:]) == (3, *[self.cut.patch] * 2):
            return x._replace(shape="map")
        if x.shape == "row" and len(shape) == 4:  # (B, N, C, patch^2)
            return x
        raise NotImplementedError(f"it has a reshape to {shape}")

    def flatten(self, x: Blob, start: int = 0, end: int = -1) -> Blob:
        if x.shape == "row":
            return x
        name = self.layer("Flatten", x, flatten_param={"axis": 1})
        return Blob(name, x.channels, "row")
