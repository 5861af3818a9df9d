"""Training for a budget instead of epochs: so much time, so many samples, or so many FLOPs.

The learning rate follows the share of the budget that is spent, so its schedule comes to its end
whatever a network's pace.
"""

from __future__ import annotations

import math
import re
import sys
from typing import Any, NamedTuple

import lightning as L

from clearmark.callbacks import Pace
from clearmark.errors import UserError

TIMES = {"s": 1, "min": 60, "h": 3600}  # seconds
PREFIXES = {"": 1e0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "p": 1e15, "e": 1e18}
FLOPS = 2e9  # of 10^9 multiply-adds
UNITS = {name: (float(seconds), "seconds") for name, seconds in TIMES.items()}
UNITS |= {"samples": (1.0, "samples")}
UNITS |= {
    f"{prefix}{word}": (factor / FLOPS, "gmac")
    for prefix, factor in PREFIXES.items()
    for word in ("flop", "flops")
}

PARTS = 8
"""Validations in a budget, each after as much of it."""

STEPS = 10_000
"""That a schedule is made for. How many training steps a budget buys is known at its end only."""

# What a trainer is given beside its config: no end, and no validation, but those of ``Spend``.
ENDLESS: dict[str, Any] = {
    "max_epochs": -1,
    "max_steps": -1,
    "check_val_every_n_epoch": None,
    "val_check_interval": sys.maxsize,
}


class Budget(NamedTuple):
    """How much of what: ``unit`` is a name in ``Pace.spent``."""

    amount: float
    unit: str


def parse(text: Any) -> Budget | None:
    """``10min``, ``60000samples`` or ``2PFLOP`` as a budget; None if there is none.

    Raises:
        UserError: it is not a positive number with a unit.
    """
    if text is None:
        return None
    number, unit = r"\d+\.?\d*(?:e[+-]?\d+)?", "|".join(UNITS)
    found = re.fullmatch(rf"({number})\s*({unit})", str(text).strip(), re.IGNORECASE)
    factor, of = UNITS[found[2].lower()] if found else (0.0, "")
    amount = float(found[1]) * factor if found else 0.0
    if not 0 < amount < math.inf:
        raise UserError(
            f"budget={text} is no amount with a unit; give a time in s, min or h (budget=10min), "
            "samples (budget=60000samples) or FLOPs, forward and backward (budget=2PFLOP)"
        )
    return Budget(amount, of)


class Spend(L.Callback):
    """Trains until a budget is spent, and validates after each eighth of it.

    It takes the learning-rate schedules out of Lightning's hands: after a share s of the budget
    they have made s * ``STEPS`` steps. It has to stand after ``pace``.

    Args:
        budget: what may be spent; of seconds, those of training steps, not of validations.
        pace: counts what is spent.
    """

    def __init__(self, budget: Budget, pace: Pace) -> None:
        self.budget, self.pace = budget, pace
        self.part, self.validated = 0, 0  # parts that are spent, and that were validated

    def state_dict(self) -> dict[str, Any]:
        return {"part": self.part, "validated": self.validated}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.part, self.validated = state_dict["part"], state_dict["validated"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for config in trainer.lr_scheduler_configs:
            config.frequency = sys.maxsize
        self._ask(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, at: int
    ) -> None:
        share = self.pace.spent[self.budget.unit] / self.budget.amount
        share = min(trainer.strategy.broadcast(share), 1.0)  # processes have clocks of their own
        if trainer.global_step:  # else gradients are still being added up
            # A schedule's last step comes after the last training step.
            target = min(round(share * STEPS), STEPS - (share < 1))
            for config in trainer.lr_scheduler_configs:
                while config.scheduler.last_epoch < target:
                    config.scheduler.step()  # type: ignore[call-arg]
        if (at + 1) % self.pace.every == 0 and share:
            left = self.pace.seconds * (1 / share - 1) / 60
            pl_module.log("min left", left, prog_bar=True, logger=False)
        self.part = int(share * PARTS)
        self._ask(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Not before: a run that goes on within its last validation shall do that again.
        self.validated = self.part
        trainer.should_stop = trainer.should_stop or self.part == PARTS

    def _ask(self, trainer: L.Trainer) -> None:
        """For a validation after this step, or none: Lightning has one every so many steps."""
        due = self.part > self.validated
        trainer.val_check_batch = trainer.fit_loop.total_batch_idx + 1 if due else sys.maxsize
