"""The numbers that an optimizer sees of a kernel: its pixels, or the waves that it is made of.

Adam and its relatives divide each number of a gradient by its own size, so what they do depends on
how a kernel is written down. Neighbouring pixels of a feature map are alike, and so are its
channels, which an activation has made positive: the gradients of a kernel's pixels mostly say the
same, and what sets them apart is drowned. In waves this is undone: a cosine transform over the
pixels, nearly free of what neighbours share (Ahmed et al., 1974), and the mean over the channels
apart from the rest. Fine structure, as the edges of a mark, is then learned as fast as the coarse.

Rippel et al. (2015) keep kernels as their Fourier transform. Here a kernel is turned for the step
alone, and the network knows nothing of it. Gradient descent, with or without momentum, and Muon
would take the same step in either basis, and are left as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from clearmark.muon import Muon

WAVES, PIXELS = NAMES = ("waves", "pixels")
INDIFFERENT = (SGD, Muon)

Make = Callable[[Iterable[Tensor]], Optimizer]


def seen_as(basis: str, make: Make) -> Make:
    """What makes an optimizer that sees kernels in a basis, one of ``NAMES``.

    The weights are in pixels before and after each step; what the optimizer keeps, as means of
    gradients, is in the basis.
    """

    def made(weights: Iterable[Tensor]) -> Optimizer:
        optimizer = make(weights)
        if basis == WAVES and not isinstance(optimizer, INDIFFERENT):
            _turn_for(optimizer)
        return optimizer

    return made


def in_waves(kernel: Tensor) -> Tensor:
    """The same kernel (out, in, height, width) in an orthonormal basis of waves."""
    pixels = _rows(kernel)
    return _back(_apart(cosines(*kernel.shape[2:]).to(kernel) @ pixels), kernel)


def in_pixels(kernel: Tensor) -> Tensor:
    """What ``in_waves`` was made of."""
    waves = _rows(kernel)
    return _back(cosines(*kernel.shape[2:]).T.to(kernel) @ _apart(waves), kernel)


@lru_cache
def cosines(height: int, width: int) -> Tensor:
    """The orthonormal 2-D DCT-II, (height * width, height * width) in float64: a wave a row."""
    return torch.kron(_cosines(height), _cosines(width))


def _cosines(side: int) -> Tensor:
    wave, place = torch.arange(side, dtype=torch.float64)[:, None], torch.arange(side) + 0.5
    rows = (math.pi / side * wave * place).cos() * math.sqrt(2 / side)
    rows[0] /= math.sqrt(2)
    return rows


def _rows(kernel: Tensor) -> Tensor:
    """(out, height * width, in), which is how a kernel for channels last lies in memory."""
    return kernel.permute(0, 2, 3, 1).flatten(1, 2)


def _back(rows: Tensor, like: Tensor) -> Tensor:
    return rows.unflatten(1, like.shape[2:]).permute(0, 3, 1, 2)


def _apart(rows: Tensor) -> Tensor:
    """Swap channel 0 with the mean (times the root of their number): Householder's reflection."""
    channels = rows.shape[-1]
    if channels == 1:
        return rows
    axis = rows.new_full((channels,), -(channels**-0.5))
    axis[0] += 1
    axis /= axis.norm()
    return rows - 2 * (rows @ axis)[..., None] * axis


def _turn_for(optimizer: Optimizer) -> None:
    """Turn kernels and gradients before each step of an optimizer, and the kernels back after."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    kernels = [weight for weight in weights if weight.ndim == 4 and weight[0, 0].numel() > 1]

    @torch.no_grad()
    def there() -> None:
        for kernel in kernels:
            kernel.copy_(in_waves(kernel))
            if kernel.grad is not None:
                kernel.grad.copy_(in_waves(kernel.grad))

    def before(_: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        closure = kwargs.get("closure") or (args[1] if len(args) > 1 else None)
        if closure is None:
            there()
            return None

        def turned() -> Any:  # computes the gradients, which it does of kernels in pixels
            value = closure()
            there()
            return value

        return args[:1], {**kwargs, "closure": turned}

    @torch.no_grad()
    def after(*_: Any) -> None:
        for kernel in kernels:
            kernel.copy_(in_pixels(kernel))

    optimizer.register_step_pre_hook(before)
    optimizer.register_step_post_hook(after)
