"""What training starts from: with ``init=`` another network's weights, and so its config.

With ``keep=`` it is the most important of that network's channels.
"""

from __future__ import annotations

from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from torch import nn

from clearmark import cli, pruning, runs
from clearmark.config import build_network
from clearmark.errors import UserError


def adopt(cfg: DictConfig, before: dict[str, Any] | None = None) -> DictConfig:
    """Give ``cfg`` the network of its ``init``, activation included; returns ``cfg``.

    Args:
        cfg: what was typed; without ``init`` it stays as it is.
        before: the config of the run that is to go on. If it began with the same ``init``, its
            network counts, and ``init`` itself is no longer needed.

    Raises:
        UserError: ``init`` cannot be loaded, another network was typed, or ``keep`` is no share of
            its channels.
    """
    init, keep = cfg.get("init"), cfg.get("keep")
    if init is None:
        if keep is not None:
            raise UserError(f"keep={keep} is a share of the channels of init=; type that as well")
        return cfg
    model: Any
    if before is not None and (before.get("init"), before.get("keep")) == (init, keep):
        model = before.get("model")
        build_network(model)  # or it might name any code
    else:
        model = runs.load_network(cli.path(cfg, "init"), "init")[1]["model"]
        if keep is not None:
            model = pruning.narrowed(model, keep)
    asked: Any = OmegaConf.to_container(cfg.model, resolve=True)
    if asked == model:
        return cfg
    for word in _typed():
        key = _key(word)
        if asked.get(key) != model.get(key):
            raise UserError(
                f"init={init} has model.{key}={model.get(key)}, and {word} asks for "
                f"model.{key}={asked.get(key)}; leave one of them out"
            )
    cfg.model = model
    if "activation" in model and "activation" in cfg:
        cfg.activation = model["activation"]
    return cfg


def load(network: nn.Module, cfg: DictConfig) -> None:
    """Copy the weights and running statistics of ``init`` into a network of its config.

    Raises:
        UserError: they cannot be read, or are of another network.
    """
    found, config = runs.load_network(cli.path(cfg, "init"), "init")
    if cfg.get("keep") is not None:
        found = pruning.prune(found, config["model"], cfg.keep)
    try:
        network.load_state_dict(found.state_dict())
    except RuntimeError as error:
        why = f"init={cfg.init} is another network than the run's; has the file changed?"
        raise UserError(why) from error


def _typed() -> list[str]:
    """The words of the command that choose the network."""
    if not HydraConfig.initialized():
        return []
    words = list(HydraConfig.get().overrides.task)
    return [word for word in words if _group(word) in ("model", "activation")]


def _group(word: str) -> str:
    return word.lstrip("+~").partition("=")[0].partition(".")[0].partition("@")[0]


def _key(word: str) -> str:
    """What of a network's config a word chooses: ``model=unet`` its kind, whatever its widths."""
    path = word.lstrip("+~").partition("=")[0].partition("@")[0].split(".")
    return "activation" if path[0] == "activation" else [*path, "_target_"][1]
