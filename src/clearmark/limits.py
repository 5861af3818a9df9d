"""The ranges of numbers that a config may hold, where the class that takes them is not ours to ask.

A class of this package that knows better says so itself, with a ``UserError``; torch's optimizers
and Lightning's trainer are tried out by ``clearmark.config.check``.
"""

from __future__ import annotations

import difflib
import math
from typing import Any, NamedTuple

from omegaconf import DictConfig, ListConfig, OmegaConf

from clearmark.basis import NAMES
from clearmark.errors import UserError


class Limit(NamedTuple):
    """Which numbers go; a list goes if each of its numbers does."""

    low: float
    high: float = math.inf
    whole: bool = True
    null: bool = False  # also null
    above: bool = False  # low itself does not go

    def __str__(self) -> str:
        if self.high == math.inf:
            span = f"{'above ' if self.above else ''}{self.low:g}{'' if self.above else ' or more'}"
        else:
            span = f"{'above ' if self.above else ''}{self.low:.10g} to {self.high:.10g}"
        kind = "whole number" if self.whole else "number"
        return f"a {kind}, {span}{', or null' if self.null else ''}"

    def allows(self, value: Any) -> bool:
        if value is None:
            return self.null
        if isinstance(value, ListConfig):
            return bool(value) and all(self.allows(one) for one in value)
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        inside = self.low < value if self.above else self.low <= value
        return inside and value <= self.high and math.isfinite(value)


COUNT, COUNT_OR_NULL = Limit(1), Limit(1, null=True)
SHARE, SIDE = Limit(0, 1, whole=False), Limit(1, 65536)
LIMITS = {
    "seed": Limit(0, 2**32 - 1),
    "threads": Limit(1, 1024, null=True),
    "jobs": Limit(1, 1024),
    "rows": Limit(1, 100),
    "samples": Limit(1, 10_000),
    "columns": Limit(1, 100),
    "opacities": Limit(0, 1, whole=False, above=True),
    "sizes": Limit(0, 1, whole=False, above=True),
    "copies": Limit(0, 1, whole=False, above=True),
    "photos": Limit(1, 10_000),
    "calibration": Limit(1, 100_000),
    "false_alarms": Limit(0, 0.5, whole=False, above=True),
    "holds": Limit(0, 1, whole=False, above=True),
    "quality": Limit(1, 100),
    "short_side": Limit(1, 65500, null=True),
    "shard_mb": Limit(1, 1e6, whole=False),
    "sample": Limit(0, 2**32 - 1, null=True),
    "side": Limit(32, 512),
    "steps": Limit(1, 1000),
    "patch": Limit(1, 512),
    "pixel": Limit(0, null=True),
    "megapixels": Limit(0, 1e6, whole=False, null=True, above=True),
    "megabytes": Limit(0, 1e6, whole=False, above=True),
    "port": Limit(1, 65535, null=True),
    "data.batch_size": COUNT,
    "data.eval_batch_size": COUNT,
    "data.workers": Limit(0, 1024),
    "data.cache_mb": Limit(0),
    "data.size": SIDE._replace(null=True),
    "data.crop": SIDE._replace(null=True),
    "data.short_side": SIDE,
    "data.samples_per_epoch": COUNT_OR_NULL,
    "data.val_samples": COUNT_OR_NULL,
    "data.test_samples": COUNT_OR_NULL,
    "data.mix": COUNT,
    "data.seed": Limit(0, 2**32 - 1),
    "data.eval_seed": Limit(0, 2**32 - 1),
    "data.on_mark": SHARE,
    "data.unmarked": SHARE,
    "data.linear": SHARE,
    "data.mask_above": Limit(0, 254, null=True),
    "model.width": Limit(1, 8192),
    "model.widths": Limit(1, 8192),
    "model.dilations": Limit(1, 8192),
    "model.blocks": Limit(0, 100),
    "model.finest": Limit(0, 100),
    "model.hidden": Limit(1, 65536),
    "model.scale": Limit(1, 64),
    "model.patch": Limit(1, 4096),
    "model.overlap": Limit(0, 4096),
    "optimizer.lr": Limit(0, 1e6, whole=False, above=True),
    "optimizer.weight_decay": Limit(0, 1e6, whole=False),
    "trainer.max_epochs": COUNT_OR_NULL,
    "trainer.accumulate_grad_batches": COUNT_OR_NULL,
    "trainer.check_val_every_n_epoch": COUNT_OR_NULL,
    "trainer.log_every_n_steps": Limit(0, null=True),
    "trainer.num_sanity_val_steps": Limit(-1, null=True),
    "trainer.gradient_clip_val": Limit(0, whole=False, null=True),
    "trainer.limit_train_batches": Limit(0, whole=False, null=True, above=True),
    "trainer.limit_val_batches": Limit(0, whole=False, null=True, above=True),
    "trainer.limit_test_batches": Limit(0, whole=False, null=True, above=True),
    "callbacks.panels.pictures": Limit(1, 1000),
    "callbacks.last.every": COUNT,
    "callbacks.pace.every": COUNT,
    "callbacks.early_stopping.patience": COUNT,
    "callbacks.ema.decay": SHARE,
}
SWITCHES = (
    "channels_last",
    "compile",
    "print_config",
    "overwrite",
    "save_mask",
    "compare",
    "freeze",
)
CHOICES = {
    "of": ("pixel", "mask"),
    "basis": NAMES,
    "data.whole": (None, "test"),
    "data.fresh_each_epoch": (True, False),
    "callbacks.checkpoint.mode": ("max", "min"),
    "callbacks.early_stopping.mode": ("max", "min"),
    "trainer.accelerator": ("auto", "cpu", "gpu", "cuda", "mps", "tpu"),
    **dict.fromkeys(SWITCHES, (True, False)),
}


def check_numbers(cfg: DictConfig) -> None:
    """Refuse a number that is out of its range, or no number, and a word that is no choice.

    Raises:
        UserError: one line with key, value and fix.
    """
    for key, limit in LIMITS.items():
        if _given(cfg, key) and not limit.allows(value := OmegaConf.select(cfg, key)):
            raise UserError(f"{key}={_shown(value)} is not allowed; give {limit}")
    for key, choices in CHOICES.items():
        if _given(cfg, key) and (value := OmegaConf.select(cfg, key)) not in choices:
            words = list(map(_shown, choices))
            near = difflib.get_close_matches(_shown(value), words, 1)
            meant = f"did you mean {near[0]}? " if near else ""
            raise UserError(f"{key}={_shown(value)}: {meant}give {' or '.join(words)}")


def _given(cfg: DictConfig, key: str) -> bool:
    """Whether the config has the key, and not only a promise of a value."""
    head, _, last = key.rpartition(".")
    node = OmegaConf.select(cfg, head) if head else cfg
    if not isinstance(node, DictConfig) or last not in node or OmegaConf.is_missing(node, last):
        return False
    return not (OmegaConf.is_interpolation(node, last) and node[last] is None)


def _shown(value: Any) -> str:
    """As it is typed."""
    plain = value is None or isinstance(value, bool)
    return {None: "null", True: "true", False: "false"}[value] if plain else str(value)
