"""Which earlier run a command goes on with, and whether it may."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import torch
import yaml  # type: ignore[import-untyped]
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from clearmark import initial, sweeps
from clearmark.basis import PIXELS
from clearmark.checkpoints import STATE
from clearmark.errors import UserError
from clearmark.runs import CONFIG, LAST

AUTO = "auto"
# What may differ: it changes no sample, and no figure but those of speed. Other numbers of threads
# may round otherwise, which is the user's to decide.
FREE = (
    *("resume", "ckpt", "name", "folder", "objective", "print_config", "threads", "logger"),
    *("jobs", "data.workers", "data.cache_mb", "callbacks.last", "callbacks.panels"),
    *("callbacks.pace", "callbacks.progress", "trainer.enable_progress_bar", "trainer.plugins"),
)

_held: dict[Path, TextIO] = {}  # open as long as this process lives


def choose(cfg: DictConfig) -> DictConfig:
    """The config of the run that is to go on, with that run's folder; ``cfg`` itself if none is.

    ``ckpt=FOLDER`` takes the run's own command, with what was typed now on top. ``resume=auto``
    takes the folder that was typed (``hydra.run.dir``, ``folder``), a sweep's job its own, and any
    other command the newest run of the same config beside the folder that it would have made.
    ``init`` brings its own network (``initial.adopt``).

    Raises:
        UserError: there is no such run, or its config differs in what matters.
    """
    _asked_well(cfg)
    own = Path(str(cfg.folder))
    folder: Path | None = None
    if given := cfg.get("ckpt"):
        folder = _named(str(given))
        cfg = _retyped(cfg, folder)
    elif cfg.get("resume"):
        folder = own if _chosen() else _newest(own.absolute().parents[1], cfg)
    if folder is None or not (folder / CONFIG).is_file():
        return initial.adopt(cfg)
    before = _read(folder)
    initial.adopt(cfg, before)
    cfg.folder, cfg.name = str(folder.absolute()), before.get("name")
    if found := _difference(before, cfg):
        raise UserError(
            f"{found}; a run goes on with the config that it began with: leave that out, or leave "
            "out resume or ckpt to begin anew"
        )
    if folder.absolute() != own.absolute():
        sweeps.discard()  # the folder that Hydra has made for this command
    return cfg


def _asked_well(cfg: DictConfig) -> None:
    """Refuse what ``resume``, ``ckpt`` and ``init`` cannot mean together."""
    wanted, given = cfg.get("resume") or "", cfg.get("ckpt") or ""
    if wanted not in ("", AUTO):
        raise UserError(
            f"resume={wanted} is unknown; use resume=auto, or ckpt={wanted} for the run in a folder"
        )
    if wanted and given:
        raise UserError(f"resume=auto and ckpt={given} exclude each other; leave one out")
    if given and cfg.get("init") is not None:
        raise UserError(
            f"init={cfg.init} and ckpt={given} exclude each other: a run that goes on has its own "
            "weights; leave one out"
        )
    if given and sweeps.in_one():
        raise UserError(
            f"ckpt={given} goes on with one run; in a multirun use resume=auto with "
            "hydra.sweep.dir=<the old folder>"
        )


def _named(given: str) -> Path:
    """The folder that ``ckpt`` names, which is a run's."""
    folder = Path(given).expanduser()
    if not (folder / CONFIG).is_file():
        what = "holds no run" if folder.is_dir() else "is no folder"
        raise UserError(
            f"ckpt={given} {what}; give the folder of a run, as outputs/DATE/TIME, or use "
            "resume=auto"
        )
    return folder


def last(folder: Path, anew: bool) -> Path | None:
    """The checkpoint that a run goes on from, after a line about it; None to begin anew.

    Args:
        folder: of the run.
        anew: begin anew if the checkpoint cannot be read.

    Raises:
        UserError: it cannot be read.
    """
    path = folder / "checkpoints" / LAST
    if not (folder / CONFIG).is_file():
        return None
    if not path.is_file():
        rank_zero_only(print)(f"{folder} has no checkpoint yet: begins anew")
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        content[STATE], epoch, step = content[STATE], content["epoch"], content["global_step"]
    except Exception as error:  # whatever torch makes of a file that is damaged or none of ours
        why = f"{path} is no checkpoint to go on from"
        if anew:
            rank_zero_only(print)(f"{why}: begins anew")
            return None
        raise UserError(f"{why}; resume=auto begins anew in its folder") from error
    rank_zero_only(print)(f"goes on in {folder} from epoch {epoch}, step {step}")
    return path


def hold(folder: Path) -> None:
    """Keep other processes from training in a folder until this one ends, however it ends.

    Raises:
        UserError: another process trains in it.
    """
    first = os.environ.get("LOCAL_RANK", "0") == "0"
    if sys.platform == "win32" or not first or folder.absolute() in _held:
        return
    import fcntl

    file = (folder / ".lock").open("w")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(
            f"{folder} is being trained in by another process; stop it first"
        ) from error
    except OSError:  # a file system without locks
        return
    _held[folder.absolute()] = file


def _chosen() -> bool:
    """Whether the folder was typed, or is a sweep's, rather than made of the time."""
    if not HydraConfig.initialized() or sweeps.in_one():
        return True
    typed = HydraConfig.get().overrides
    keys = {_key(word) for word in [*typed.hydra, *typed.task]}
    return bool(keys & {"hydra.run.dir", "folder"})


def _newest(runs: Path, cfg: DictConfig) -> Path | None:
    """The newest run of the same config in the folders of all days."""
    for path in sorted(runs.glob(f"*/*/{CONFIG}"), reverse=True):
        with contextlib.suppress(UserError):
            before = _read(path.parent)
            if before["init"] != cfg.get("init"):
                continue
            same = cfg.copy()
            same.folder = before.get("folder")
            initial.adopt(same, before)
            if _difference(before, same) is None:
                return path.parent
    return None


def _retyped(cfg: DictConfig, folder: Path) -> DictConfig:
    """What was typed for the run, with what was typed now on top."""
    if not HydraConfig.initialized():
        return cfg
    typed = list(HydraConfig.get().overrides.task)
    mine = {_key(word) for word in typed} | {"resume", "ckpt"}
    kept = [word for word in sweeps.read_overrides(folder) if _key(word) not in mine]
    own = cfg.folder
    cfg = compose(str(HydraConfig.get().job.config_name), [*kept, *typed])
    cfg.folder = own
    return cfg


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


def _read(folder: Path) -> dict[str, Any]:
    try:
        found = _parsed((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{folder / CONFIG} cannot be read; begin anew without resume") from error
    if not isinstance(found, dict):
        raise UserError(f"{folder / CONFIG} is no config; begin anew without resume")
    # Which runs had not always.
    if isinstance(data := found.get("data"), dict) and "watermark" in data:
        data.setdefault("mask_above", None)
    return {"init": None, "keep": None, "budget": None, "basis": PIXELS} | found


def _parsed(text: str) -> Any:
    # The fast one of the two, if the system has it: there may be many runs.
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _difference(before: dict[str, Any], cfg: DictConfig) -> str | None:
    """The first value that differs in what matters, in words."""
    now = _parsed(OmegaConf.to_yaml(cfg, resolve=True))
    old, new = (dict(_leaves(c, str(c.get("folder")))) for c in (before, now))
    for key in [*new, *old]:
        if old.get(key) != new.get(key) or (key in old) != (key in new):
            had = f"the run has {key}={old[key]}" if key in old else f"the run has no {key}"
            asks = f"{key}={new[key]}" if key in new else f"no {key}"
            return f"{asks}, but {had}"
    return None


def _leaves(node: Any, folder: str, path: str = "") -> Iterator[tuple[str, Any]]:
    if path in FREE:
        return
    if isinstance(node, dict) and node:
        for key, child in node.items():
            yield from _leaves(child, folder, f"{path}.{key}" if path else str(key))
    elif isinstance(node, str):
        yield path, node.replace(folder, "FOLDER")  # a run may have been moved
    else:
        yield path, node
