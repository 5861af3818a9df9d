"""A logger that says no more on the terminal than its user needs."""

from typing import Any

import wandb
from lightning.pytorch import loggers


class WandbLogger(loggers.WandbLogger):
    """Lightning's logger for Weights & Biases.

    Args:
        silent: wandb writes nothing on the terminal, neither its hints nor the run's address.
        kwargs: of Lightning's logger.
    """

    def __init__(self, silent: bool = False, **kwargs: Any) -> None:
        super().__init__(settings=wandb.Settings(silent=silent), **kwargs)
        # wandb warns of it at the start of every run.
        self._wandb_init.pop("anonymous", None)
