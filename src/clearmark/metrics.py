"""How close a restored picture is to the clean one, as papers of this field report it.

Every figure is taken per image and then averaged over images, and every figure of the picture is
given for the untouched input as well, so that a gain over doing nothing is always in sight.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from clearmark.models.base import Restoration

# The variance of rounding to 8 bits: no file on disk can tell a smaller error from none.
MSE_FLOOR = (1 / 255) ** 2 / 12
PSNR_CEILING = -10 * math.log10(MSE_FLOOR)  # 58.92 dB

PICTURE = ("psnr", "ssim", "rmse", "rmsew", "psnr_mask")
NAMES = (
    *PICTURE,
    *(f"{name}_input" for name in PICTURE),
    "psnr_gain",
    "mask_f1",
    "mask_iou",
    "clean_psnr",
)
# Undefined for an image without a mark, which therefore does not count in their means.
ON_MARK = frozenset({"rmsew", "rmsew_input", "psnr_mask", "psnr_mask_input", "mask_f1", "mask_iou"})


@dataclass(frozen=True)
class Protocol:
    """What the same names stand for.

    side: pictures are resized to side x side before the network sees them; None leaves them.
    levels: RMSE and RMSEw are of that many.
    ceiling: the highest PSNR in dB, which a perfect picture gets.
    zeros: SSIM sees zeros beyond the border, instead of the reflected picture.
    """

    side: int | None = None
    levels: int = 255
    ceiling: float = PSNR_CEILING
    zeros: bool = False


# What the public evaluation code of SLBR (MM 2021) computes, one picture at a time: floats that are
# not rounded to 8 bits, RMSE times 256, an SSIM with zero padding. It fails on a perfect picture;
# 100 dB is what WDNet's (WACV 2021) gives it.
PROTOCOLS = {"native": Protocol(), "paper": Protocol(256, 256, 100.0, True)}
NATIVE = PROTOCOLS["native"]


def psnr(image: Tensor, clean: Tensor, ceiling: float = PSNR_CEILING) -> Tensor:
    """PSNR in dB per image, (B,), of two (B,C,H,W) in [0,1]; at most ``ceiling``."""
    values: Tensor = peak_signal_noise_ratio(
        image, clean, data_range=1.0, dim=(1, 2, 3), reduction="none"
    )
    return values.clamp(max=ceiling)


def ssim_map(image: Tensor, clean: Tensor) -> Tensor:
    """SSIM per pixel and channel, (B,C,H,W), H and W >= 6: 11x11 Gaussian, sigma 1.5, range 1."""
    # Variances as differences of means of squares drown in the rounding of half precision.
    with torch.autocast(image.device.type, enabled=False):
        full_map: Tensor = structural_similarity_index_measure(
            # Thrice as fast on a CPU: this is most of what a validation costs.
            image.contiguous(memory_format=torch.channels_last),
            clean.contiguous(memory_format=torch.channels_last),
            gaussian_kernel=True,
            sigma=1.5,
            kernel_size=11,
            data_range=1.0,
            reduction="none",
            return_full_image=True,
        )[1]
    return full_map


def ssim_map_zeros(image: Tensor, clean: Tensor) -> Tensor:
    """`ssim_map` as if both pictures lay on black, which the common `pytorch_ssim` does."""
    wide = [5] * 4  # half of the window
    return ssim_map(F.pad(image, wide), F.pad(clean, wide))[..., 5:-5, 5:-5]


def picture_figures(
    image: Tensor, clean: Tensor, mask: Tensor, protocol: Protocol = NATIVE
) -> dict[str, Tensor]:
    """PSNR and SSIM, RMSE of 255, and RMSE and PSNR over the marked pixels, each (B,).

    image and clean are (B,3,H,W) in [0,1], mask is (B,1,H,W) in {0,1}. The last two are NaN for an
    image without a mark. RMSEw = 255 * sqrt(sum((y - x)^2 * M) / (3 * sum(M))). For 255 another
    protocol may put another number.
    """
    structure = ssim_map_zeros if protocol.zeros else ssim_map
    error = (image - clean).square()
    marked_mse = (error * mask).sum((1, 2, 3)) / (image.shape[1] * mask.sum((1, 2, 3)))
    return {
        "psnr": psnr(image, clean, protocol.ceiling),
        "ssim": structure(image, clean).mean((1, 2, 3)),
        "rmse": protocol.levels * error.mean((1, 2, 3)).sqrt(),
        "rmsew": protocol.levels * marked_mse.sqrt(),
        "psnr_mask": (-10 * marked_mse.log10()).clamp(max=protocol.ceiling),
    }


def mask_figures(predicted: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """F1 and IoU, each (B,), of two boolean masks (B,1,H,W); NaN where the true mask is empty."""
    hit = (predicted & mask).sum((1, 2, 3)).float()
    both = predicted.sum((1, 2, 3)) + mask.sum((1, 2, 3))
    f1, iou = 2 * hit / both, hit / (both - hit)
    empty = ~mask.flatten(1).any(1)
    return {
        "mask_f1": f1.masked_fill(empty, math.nan),
        "mask_iou": iou.masked_fill(empty, math.nan),
    }


@torch.no_grad()
def per_image(
    restored: Restoration, batch: Mapping[str, Tensor], protocol: Protocol = NATIVE
) -> dict[str, Tensor]:
    """Every figure of every image, name -> (B,); see RemovalMetrics for names and conventions."""
    clean, mask = batch["clean"].float(), batch["mask"].float()
    figures = picture_figures(restored.image.float().clamp(0, 1), clean, mask, protocol)
    untouched = picture_figures(batch["marked"].float().clamp(0, 1), clean, mask, protocol)
    figures |= {f"{name}_input": values for name, values in untouched.items()}
    figures["psnr_gain"] = figures["psnr"] - figures["psnr_input"]
    if restored.mask is not None:
        figures |= mask_figures(restored.mask > 0.5, mask > 0.5)
    return figures


class RemovalMetrics(Metric):
    """The mean over images of each figure of `per_image`, over all batches and all processes.

    psnr, ssim, rmse, rmsew, psnr_mask: the restored picture, clamped to [0,1], against the clean
        one. rmse and rmsew are of 255; rmsew and psnr_mask look at marked pixels only.
    psnr_input, ssim_input, ...: the same for the untouched input; psnr_gain = psnr - psnr_input.
    mask_f1, mask_iou: probability > 0.5 against the true mask, for networks that predict a mask.
    clean_psnr: PSNR of what the network makes of a clean picture, to that picture.

    Conventions. A PSNR takes no MSE below (1/255)^2 / 12, the variance of 8-bit rounding (58.92
    dB), so that one perfect image does not make a mean infinite. An image without a mark does not
    count in rmsew, psnr_mask, mask_f1 and mask_iou: what a network does to it shows in psnr and in
    clean_psnr. A NaN in a prediction is not skipped: it makes the mean NaN. All this is the native
    protocol; see `Protocol` for what another one changes.
    """

    full_state_update = False
    totals: Tensor
    counts: Tensor

    def __init__(self, protocol: Protocol = NATIVE, **kwargs: Any) -> None:
        # The cache would survive `update_clean`, which torchmetrics does not know of.
        super().__init__(compute_with_cache=False, **kwargs)
        self.protocol = protocol
        self.add_state("totals", torch.zeros(len(NAMES)), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(len(NAMES)), dist_reduce_fx="sum")

    def update(self, restored: Restoration, batch: Mapping[str, Tensor]) -> None:
        """Adds a batch: marked and clean (B,3,H,W), mask (B,1,H,W)."""
        marked = batch["mask"].flatten(1).any(1)
        figures = per_image(restored, batch, self.protocol)
        self._add({name: v[marked] if name in ON_MARK else v for name, v in figures.items()})

    @torch.no_grad()
    def update_clean(self, restored_clean: Restoration, clean: Tensor) -> None:
        """Adds what the network made of clean pictures (B,3,H,W) that bear no mark."""
        image, ceiling = restored_clean.image.float().clamp(0, 1), self.protocol.ceiling
        self._add({"clean_psnr": psnr(image, clean.float(), ceiling)})

    def compute(self) -> dict[str, Tensor]:
        """Name -> mean, a scalar; a figure that no image was counted for is left out."""
        means = self.totals / self.counts
        return {name: means[i] for i, name in enumerate(NAMES) if self.counts[i] > 0}

    def _add(self, figures: Mapping[str, Tensor]) -> None:
        none = self.totals.new_zeros(0)
        values = [figures.get(name, none) for name in NAMES]
        # Not in place: a state made under inference mode may be added to outside it.
        self.totals = self.totals + torch.stack([v.sum() for v in values])
        self.counts = self.counts + self.counts.new_tensor([len(v) for v in values])
