"""Muon (Jordan et al., 2024): gradient descent whose steps have no favourite direction."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam

QUINTIC = (3.4445, -4.7750, 2.0315)
"""x -> a x + b x^3 + c x^5, five times over, takes singular values in (0, 1] to about 1."""


class Muon(Adam):
    """Muon for the kernels of convolutions, Adam for all other weights.

    The mean of a kernel's gradients, as a matrix (out, in * height * width), is replaced by the
    nearest matrix whose singular values are all 1 before it is taken off the kernel: directions
    that are rarely asked for learn as fast as the few that dominate the gradient. A step is scaled
    to the root mean square that one of Adam has (Liu et al., 2025), so that both share ``lr``.
    ``torch.optim.Muon`` does this for matrices alone.

    Kernels of 1x1 (the last layers here), biases and normalisations take Adam's steps.

    Args:
        params: the weights.
        lr: learning rate.
        betas: how slowly the means forget: the gradients' (of both), the squared gradients' (Adam).
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 6e-3,
        betas: tuple[float, float] = (0.9, 0.99),
    ) -> None:
        kernels: list[Tensor] = []
        others: list[Tensor] = []
        for weight in params:
            wide = weight.ndim > 2 and weight[0, 0].numel() > 1
            (kernels if wide else others).append(weight)
        groups = [{"params": group} for group in (kernels, others) if group]
        super().__init__(groups, lr=lr, betas=betas)
        self._kernels = {id(kernel) for kernel in kernels}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns what ``closure`` returns, which computes the gradients."""
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        gradients = {}
        for group in self.param_groups:
            for weight in group["params"]:
                if id(weight) in self._kernels and weight.grad is not None:
                    gradients[weight] = weight.grad
                    self._turn(weight, group["lr"], group["betas"][0])
                    weight.grad = None  # Adam leaves it alone
        super().step()
        for weight, gradient in gradients.items():
            weight.grad = gradient
        return result

    def _turn(self, kernel: Tensor, lr: float, beta: float) -> None:
        state = self.state[kernel]
        if not state:
            state["step"] = torch.zeros(())  # Adam looks for it when a state is loaded
            state["mean"] = torch.zeros_like(kernel)
        gradient: Tensor = kernel.grad  # type: ignore[assignment]
        mean = state["mean"].lerp_(gradient, 1 - beta)
        step = orthogonal(gradient.lerp(mean, beta).flatten(1))  # looks ahead, as Nesterov's
        scale = 0.2 * max(step.shape) ** 0.5
        kernel.sub_(step.view_as(kernel), alpha=lr * scale)


def orthogonal(matrix: Tensor) -> Tensor:
    """About the nearest matrix with singular values of 1, (M, N): they come out in 0.7 to 1.2.

    Newton-Schulz iteration of Jordan et al.; singular values below a thousandth of the norm stay
    smaller.
    """
    a, b, c = QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).float()
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x.T if tall else x).to(matrix.dtype)
