"""The figures that a run ends with: a table on the terminal and ``results.json``."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from clearmark.metrics import NATIVE, Protocol

ROWS = {
    "psnr": ("PSNR (dB)", 2),
    "ssim": ("SSIM", 4),
    "rmse": ("RMSE (of {levels})", 2),
    "rmsew": ("RMSEw, in the mark (of {levels})", 2),
    "psnr_mask": ("PSNR in the mark (dB)", 2),
}
SINGLE = {
    "psnr_gain": ("PSNR gain over doing nothing (dB)", 2),
    "mask_f1": ("mask F1", 3),
    "mask_iou": ("mask IoU", 3),
    "clean_psnr": ("unmarked pictures: PSNR to the input (dB)", 2),
}


def cost(network: nn.Module, side: int = 256) -> dict[str, float]:
    """Parameters, and GMAC (10^9 multiply-adds) of one picture of ``side`` x ``side`` pixels."""
    parameters = sum(p.numel() for p in network.parameters())
    return {"parameters": parameters, "gmac": gmac(network, side, side)}


def gmac(network: nn.Module, height: int, width: int) -> float:
    """10^9 multiply-adds of one picture's forward pass; a multiply-add is two FLOPs."""
    twin = copy.deepcopy(network).to(device="cpu", dtype=torch.float32).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        twin(torch.zeros(1, 3, height, width))
    return float(counter.get_total_flops()) / 2e9


def show(
    figures: Mapping[str, float], title: str, split: str = "test", protocol: Protocol = NATIVE
) -> None:
    """Print a split's figures beside those of doing nothing."""
    table = Table("", "restored", "doing nothing", title=title, title_justify="left")
    for name, (label, digits) in ROWS.items():
        if f"{split}/{name}" in figures:
            values = (figures[f"{split}/{name}"], figures[f"{split}/{name}_input"])
            table.add_row(
                label.format(levels=protocol.levels), *(f"{value:.{digits}f}" for value in values)
            )
    for name, (label, digits) in SINGLE.items():
        if f"{split}/{name}" in figures:
            table.add_row(label, f"{figures[f'{split}/{name}']:.{digits}f}", "")
    Console().print(table)
