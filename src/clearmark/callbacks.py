"""What a run shows while it trains: its pace, and pictures of what the network does."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor

from clearmark import disk, pictures, results
from clearmark.data.marked import as_tensors
from clearmark.models.base import Restoration
from clearmark.removal import Removal

COLUMNS = ("marked", "restored", "clean", "error x4", "mask")


LATE = 1 / 3  # share of the time from which on waiting for samples is worth a word
BACKWARD = 3  # what a training step computes, in forward passes: one, and about two to go back


class Pace(L.Callback):
    """Samples per second and minutes left, on the progress bar and in the logs.

    Beside the figures of a validation it logs what was spent on training until then. If steps wait
    for their samples a third of the time, it says so, once.

    Args:
        every: training steps between two readings.

    Attributes:
        gmac: 10^9 multiply-adds of a forward pass of one training picture.
        before: seconds that the parts of a run before this process took, all in all.
    """

    def __init__(self, every: int = 20) -> None:
        self.every = every
        self.samples, self.seconds, self.gmac = 0, 0.0, 0.0
        self.before, self._began = 0.0, time.perf_counter()
        self._since: float | None = None
        self._waited: float | None = 0.0  # None when it has been said

    @property
    def samples_per_second(self) -> float:
        """Over all training steps so far; validation and pictures are not counted."""
        return self.samples / self.seconds if self.seconds else 0.0

    @property
    def spent(self) -> dict[str, float]:
        """On training so far: samples; seconds, as above; GMAC, three times those of forwards."""
        gmac = BACKWARD * self.gmac * self.samples
        return {"samples": self.samples, "seconds": self.seconds, "gmac": gmac}

    def figures(self) -> dict[str, float]:
        """What the run's results say of its speed and of what was spent."""
        spent = {f"training_{name}": self.spent[name] for name in ("seconds", "gmac")}
        speed = {"samples_seen": self.samples, "samples_per_second": self.samples_per_second}
        return speed | spent

    def state_dict(self) -> dict[str, Any]:
        spent = self.before + time.perf_counter() - self._began
        counts = {"samples": self.samples, "seconds": self.seconds, "gmac": self.gmac}
        return counts | {"spent": spent}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.samples, self.seconds = state_dict["samples"], state_dict["seconds"]
        self.gmac = state_dict.get("gmac", 0.0)  # which was not always kept
        self.before, self._began = state_dict["spent"], time.perf_counter()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if not self.gmac:
            assert isinstance(pl_module, Removal)
            self.gmac = results.gmac(pl_module.network, *batch["marked"].shape[2:])
        workers = trainer.datamodule.workers  # type: ignore[attr-defined]
        if self._since is None:
            self._since = time.perf_counter()
        elif workers and self._waited is not None:
            self._waited += time.perf_counter() - self._since

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, at: int
    ) -> None:
        # From the end of one step to the end of the next, so that waiting for data counts.
        now = time.perf_counter()
        self.seconds += now - (self._since or now)
        self._since = now
        self.samples += len(batch["marked"]) * trainer.world_size
        if (at + 1) % self.every == 0 and self.seconds:
            values = {"samples/s": self.samples_per_second}
            steps = trainer.estimated_stepping_batches
            if math.isfinite(steps):  # under a budget it is not
                pace = self.seconds / max(trainer.global_step, 1)
                values["min left"] = (steps - trainer.global_step) * pace / 60
            pl_module.log_dict(values, prog_bar=True, logger=False)
            pl_module.log("train/samples_per_second", self.samples_per_second)
            if at >= 5 * self.every:
                self._tell(trainer)

    def _tell(self, trainer: L.Trainer) -> None:
        """Say if the processes that make samples are too slow, or kept from it."""
        if self._waited is not None and self._waited > LATE * self.seconds:
            share, self._waited = self._waited / self.seconds, None
            workers = trainer.datamodule.workers  # type: ignore[attr-defined]
            if trainer.is_global_zero:
                print(
                    f"\nsteps wait for their samples {share:.0%} of the time: raise data.workers "
                    f"({workers} now), or, where other programs keep the cores busy, let the "
                    "training process make them with data.workers=0",
                    file=sys.stderr,
                )

    def on_validation_start(self, *args: Any) -> None:
        self._since = None

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit":
            spent = {f"train/{name}": float(value) for name, value in self.spent.items()}
            pl_module.log_dict(spent, sync_dist=True)

    def on_train_epoch_end(self, *args: Any) -> None:
        self._since = None


class Progress(RichProgressBar):
    """Lightning's progress bar, without numbers that say nothing."""

    def get_metrics(
        self, trainer: L.Trainer, pl_module: L.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics

    def _get_train_description(self, current_epoch: int) -> str:
        described = super()._get_train_description(current_epoch)
        return described.replace("/-2", "")  # no number of epochs is set: a budget is


class Panels(L.Callback):
    """Writes the same few pictures after each validation, and after the test, as one PNG.

    A row is a picture: marked, restored, clean, four times the error, and the predicted mask.

    Args:
        folder: where the PNG go.
        pictures: rows.
    """

    def __init__(self, folder: str, pictures: int = 6) -> None:
        self.folder, self.pictures = Path(folder), pictures

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._write(trainer, pl_module, "val", f"val_epoch{trainer.current_epoch:03d}")

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._write(trainer, pl_module, "test", "test")

    def _write(self, trainer: L.Trainer, module: L.LightningModule, split: str, name: str) -> None:
        if not trainer.is_global_zero:
            return
        dataset = trainer.datamodule.datasets[split]  # type: ignore[attr-defined]
        chosen = [dataset[(0, index)] for index in range(self.pictures)]
        height, width = np.min([s["marked"].shape[:2] for s in chosen], axis=0)  # they may differ
        stacked = {
            key: torch.from_numpy(np.stack([s[key][:height, :width] for s in chosen]))
            for key in chosen[0]
        }
        stacked = {key: value.to(module.device) for key, value in stacked.items()}
        batch = as_tensors(stacked, module.dtype)  # type: ignore[arg-type]
        with torch.inference_mode(), trainer.precision_plugin.forward_context():
            restored = module(batch["marked"])
        picture = panel(batch, restored)
        path = self.folder / f"{name}.png"
        with disk.going_on(path):
            pictures.write(path, pictures.Picture(picture))
        for logger in trainer.loggers:
            with disk.going_on(path):  # wandb copies it to the run's folder
                if isinstance(logger, WandbLogger):
                    logger.log_image(f"{split}/panel", [picture])
                elif isinstance(logger, TensorBoardLogger):
                    at = trainer.global_step
                    logger.experiment.add_image(f"{split}/panel", picture, at, dataformats="HWC")


def panel(batch: dict[str, Tensor], restored: Restoration) -> np.ndarray:
    """Rows of pictures as one uint8 RGB (H, W, 3), with the columns' names above."""
    image = restored.image.clamp(0, 1)
    columns = [batch["marked"], image, batch["clean"], 4 * (image - batch["clean"]).abs()]
    if restored.mask is not None:
        columns.append(restored.mask.expand_as(image))
    grid = torch.cat([c.float().cpu().clamp(0, 1) for c in columns], dim=3)  # (B, 3, H, n W)
    rows = (grid.permute(0, 2, 3, 1).flatten(0, 1) * 255).round().byte().numpy()
    title = np.full((22, rows.shape[1], 3), 255, np.uint8)
    for number, name in enumerate(COLUMNS[: len(columns)]):
        at = (number * image.shape[3] + 6, 16)
        cv2.putText(title, name, at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([title, rows])
