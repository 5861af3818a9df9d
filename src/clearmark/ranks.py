"""The processes of one run: which of them this is, and whether a config suits several.

They are numbered by rank; that of rank 0 speaks and writes.
"""

from __future__ import annotations

import os
import re

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from clearmark import sweeps
from clearmark.errors import UserError

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")  # set by torchrun; Lightning; srun
STARTED = ("WORLD_SIZE", "SLURM_NTASKS")  # by torchrun; srun


def rank() -> int:
    """Which of the processes of a run this is."""
    return int(next((os.environ[name] for name in RANKS if name in os.environ), 0))


def lost(error: BaseException) -> bool:
    """Whether the error is that another process of the run has ended, or does not answer."""
    kind, message = type(error).__name__, str(error)
    return kind in ("DistBackendError", "DistNetworkError") or "gloo/transport" in message


def check(cfg: DictConfig) -> None:
    """Refuse what several processes cannot do, or not together.

    Raises:
        UserError: one line with key, value and fix.
    """
    trainer = cfg.trainer
    several = str(trainer.strategy).startswith(("ddp", "fsdp", "deepspeed"))
    several = several or _count(trainer) > 1
    if several and sweeps.in_one():
        raise UserError(
            f"trainer.strategy={trainer.strategy} with trainer.devices={trainer.devices} cannot "
            "run in a multirun: each process would start the whole sweep again; use one device "
            "(trainer=gpu or trainer=cpu), or start the runs one by one without -m"
        )
    if several and "optimizer" not in cfg:
        raise UserError(
            f"trainer.strategy={trainer.strategy} with trainer.devices={trainer.devices} is for "
            "training; measure in one process: trainer=cpu or trainer=gpu"
        )
    if several:
        _check_folder(cfg)
        _check_shares(cfg.data, _count(trainer))


def _check_folder(cfg: DictConfig) -> None:
    """Each process has to come to the same folder."""
    if not HydraConfig.initialized():
        return
    typed = [*HydraConfig.get().overrides.hydra, *HydraConfig.get().overrides.task]
    if any(word.lstrip("+").startswith(("hydra.run.dir=", "folder=")) for word in typed):
        return
    if any(int(os.environ.get(name) or 1) > 1 for name in STARTED):
        raise UserError(
            "each process that srun or torchrun starts would make a folder by its own clock; add "
            "hydra.run.dir=FOLDER to the command"
        )
    if cfg.get("resume") == "auto":
        raise UserError(
            "resume=auto looks for a folder, and several processes may find different ones; use "
            "ckpt=FOLDER, or add hydra.run.dir=FOLDER"
        )


def _check_shares(data: DictConfig, processes: int) -> None:
    """Each process needs samples of its own, of every split."""
    if processes > 1 and not data.get("fresh_each_epoch", True):
        raise UserError(
            "optimizer=gd (data.fresh_each_epoch=false) adds up gradients in one process, not in "
            f"{processes}; use trainer=cpu or trainer=gpu, or another optimizer"
        )
    batch = data.batch_size
    for key, least in (("samples_per_epoch", batch), ("val_samples", 1), ("test_samples", 1)):
        held, wanted = data.get(key), processes * least
        if held is not None and held < wanted:
            each = f" with data.batch_size={batch}" * (key == "samples_per_epoch")
            raise UserError(
                f"data.{key}={held} leaves one of {processes} processes without work; give "
                f"{wanted} or more{each}, or use a smaller trainer.devices"
            )


def _count(trainer: DictConfig) -> int:
    """How many processes there are, as far as the config tells; at least so many."""
    devices = str(trainer.devices)
    if devices in ("auto", "-1"):
        import torch

        return 1 if trainer.accelerator in ("cpu", "mps") else max(1, torch.cuda.device_count())
    listed = [word for word in re.split(r"[\[\], ]+", devices) if word]
    each = int(devices) if devices.isdigit() else len(listed)
    return each * int(trainer.get("num_nodes", 1))
