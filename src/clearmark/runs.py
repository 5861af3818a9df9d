"""Finished runs on disk: what lies in a run's folder, and how to use it again."""

from __future__ import annotations

import json
import os
import pickle
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from clearmark import disk, mistyped, released
from clearmark.config import build_network
from clearmark.errors import UserError, first_line
from clearmark.finished import load as load
from clearmark.sweeps import OVERRIDES, RESULTS

BEST, LAST = "best.ckpt", "last.ckpt"
CONFIG, ENVIRONMENT = "config.yaml", "environment.json"
# Of the weights and random activations; of the training samples; of those measured on.
SEEDS = ("seed", "data.seed", "data.eval_seed")
BROKEN, BAD_BATCH = "broken_photos.tsv", "bad_batch.json"
# What a run leaves, by which a later one in the same folder would be judged.
EARLIER = (
    RESULTS,
    CONFIG,
    BROKEN,
    BAD_BATCH,
    "panels/*.png",
    f"checkpoints/{BEST}",
    f"checkpoints/{LAST}",
)
PACKAGES = ("clearmark", "torch", "lightning", "albumentations", "torchmetrics", "hydra-core")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write beside and rename, so that a reader never meets half a file."""
    _write(path, json.dumps(content, indent=2) + "\n")


def _write(path: Path, text: str) -> None:
    with disk.whole(path) as beside:
        beside.write_text(text, encoding="utf-8")


def start(folder: Path, cfg: DictConfig, broken: Mapping[Path, str], goes_on: bool = False) -> None:
    """Make the run's folder and note what it takes to repeat the run, and what was left out.

    What an earlier run left there that could be taken for this one's is removed, unless this one
    goes on with it: then its notes stay, and only the machine is noted anew.

    Raises:
        UserError: what only measures was given the folder of a training.
    """
    if "optimizer" not in cfg and (folder / "checkpoints").is_dir():
        raise UserError(f"{folder} holds a trained run, which this would end; give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "git": _git("rev-parse", "HEAD"),
        "git_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
        "packages": {name: _version(name) for name in PACKAGES},
    }
    if goes_on:
        began = json.loads((folder / ENVIRONMENT).read_text(encoding="utf-8"))
        began["went_on"] = [*began.get("went_on", []), about]
        write_json(folder / ENVIRONMENT, began)
    else:
        for pattern in EARLIER:
            for path in folder.glob(pattern):
                path.unlink()
        if HydraConfig.initialized() and not (cfg.get("ckpt") and (folder / OVERRIDES).is_file()):
            # A run that ckpt names keeps the words that it began with. Of a new one
            # Hydra would have written it before anything of the command was found to be right.
            (folder / OVERRIDES).parent.mkdir(exist_ok=True)
            OmegaConf.save(HydraConfig.get().overrides.task, folder / OVERRIDES)
        seeds = {key: OmegaConf.select(cfg, key) for key in SEEDS}
        known = {key: seed for key, seed in seeds.items() if seed is not None}
        write_json(folder / ENVIRONMENT, {"seeds": known} | about)
        # The last, and whole: where it lies, a run has begun.
        _write(folder / CONFIG, OmegaConf.to_yaml(cfg, resolve=True))
    if broken:
        lines = [f"{path}\t{reason}\n" for path, reason in sorted(broken.items())]
        (folder / BROKEN).write_text("".join(lines), encoding="utf-8")
        files = "1 file" if len(broken) == 1 else f"{len(broken)} files"
        print(f"left out {files}, listed in {folder / BROKEN}")


def checkpoint_of(ckpt: str | Path, key: str = "ckpt") -> Path:
    """The file of weights that a path or a name stands for.

    That is a file itself, the best checkpoint of a run's folder, or the ``model.safetensors`` of a
    released model: of its folder or, where no file has that name, of the embedded one so called.

    Args:
        ckpt: a path or a name.
        key: what the user calls it, for the error.

    Raises:
        UserError: there is none.
    """
    path, known = Path(ckpt).expanduser(), released.names()
    if not path.exists() and str(ckpt) in known:
        path = released.EMBEDDED / path
    if path.is_file():
        return path
    if not path.exists():
        near = mistyped.nearest(str(ckpt), known)
        meant = f"did you mean {key}={near}? Give" if near else "give"
        raise UserError(
            f"{key}={ckpt} does not exist; {meant} a run folder, a .ckpt file, the folder of a "
            f"released model, or the name of an embedded one ({', '.join(known)})"
        )
    for name in (f"checkpoints/{BEST}", f"checkpoints/{LAST}", released.WEIGHTS):
        if (path / name).is_file():
            return path / name
    raise UserError(
        f"{key}={ckpt} holds no checkpoints/{BEST} and no {released.WEIGHTS}; give the folder of a "
        "trained run or of a released model"
    )


def load_network(ckpt: str | Path, key: str = "ckpt") -> tuple[nn.Module, dict[str, Any]]:
    """The network of a checkpoint or released model, in evaluation mode, and its config.

    Nothing in the files is executed: weights load as plain tensors, and the config may only name
    networks of this package and parts of ``torch.nn``.

    Args:
        ckpt: see ``checkpoint_of``.
        key: what the user calls it, for errors.

    Raises:
        UserError: the file is none of ours, or was made by another version of the network.
    """
    path = checkpoint_of(ckpt, key)
    if path.suffix == ".safetensors":
        weights, config = released.read(path, key)
    else:
        weights, config = _read_checkpoint(path, key)
    try:
        network = build_network(config["model"])
    except (UserError, KeyError, TypeError, RecursionError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{key}={path} is not loaded: {why}") from error
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        first = " ".join(str(error).splitlines()[:2])
        raise UserError(f"{key}={path} does not fit its network: {first}") from error
    return network.eval(), config


def _read_checkpoint(path: Path, key: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        config, weights = content["config"], dict(content["state_dict"])
    except pickle.UnpicklingError as error:
        # torch's own message advises to load it all the same, and to run what is in it.
        why = "it is none, or holds more than plain values and tensors; nothing in it was run"
        raise UserError(f"{key}={path} cannot be read as a checkpoint: {why}") from error
    except Exception as error:
        why = first_line(error)
        raise UserError(f"{key}={path} cannot be read as a checkpoint: {why}") from error
    prefix = "network."
    own = {k[len(prefix) :]: v for k, v in weights.items() if str(k).startswith(prefix)}
    return own, config


def _git(*command: str) -> str | None:
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", *command], cwd=here, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
