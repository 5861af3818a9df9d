"""From a config to objects: resolvers, checks that name the key, and the allowlist of code."""

from __future__ import annotations

import difflib
import inspect
import math
import os
import re
import types
import typing
from typing import Any

import torch
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import nn

from clearmark import launchers, ranks
from clearmark.errors import UserError
from clearmark.limits import check_numbers

HYDRA_KEYS = {"_target_", "_partial_", "_convert_", "_recursive_", "_args_"}
TRUSTED = ("clearmark.models.", "torch.nn.")
PACKAGES = ("clearmark", "torch", "lightning", "albumentations", "torchmetrics")
OWN = "CLEARMARK_TRUST"  # more packages, by commas
PLAIN = (bool, int, float, str)


def register_resolvers() -> None:
    """Make known to configs what they compute.

    ``${ceil_div:a,b}``: a / b, rounded up; null while a is not known.
    ``${has_momentum:optimizer}``: whether its config has a momentum or a first beta above 0.
    ``${fused:precision}``: whether an optimizer that can may update all weights in one kernel; in
    mixed precision Lightning refuses to clip the gradients of one that does.

    And what ``clearmark.launchers`` knows.
    """

    def ceil_div(a: int | None, b: int) -> int | None:
        return None if a is None else math.ceil(a / b)

    def has_momentum(optimizer: DictConfig) -> bool:
        return bool(optimizer.get("momentum") or (optimizer.get("betas") or [0])[0])

    def fused(precision: str) -> bool:
        return not precision.endswith("-mixed")

    launchers.register_resolvers()
    for resolver in (ceil_div, has_momentum, fused):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)


def check(cfg: DictConfig) -> None:
    """Refuse what cannot work before anything is built.

    Raises:
        UserError: a key that its target does not take, a value of the wrong type, or a pair of
            choices that excludes each other; one line with key, value and fix.
    """
    for key in map(str, cfg):
        if OmegaConf.is_missing(cfg, key):
            raise UserError(f"{key} is not set; add {key}=... to the command")
    check_numbers(cfg)
    _check_node(cfg, "")
    if "trainer" not in cfg:
        return
    maskless = "model" in cfg and cfg.model.get("mask") is False
    chosen_by = OmegaConf.select(cfg, "callbacks.checkpoint.monitor")
    if chosen_by is not None and cfg.objective != chosen_by:
        _check_figure(cfg.objective, "objective", "test/psnr_gain", maskless)
    for name, callback in (cfg.get("callbacks") or {}).items():
        if "monitor" in (callback or {}):
            _check_figure(callback.monitor, f"callbacks.{name}.monitor", "val/psnr", maskless)
    _check_device(cfg.trainer)
    ranks.check(cfg)
    launchers.check()
    if maskless:
        _check_maskless(cfg.loss, "loss")
    if "optimizer" in cfg:
        _check_epoch(cfg.data, cfg.trainer)
    _try_out(cfg)


def create(node: Any, **more: Any) -> Any:
    """Build what a config names, handing it plain lists and dicts."""
    return instantiate(node, _convert_="all", **more)


def build_network(model: Any) -> nn.Module:
    """Build a network from its plain config, which may come from a file that somebody else made.

    Raises:
        UserError: the config names code other than the networks of this package and the layers of
            ``torch.nn``, or does not fit what it names.
    """
    _check_trusted(model)
    try:
        network = create(model)
    except Exception as error:  # whatever a layer or Hydra makes of values that it does not take
        why = " ".join(str(error.__cause__ or error).split())
        raise UserError(f"{model['_target_']} does not take this config: {why}") from error
    if not isinstance(network, nn.Module):
        raise UserError("the network's config has _partial_, which leaves it unbuilt")
    return network


def _check_trusted(node: Any, top: bool = True) -> None:
    if top and not (isinstance(node, dict) and "_target_" in node):
        raise UserError("the network's config has no _target_; it is not one of this package")
    if isinstance(node, dict):
        if "_target_" in node and not _is_layer(node["_target_"]):
            raise UserError(
                f"the config names {node['_target_']}; a network is built of the classes in "
                f"{'* and '.join(TRUSTED)}* only"
            )
        for child in node.values():
            _check_trusted(child, False)
    elif isinstance(node, (list, tuple)):
        for child in node:
            _check_trusted(child, False)
    elif isinstance(node, str) and "${" in node:  # ${oc.create:...} could name any code
        raise UserError(f"the network's config holds {node!r}; it may hold plain values only")


def _is_layer(target: Any) -> bool:
    try:
        found = _class_in(target, TRUSTED)
    except (ImportError, ValueError, AttributeError):
        return False
    return found is not None and issubclass(found, nn.Module)


def _class_in(name: Any, homes: tuple[str, ...]) -> type | None:
    """The class of that name, if it lives in one of the modules ``homes``, each with a last dot."""
    if not (isinstance(name, str) and name.startswith(homes)):
        return None
    found = get_object(name)
    # The name alone proves little: clearmark.runs.os.system starts with the right word, too.
    inside = isinstance(found, type) and f"{found.__module__}.".startswith(homes)
    return found if inside else None


def _check_figure(name: Any, key: str, usual: str, maskless: bool) -> None:
    from clearmark.metrics import NAMES  # torchmetrics, which predict.py does without

    split = usual.partition("/")[0]
    known = [f"{split}/{figure}" for figure in NAMES]
    if maskless and name in known and "/mask_" in name:
        raise UserError(f"{key}={name}: model.mask=false predicts no mask; use {key}={usual}")
    if name not in known:
        near = difflib.get_close_matches(str(name), known, 1) or [usual]
        raise UserError(f"{key}={name} is no {split} figure; use {key}={near[0]}")


def _check_device(trainer: DictConfig) -> None:
    wanted, devices, cores = trainer.accelerator, trainer.devices, os.cpu_count() or 1
    if trainer.precision == "64-true" and wanted == "mps":
        raise UserError("precision=64 does not exist on trainer=mps; use precision=32")
    if devices == 0 or not re.fullmatch(r"auto|-1|\d+|[\d, \[\]]+", str(devices)):
        raise UserError(f"trainer.devices={devices} is no number of devices; use trainer.devices=1")
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    there = {"gpu": cuda or mps, "cuda": cuda, "mps": mps}
    if not there.get(wanted, True):
        kind = "Apple GPU" if wanted == "mps" else "GPU"
        raise UserError(
            f"trainer.accelerator={wanted}: torch finds no {kind} here; use trainer=cpu"
        )
    if trainer.precision == "16-mixed" and _on_cpu(trainer):
        raise UserError(
            "precision=16 needs a GPU: half-precision convolutions do not run on a CPU; "
            "use precision=bf16 or precision=32"
        )
    if _on_cpu(trainer) and isinstance(devices, int) and devices > 4 * cores:
        raise UserError(
            f"trainer.devices={devices} is too many for {cores} CPU cores; use trainer.devices=1"
        )
    if trainer.get("sync_batchnorm") and _on_cpu(trainer):
        raise UserError("trainer.sync_batchnorm=true needs GPUs; use trainer.sync_batchnorm=false")


def _check_epoch(data: DictConfig, trainer: DictConfig) -> None:
    samples, batch = data.samples_per_epoch, data.batch_size
    if not data.get("fresh_each_epoch", True):
        if str(data.get("_target_")).endswith(".ShardsModule"):
            raise UserError(
                "optimizer=gd (data.fresh_each_epoch=false) takes the gradient over a whole set, "
                "and data=shards is a stream without end; use data=folder, or optimizer=sgd"
            )
        if samples is None:
            raise UserError(
                "data.samples_per_epoch=null leaves open how many batches a full-batch gradient "
                f"has; give a multiple of data.batch_size={batch}"
            )
        if samples % batch:
            raise UserError(
                f"data.samples_per_epoch={samples} is no multiple of "
                f"data.batch_size={batch}: a full-batch gradient would leave samples out"
            )
    if samples is not None and batch > samples:
        raise UserError(
            f"data.batch_size={batch} exceeds data.samples_per_epoch={samples}: no batch would "
            f"be full; use data.batch_size={samples} or less"
        )
    every, epochs = trainer.get("check_val_every_n_epoch"), trainer.max_epochs
    if every and epochs and every > epochs:
        raise UserError(
            f"trainer.check_val_every_n_epoch={every} exceeds trainer.max_epochs={epochs}: no "
            "network would be chosen; use check_val_every_n_epoch=1"
        )


def _try_out(cfg: DictConfig) -> None:
    """Build what libraries check only when they build it, before a run's folder is made."""
    if "optimizer" in cfg:
        cfg = cfg.copy()
        cfg.total_steps = 1000  # any: the real one is known when training starts
        optimizer = _called("optimizer", create(cfg.optimizer), [nn.Parameter(torch.zeros(2, 2))])
        _called("scheduler", create(cfg.scheduler), optimizer)
    if "callbacks" in cfg:
        create(cfg.callbacks)
    create(cfg.trainer, logger=False, enable_checkpointing=False)


def _called(key: str, partial: Any, *arguments: Any) -> Any:
    try:
        return partial(*arguments)
    except Exception as error:
        given = ", ".join(f"{name}={value}" for name, value in partial.keywords.items())
        why = " ".join(str(error).split())
        raise UserError(f"{key}: {partial.func.__name__} does not take {given}: {why}") from error


def _check_maskless(loss: Any, path: str) -> None:
    from clearmark.losses import MaskLoss

    if isinstance(loss, DictConfig) and loss.get("weight", 1) != 0:
        target = get_object(loss._target_) if "_target_" in loss else None
        if isinstance(target, type) and issubclass(target, MaskLoss):
            raise UserError(
                f"{path} is {loss._target_}, which needs a mask, and model.mask=false predicts "
                "none; use model.mask=true or a loss on the picture alone, as loss=charbonnier"
            )
        for key in map(str, loss):
            _check_maskless(loss[key], f"{path}.{key}")


def _on_cpu(trainer: DictConfig) -> bool:
    if trainer.accelerator == "auto":
        return not (torch.cuda.is_available() or torch.backends.mps.is_available())
    return bool(trainer.accelerator == "cpu")


def _check_node(node: Any, path: str) -> None:
    if isinstance(node, ListConfig):
        for index in range(len(node)):
            _check_node(node[index], f"{path}[{index}]")
    if not isinstance(node, DictConfig):
        return
    if "_target_" in node:
        _check_call(node, path)
    for key in map(str, node):
        if not OmegaConf.is_missing(node, key):
            _check_node(node[key], f"{path}.{key}" if path else key)
        elif "_target_" in node:
            raise UserError(f"{path}.{key} is not set; add {path}.{key}=... to the command")


def _check_call(node: DictConfig, path: str) -> None:
    target = _class(node._target_, f"{path}._target_")
    for key in ("_partial_", "_recursive_"):
        if not isinstance(node.get(key, False), bool):
            raise UserError(f"{path}.{key}={node[key]}: give it as true or false")
    arguments = _arguments(target)
    if arguments is None:
        return
    hints = _hints(target)
    for key in map(str, node):
        if key in HYDRA_KEYS or OmegaConf.is_missing(node, key):
            continue
        if key not in arguments:
            near = difflib.get_close_matches(key, arguments, 1)
            hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(arguments)}"
            raise UserError(f"{path}.{key}={node[key]}: {node._target_} has no such key; {hint}")
        if node[key] is None and OmegaConf.is_interpolation(node, key):
            continue  # total_steps is known only when training starts
        _check_value(node[key], hints.get(key), f"{path}.{key}")


def _class(name: Any, path: str) -> Any:
    """The class that a config names; a config may come from a run folder of somebody else's."""
    packages = [*PACKAGES, *filter(None, os.environ.get(OWN, "").split(","))]
    try:
        found = _class_in(name, tuple(f"{package}." for package in packages))
    except (ImportError, ValueError, AttributeError) as error:
        raise UserError(f"{path}={name} does not exist; see the files in conf/") from error
    if found is None:
        raise UserError(
            f"{path}={name} is no class of {', '.join(packages)}; for one of your own package set "
            f"the environment variable {OWN}=my_package"
        )
    return found


def _arguments(target: Any) -> list[str] | None:
    """The names a call takes; None if it takes any."""
    parameters = dict(inspect.signature(target).parameters)
    if inspect.isclass(target):
        # A mark passes what it does not know on to the class above it.
        for base in target.__mro__[1:]:
            kinds = [p.kind for p in parameters.values()]
            if inspect.Parameter.VAR_KEYWORD not in kinds:
                break
            parameters = {n: p for n, p in parameters.items() if p.kind is not p.VAR_KEYWORD}
            parameters |= dict(inspect.signature(base).parameters)
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return None
    return [name for name, p in parameters.items() if p.kind is not p.VAR_POSITIONAL]


def _hints(target: Any) -> dict[str, Any]:
    hints: dict[str, Any] = {}
    for owner in reversed(target.__mro__) if inspect.isclass(target) else [target]:
        function = owner.__dict__.get("__init__") if inspect.isclass(owner) else owner
        try:
            hints |= typing.get_type_hints(function)
        except (NameError, TypeError):  # annotations of a library that only its type checker reads
            continue
    return hints


def _check_value(value: Any, hint: Any, path: str) -> None:
    """Plain types only; what a target makes of its lists and objects it says itself."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    options = typing.get_args(hint) if union else (hint,)
    wanted = [option for option in options if option in PLAIN]
    if not wanted or len(wanted) + (type(None) in options) != len(options):
        return
    if value is None and type(None) in options:
        return
    if float in wanted and isinstance(value, int) and not isinstance(value, bool):
        return
    if not any(type(value) is option for option in wanted):
        names = " or ".join(option.__name__ for option in wanted)
        what = "null is no value" if value is None else f"{value} is {type(value).__name__}"
        raise UserError(f"{path}={what}; give it as {names}")
