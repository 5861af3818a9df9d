"""From a config to objects: resolvers, checks that name the key, and the allowlist of code."""

from __future__ import annotations

import difflib
import inspect
import math
import types
import typing
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from clearmark.errors import UserError
from clearmark.losses import MaskLoss
from clearmark.metrics import NAMES

HYDRA_KEYS = {"_target_", "_partial_", "_convert_", "_recursive_", "_args_"}
TRUSTED = ("clearmark.models.", "torch.nn.")
PLAIN = (bool, int, float, str)


def register_resolvers() -> None:
    """Make known to configs what they compute.

    ``${ceil_div:a,b}``: a / b, rounded up; null while a is not known.
    ``${has_momentum:optimizer}``: whether its config has a momentum or a first beta above 0.
    """

    def ceil_div(a: int | None, b: int) -> int | None:
        return None if a is None else math.ceil(a / b)

    def has_momentum(optimizer: DictConfig) -> bool:
        return bool(optimizer.get("momentum") or (optimizer.get("betas") or [0])[0])

    OmegaConf.register_new_resolver("ceil_div", ceil_div, replace=True)
    OmegaConf.register_new_resolver("has_momentum", has_momentum, replace=True)


def check(cfg: DictConfig) -> None:
    """Refuse what cannot work before anything is built.

    Raises:
        UserError: a key that its target does not take, a value of the wrong type, or a pair of
            choices that excludes each other; one line with key, value and fix.
    """
    _check_node(cfg, "")
    trainer = cfg.get("trainer")
    if trainer is None:
        return
    known = [f"test/{name}" for name in NAMES]
    if "objective" in cfg and cfg.objective not in known:
        near = difflib.get_close_matches(str(cfg.objective), known, 1) or ["test/psnr_gain"]
        raise UserError(f"objective={cfg.objective} is no test figure; use objective={near[0]}")
    if trainer.precision == "16-mixed" and _on_cpu(trainer):
        raise UserError(
            "precision=16 needs a GPU: half-precision convolutions do not run on a CPU; "
            "use precision=bf16 or precision=32"
        )
    if trainer.precision == "64-true" and trainer.accelerator == "mps":
        raise UserError("precision=64 does not exist on trainer=mps; use precision=32")
    if _in_a_sweep() and _several_processes(trainer):
        raise UserError(
            f"trainer.strategy={trainer.strategy} with trainer.devices={trainer.devices} cannot "
            "run in a multirun: each process would start the whole sweep again; use one device "
            "(trainer=gpu or trainer=cpu), or start the runs one by one without -m"
        )
    if "model" in cfg and cfg.model.get("mask") is False:
        _check_maskless(cfg.loss, "loss")
    data = cfg.data
    if not data.get("fresh_each_epoch", True) and data.samples_per_epoch % data.batch_size:
        raise UserError(
            f"data.samples_per_epoch={data.samples_per_epoch} is no multiple of "
            f"data.batch_size={data.batch_size}: a full-batch gradient would leave samples out"
        )


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
    except (InstantiationException, OmegaConfBaseException) as error:
        cause = error.__cause__ or error
        raise UserError(f"{model['_target_']} does not take this config: {cause}") from error
    assert isinstance(network, nn.Module)
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
    # The name alone proves little: clearmark.runs.os.system starts with the right word, too.
    if not (isinstance(target, str) and target.startswith(TRUSTED)):
        return False
    try:
        found = get_object(target)
    except (ImportError, ValueError, AttributeError):
        return False
    return isinstance(found, type) and issubclass(found, nn.Module)


def _in_a_sweep() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def _several_processes(trainer: DictConfig) -> bool:
    return str(trainer.strategy).startswith(("ddp", "fsdp", "deepspeed")) or (
        str(trainer.devices) not in ("1", "auto")
    )


def _check_maskless(loss: Any, path: str) -> None:
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
    try:
        target = get_object(node._target_)
    except (ImportError, ValueError) as error:
        raise UserError(f"{path}._target_={node._target_} does not exist") from error
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
        raise UserError(f"{path}={value} is {type(value).__name__}; give it as {names}")
