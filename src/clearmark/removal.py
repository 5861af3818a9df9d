"""The LightningModule: a network, what it is trained to make small, and how it is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from clearmark.data.marked import as_tensors
from clearmark.losses import Loss
from clearmark.metrics import RemovalMetrics
from clearmark.models.base import Restoration


class Removal(L.LightningModule):
    """Trains a network to restore marked pictures.

    Args:
        network: maps (B, 3, H, W) to a ``Restoration``.
        loss: of the restoration and the batch; None for a module that only evaluates.
        optimizer: makes the optimizer of the network's parameters.
        scheduler: makes the learning-rate schedule of an optimizer and the total number of steps,
            which is inf if nobody knows.
        config: what it takes to build the network again, as plain containers; saved beside the
            weights in every checkpoint.

    Attributes:
        last_terms: of the last training step, the names of the loss terms and their values (T,).
    """

    last_terms: tuple[tuple[str, ...], Tensor]

    def __init__(
        self,
        network: nn.Module,
        loss: Loss | None = None,
        optimizer: Callable[..., Optimizer] | None = None,
        scheduler: Callable[[Optimizer, float], LRScheduler] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.loss = network, loss
        self.optimizer, self.scheduler = optimizer, scheduler
        self.config = dict(config or {})
        self.figures = RemovalMetrics()

    def forward(self, marked: Tensor) -> Restoration:
        """Restore (B, 3, H, W) in [0, 1]."""
        restored: Restoration = self.network(marked)
        return restored

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> dict[str, Tensor]:
        return as_tensors(batch, self.dtype)  # type: ignore[arg-type]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        assert self.loss is not None
        terms = self.loss.terms(self(batch["marked"]), batch)
        values = torch.stack(list(terms.values()))
        self.last_terms = tuple(terms), values.detach()
        total = values.sum()
        # Lightning writes every so many steps, but to log in between costs as much as a layer.
        every = self.trainer.log_every_n_steps or 1  # type: ignore[attr-defined]  # 0 in a dry run
        if (self.global_step + 1) % every == 0:
            self.log("train/loss", total.detach(), prog_bar=True, sync_dist=True)
            if len(terms) > 1:
                detached = {f"train/{name}": value.detach() for name, value in terms.items()}
                self.log_dict(detached, sync_dist=True)
        return total

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self._measure(batch)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self._measure(batch)

    def on_validation_epoch_end(self) -> None:
        self._report("val")

    def on_test_epoch_end(self) -> None:
        self._report("test")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        assert self.optimizer is not None
        optimizer = self.optimizer(self.network.parameters())
        if self.scheduler is None:
            return {"optimizer": optimizer}
        scheduler = self.scheduler(optimizer, self.trainer.estimated_stepping_batches)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["config"] = self.config

    def _measure(self, batch: dict[str, Tensor]) -> None:
        self.figures.update(self(batch["marked"]), batch)
        self.figures.update_clean(self(batch["clean"]), batch["clean"])

    def _report(self, split: str) -> None:
        # RemovalMetrics has already summed over processes.
        figures = self.figures.compute()
        self.log_dict({f"{split}/{name}": value for name, value in figures.items()})
        self.figures.reset()
