"""What Hydra refuses on a command line, told in one line with the nearest name that is valid."""

from __future__ import annotations

import difflib
import inspect
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from clearmark.errors import UserError

KINDS = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".gif", ".bmp", ".heic", ".avif"}
"""Endings that only a path has."""
# What other programs call it.
OTHERWISE = {
    "learning_rate": "lr",
    "epochs": "max_epochs",
    "gpus": "devices",
    "dataset": "data",
    "network": "model",
    "checkpoint": "ckpt",
    "steps": "max_steps",
}
HYDRAS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.launcher.n_jobs")
# Launchers and sweepers that Hydra knows if their package is there, and the extra that brings it.
EXTRAS = {
    "hydra/launcher/joblib": "joblib",
    "hydra/launcher/ray": "ray",
    "hydra/launcher/submitit_slurm": "submitit",
    "hydra/launcher/submitit_local": "submitit",
    "hydra/sweeper/optuna": "optuna",
}
PICKLES = ("--experimental-rerun", "-er")


def refuse_options(words: list[str]) -> None:
    """Refuse options that Hydra does not have, which its parser would do in many lines.

    Raises:
        UserError: there is one; values are given without dashes.
    """
    parser = get_args_parser()
    options = [o for action in parser._actions for o in action.option_strings]
    for word in words:
        name, _, value = word.partition("=")
        if name.startswith(PICKLES):
            raise UserError(f"{name} would run what a pickle holds; type the command again instead")
        if not re.match(r"--?[a-zA-Z]", word) or any(o.startswith(name) for o in options):
            continue
        near = nearest(name.strip("-").replace("-", "_"), known())
        key = near or name.strip("-")
        raise UserError(
            f"{word} is no option; values are given without dashes, as {key}={value or '...'}"
        )

    def refuse(message: str) -> NoReturn:
        between = [word for word in words if re.match(r"--?[a-zA-Z]", word)]
        if message.startswith("unrecognized arguments") and between:
            option = between[0].partition("=")[0]
            raise UserError(f"{option} stands between values; put {option} first")
        raise UserError(f"{message}; see --hydra-help")

    parser.error = refuse  # type: ignore[method-assign]
    parser.parse_args(words)


def is_path(word: str) -> bool:
    """Whether a word is the path of something that is there, and gives no key a value."""
    name, found, _ = word.partition("=")
    said = word[:1] == "-" or (found and name.isidentifier())
    return not said and os.path.exists(word)  # which takes what no path can be for absent


def explain(message: str) -> str:
    """Hydra's message as one line that says what is wrong, and what was probably meant."""
    message = message.partition("Config search path")[0]
    if match := re.search(r"Could not override '(.*?)'", message):
        return _key(match[1])
    if match := re.search(r"Key '(.*?)' is not in struct\s+full_key: (\S+)", message):
        return _key(match[2])
    if match := re.search(r"Could not find '(.*?)/([^/]*?)'", message):
        return _choice(match[1], match[2], message)
    if match := re.search(r"Could not delete from config. '?(.*?)'? does not exist", message):
        return _key(match[1], "cannot be deleted")
    if match := re.search(r"Error parsing override '(.*?)'\s+(.*)", message, re.DOTALL):
        word, why = match[1], " ".join(match[2].split("\n")[0].split())
        if "input" in known() and (path := _path(word)):
            return path
        if "missing EQUAL" in why:
            near = nearest(word, known())
            meant = f"{near}=..." if near else "key=value, as optimizer.lr=1e-3, without spaces"
            homes = [group for group in groups() if (_conf() / group / f"{word}.yaml").is_file()]
            meant = f"{homes[0]}={word}" if homes else meant
            return f"{word} says no value; write {meant}"
        return f"{word} cannot be read ({why.partition(' See ')[0]}); quote it as 'key=\"value\"'"
    if match := re.search(r"Ambiguous value for argument '(.*?)'", message):
        alone = f"{match[1]} is more than one value; add -m to run each, or write a list as [a,b]"
        return _besides() or alone
    return " ".join(message.split())


def _besides() -> str | None:
    """What is wrong with the words that have one value.

    While they do not compose, Hydra does not see that their experiment is a sweep.
    """
    words = get_args_parser().parse_args(sys.argv[1:]).overrides
    typed = OverridesParser.create().parse_overrides(words)
    single = [str(one.input_line) for one in typed if not one.is_sweep_override()]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(_conf()), version_base="1.3"):
        try:
            compose(Path(sys.argv[0]).stem, single)
        except HydraException as error:
            return explain(str(error))
    return None


def _path(word: str) -> str | None:
    """What to say of a path without its key."""
    if sum(map(is_path, sys.argv[1:])) > 1:
        return (
            f"{word} is one of several paths; give a folder, or a pattern in quotes, as input=..."
        )
    looks = is_path(word) or Path(word).suffix.lower() in KINDS or "/" in word.partition("=")[0]
    return f"{word} says no value; write input={word}" if looks else None


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name that looks most like a typed one, as a whole or in its last part."""
    head, _, last = name.lower().rpartition(".")
    last = OTHERWISE.get(last, last)
    wanted = f"{head}.{last}" if head else last

    def likeness(candidate: str) -> float:
        if head:
            return _alike(wanted, candidate.lower()) * ("." in candidate)
        # A short path goes before a long one.
        part = _alike(last, candidate.lower().rpartition(".")[2]) - 0.04 * candidate.count(".")
        return max(_alike(wanted, candidate.lower()), part)

    best = max(names, key=likeness, default=None)
    return best if best is not None and likeness(best) >= 0.65 else None


def _alike(one: str, other: str) -> float:
    """From 0 to 1; letters in another order are a slip of the fingers."""
    ratio = difflib.SequenceMatcher(None, one, other).ratio()
    return max(ratio, 0.95) if sorted(one) == sorted(other) else ratio


def known() -> list[str]:
    """The groups and keys of this program, as its command line chooses them."""
    return [*groups(), *_keys(_config())]


def _key(name: str, why: str = "") -> str:
    typed = name.lstrip("+~").partition("@")[0]
    config = _config()
    names = HYDRAS if typed.startswith("hydra") else [*groups(), *_keys(config)]
    near = nearest(typed, [n for n in names if n != typed])
    if why:
        return f"{name} {why}: there is no such key" + (f"; did you mean {near}?" if near else "")
    addable = nearest(typed, _addable(config, typed.rpartition(".")[0]))
    if addable and (not near or addable == typed):
        return f"{name} is not in the config; add it with a plus: +{addable}=..."
    fix = f"did you mean {near}?" if near else "--cfg job shows all keys, --help all groups"
    return f"{name} is neither a group nor a key of the chosen configs; {fix}"


def _choice(group: str, choice: str, message: str) -> str:
    if extra := EXTRAS.get(f"{group}/{choice}"):
        typed = f"{group.removeprefix('hydra/')}={'slurm' if 'slurm' in choice else choice}"
        return f'{typed} needs: pip install -c constraints.txt -e ".[{extra}]"'
    choices = re.findall(r"^\t(\S+)$", message, re.MULTILINE)
    near = nearest(choice, choices)
    meant = f"did you mean {group}={near}? There" if near else "there"
    return f"{group}={choice} does not exist; {meant} are {', '.join(choices)}"


def _conf() -> Path:
    return Path(sys.argv[0]).resolve().parents[1] / "conf"


def groups() -> list[str]:
    """Only the groups that this program's defaults name."""
    path = _conf() / f"{Path(sys.argv[0]).stem}.yaml"
    found = OmegaConf.load(path) if path.is_file() else None
    defaults = found.get("defaults", []) if isinstance(found, DictConfig) else []
    names = [str(key) for entry in defaults if isinstance(entry, DictConfig) for key in entry]
    return [name for name in names if " " not in name]


def listing() -> str:
    """The groups of this program, a line each with their choices, for its ``--help``."""
    choices = {name: (_conf() / name).glob("*.yaml") for name in sorted(groups())}
    return "".join(
        f"{name}: {', '.join(sorted(path.stem for path in paths))}\n"
        for name, paths in choices.items()
    )


def _config() -> DictConfig:
    """What the command line composes without the words that are wrong."""
    words = [w for w in sys.argv[1:] if w.partition("=")[0] in groups() and "," not in w]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(_conf()), version_base="1.3"):
        for given in (words, []):
            try:
                return compose(Path(sys.argv[0]).stem, given)
            except Exception:  # then without them
                continue
    return DictConfig({})


def _keys(node: DictConfig, above: str = "") -> list[str]:
    names = []
    for key in map(str, node):
        path = f"{above}{key}"
        names.append(path)
        below = None if OmegaConf.is_missing(node, key) else node._get_node(key)
        if isinstance(below, DictConfig) and not below._is_none() and not below._is_interpolation():
            names += _keys(below, f"{path}.")
    return [name for name in names if not name.rpartition(".")[2].startswith("_")]


def _addable(config: DictConfig, section: str) -> list[str]:
    """What the target of a section takes beyond what its config says."""
    from hydra.utils import get_object

    node = OmegaConf.select(config, section) if section else None
    if not isinstance(node, DictConfig) or "_target_" not in node:
        return []
    try:
        taken = inspect.signature(get_object(node._target_)).parameters
    except Exception:  # the name itself is wrong, or the library is not installed
        return []
    return [f"{section}.{name}" for name in taken if name not in node]
