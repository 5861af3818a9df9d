"""What training makes small. Every loss takes the network's answer and the batch.

A loss on the picture compares pixels, and `where` says which pixels its mean is taken over. A loss
on the mask needs a network that predicts one. `WeightedSum` adds any of them.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clearmark.errors import UserError
from clearmark.metrics import ssim_map
from clearmark.models.base import Restoration

Batch = Mapping[str, Tensor]
WHERE = ("all", "marked", "unmarked")
OF = ("image", "filled")


def _full(x: Tensor) -> Tensor:
    """At least float32, whatever autocast made of it: a mean of squares underflows in half."""
    return x if x.dtype == torch.float64 else x.float()


class Loss(nn.Module):
    """The contract: a `name`, and a scalar `value`. A sum of losses overrides `terms` instead."""

    name: str

    def value(self, restored: Restoration, batch: Batch) -> Tensor:
        """The loss as a scalar, in float32 or float64."""
        raise NotImplementedError

    def terms(self, restored: Restoration, batch: Batch) -> dict[str, Tensor]:
        """Name -> scalar, each with its weight, so that they add up to the loss."""
        return {self.name: self.value(restored, batch)}

    def forward(self, restored: Restoration, batch: Batch) -> Tensor:
        return torch.stack(list(self.terms(restored, batch).values())).sum()


class PixelLoss(Loss):
    """The mean of a per-pixel `error` between the restored (unclamped) and the clean picture.

    where: "all" pixels, the "marked" ones (mask 1) or the "unmarked" ones (mask 0); the mean is
    over those pixels of the whole batch, and 0 if there are none.
    of: the restored "image", or "filled", the picture corrected at every pixel. Filled and marked
    together train the correction as if the mask were known, before the network can find it.
    """

    def __init__(self, where: str = "all", of: str = "image") -> None:
        super().__init__()
        if where not in WHERE:
            raise UserError(f"loss {self.name}: where={where!r} is unknown; use one of {WHERE}")
        if of not in OF:
            raise UserError(f"loss {self.name}: of={of!r} is unknown; use one of {OF}")
        self.where, self.of = where, of

    def error(self, image: Tensor, clean: Tensor) -> Tensor:
        """(B,C,H,W), both inputs and the answer."""
        raise NotImplementedError

    def value(self, restored: Restoration, batch: Batch) -> Tensor:
        filled = restored.filled if self.of == "filled" else None
        image = _full(restored.image if filled is None else filled)
        error = self.error(image, batch["clean"].to(image))
        if self.where == "all":
            return self.reduce(error, None)
        mask = batch["mask"].to(image)
        return self.reduce(error, mask if self.where == "marked" else 1 - mask)

    def reduce(self, error: Tensor, chosen: Tensor | None) -> Tensor:
        """The mean of the error (B,C,H,W) over the chosen pixels (B,1,H,W), or over all."""
        if chosen is None:
            return error.mean()
        return (error * chosen).sum() / (error.shape[1] * chosen.sum()).clamp(min=1)


class MSE(PixelLoss):
    """Mean squared error."""

    name = "mse"

    def error(self, image: Tensor, clean: Tensor) -> Tensor:
        return (image - clean).square()


class MAE(PixelLoss):
    """Mean absolute error, or L1."""

    name = "mae"

    def error(self, image: Tensor, clean: Tensor) -> Tensor:
        return (image - clean).abs()


class RMSE(PixelLoss):
    """sqrt(MSE + eps^2) - eps of each picture, averaged over those that have such pixels.

    Over the marked pixels this is RMSEw (of 1, not of 255), the figure that papers report: a root
    per picture lets faint marks count beside strong ones.
    """

    name = "rmse"

    def __init__(self, eps: float = 1e-3, where: str = "all", of: str = "image") -> None:
        super().__init__(where, of)
        self.eps = eps

    def error(self, image: Tensor, clean: Tensor) -> Tensor:
        return image - clean

    def reduce(self, error: Tensor, chosen: Tensor | None) -> Tensor:
        if chosen is None:
            chosen = error.new_ones(1, 1, 1, 1).expand(error.shape[0], 1, *error.shape[2:])
        else:
            error = error * chosen
        pixels = chosen.sum((1, 2, 3))
        # A norm takes less time than squares and their mean, which three terms of `removal` would.
        total = torch.linalg.vector_norm(error, dim=(1, 2, 3)).square()
        mse = total / (error.shape[1] * pixels).clamp(min=1)
        root = (mse + self.eps**2).sqrt() - self.eps  # 0 for a picture without such pixels
        return root.sum() / (pixels > 0).sum().clamp(min=1)


class Charbonnier(PixelLoss):
    """sqrt(d^2 + eps^2) - eps: L2 for errors below eps, L1 above (Charbonnier et al., 1994)."""

    name = "charbonnier"

    def __init__(self, eps: float = 1e-3, where: str = "all", of: str = "image") -> None:
        super().__init__(where, of)
        self.eps = eps

    def error(self, image: Tensor, clean: Tensor) -> Tensor:
        return ((image - clean).square() + self.eps**2).sqrt() - self.eps


class CrossEntropy(PixelLoss):
    """-y log p - (1-y) log(1-p) of intensities, as if each were the chance of a lit pixel.

    The target's own entropy is taken off: no gradient changes, and a perfect picture has loss 0.
    Both are clamped to [eps, 1 - eps], eps being half a step of 8 bits. Beyond, where a network
    may well predict, the loss goes on as its tangent plus a parabola with the cross entropy's least
    curvature (4), so that it stays finite, convex and pulls back to the target.
    """

    name = "cross_entropy"

    def __init__(self, eps: float = 1 / 510, where: str = "all", of: str = "image") -> None:
        super().__init__(where, of)
        self.eps = eps

    def error(self, image: Tensor, clean: Tensor) -> Tensor:
        p, y = (x.clamp(self.eps, 1 - self.eps) for x in (image, clean))
        inside = y * (y / p).log() + (1 - y) * ((1 - y) / (1 - p)).log()
        slope = ((p - y) / (p * (1 - p))).detach()
        beyond = image - p
        return inside + slope * beyond + 2 * beyond.square()


class SSIMLoss(PixelLoss):
    """1 - SSIM: 11x11 Gaussian window, sigma 1.5, data range 1; H and W >= 6."""

    name = "ssim"

    def error(self, image: Tensor, clean: Tensor) -> Tensor:
        return 1 - ssim_map(image, clean)


class EdgeLoss(PixelLoss):
    """L1 between differences to the right and lower neighbour: outlines left behind cost most."""

    name = "edge"

    def error(self, image: Tensor, clean: Tensor) -> Tensor:
        d = image - clean
        right = torch.diff(d, dim=-1, append=d[..., -1:])
        below = torch.diff(d, dim=-2, append=d[..., -1:, :])
        return right.abs() + below.abs()


class MaskLoss(Loss):
    """A loss on the predicted mask; raises UserError if the network predicts none."""

    def error(self, logits: Tensor, mask: Tensor) -> Tensor:
        """A scalar from two (B,1,H,W)."""
        raise NotImplementedError

    def value(self, restored: Restoration, batch: Batch) -> Tensor:
        if restored.mask_logits is None:
            raise UserError(
                f"loss {self.name} needs a mask and this network predicts none; "
                "choose model=unet, or a loss on the picture alone such as loss=charbonnier"
            )
        logits = _full(restored.mask_logits)
        return self.error(logits, batch["mask"].to(logits))


class MaskBCE(MaskLoss):
    """Binary cross entropy of the mask, averaged over the pixels of the batch.

    pos_weight: how much a marked pixel counts against an unmarked one.
    gamma: the focal loss's exponent (Lin et al., 2017): above 0, pixels that are already right
    count less, by (1 - probability of the right answer)^gamma.
    """

    name = "mask_bce"

    def __init__(self, pos_weight: float = 1.0, gamma: float = 0.0) -> None:
        super().__init__()
        self.pos_weight = pos_weight
        self.gamma = gamma

    def error(self, logits: Tensor, mask: Tensor) -> Tensor:
        pos_weight = logits.new_tensor(self.pos_weight)
        bce = F.binary_cross_entropy_with_logits(
            logits, mask, pos_weight=pos_weight, reduction="none"
        )
        if not self.gamma:
            return bce.mean()
        # In logarithms, since x^gamma has an infinite slope at 0 for gamma < 1.
        log_wrong = F.logsigmoid(logits * (1 - 2 * mask))
        return (bce * (self.gamma * log_wrong).exp()).mean()


class MaskDice(MaskLoss):
    """1 - (2 sum(p m) + 1) / (sum(p) + sum(m) + 1), in [0,1] (Milletari et al., 2016, plus 1).

    The 1 gives an image without a mark a value: 0 for an empty answer. Per image and then averaged,
    or, if pooled, over the batch as if it were one picture: steadier where many crops are empty.
    """

    name = "mask_dice"

    def __init__(self, pooled: bool = False) -> None:
        super().__init__()
        self.dims = (0, 1, 2, 3) if pooled else (1, 2, 3)

    def error(self, logits: Tensor, mask: Tensor) -> Tensor:
        p = logits.sigmoid()
        hit = (p * mask).sum(self.dims)
        both = p.sum(self.dims) + mask.sum(self.dims)
        return (1 - (2 * hit + 1) / (both + 1)).mean()


class WeightedSum(Loss):
    """The sum of weight * loss over named terms, as a YAML writes it.

    terms: {name: {loss: Loss, weight: float >= 0}}. A term of weight 0 is left out altogether, so
    `loss.terms.mask_bce.weight=0` on the command line also frees a network from having a mask.
    """

    name = "sum"

    def __init__(self, terms: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__()
        for term, spec in terms.items():
            if set(spec) != {"loss", "weight"}:
                raise UserError(
                    f"loss term {term} has keys {sorted(spec)}; it needs loss and weight"
                )
            if spec["weight"] < 0:
                raise UserError(f"loss term {term} has weight {spec['weight']}; use 0 or more")
        kept = {term: spec for term, spec in terms.items() if spec["weight"] > 0}
        if not kept:
            raise UserError(f"no term of the loss {list(terms)} has a weight above 0; give one")
        self.losses = nn.ModuleDict({term: spec["loss"] for term, spec in kept.items()})
        self.weights = {term: float(spec["weight"]) for term, spec in kept.items()}

    def terms(self, restored: Restoration, batch: Batch) -> dict[str, Tensor]:
        return {
            term: self.weights[term] * loss(restored, batch) for term, loss in self.losses.items()
        }
