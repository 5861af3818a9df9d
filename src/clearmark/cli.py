"""What every entry point does around its work: clear errors, a quiet terminal, usable paths."""

from __future__ import annotations

import functools
import os
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from hydra.errors import ConfigCompositionException, OverrideParseException
from omegaconf import DictConfig, OmegaConf

from clearmark.errors import UserError

FULL = "HYDRA_FULL_ERROR"
TRACEBACK = bool(os.environ.get(FULL))
WRONG, INTERRUPTED = 2, 130


def run(main: Callable[[], Any]) -> None:
    """Call a Hydra main with the command line, and report what Hydra itself refuses.

    ``HYDRA_FULL_ERROR=1`` brings the traceback back.
    """
    sys.argv = quote_digits(sys.argv)
    os.environ[FULL] = "1"  # or Hydra prints its errors itself, over many lines
    try:
        main()
    except Exception as error:
        line = _line(error)
        if line is None or TRACEBACK:
            raise
        _leave(line, WRONG)


# What libraries say of their own insides, or of what is so on purpose here.
NOISE = (
    "Experiment logs directory .* exists",  # the run's folder, which Hydra has just made
    "You have overridden `on_after_batch_transfer` in `LightningModule`",
    "The '(val|test)_dataloader' does not have many workers",  # a child process costs more
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
)


def entry(main: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Turn an error that the user can mend into one line on stderr and exit status 2.

    ``HYDRA_FULL_ERROR=1`` brings the traceback back.
    """

    @functools.wraps(main)
    def guarded(cfg: Any) -> Any:
        for message in NOISE:
            warnings.filterwarnings("ignore", message)
        if not TRACEBACK:
            os.environ.pop(FULL, None)  # processes that this one starts shall speak plainly, too
        try:
            return main(cfg)
        except KeyboardInterrupt as stop:
            kept = f"; the network so far is in {stop}" if str(stop) else "; nothing was saved"
            _leave(f"stopped{kept}", INTERRUPTED)
        except Exception as error:
            line = _line(error)
            if line is None or TRACEBACK:
                raise
            _leave(line, WRONG)

    return guarded


def path(cfg: DictConfig, key: str) -> Path:
    """A path that the user has to give, ``~`` resolved.

    Raises:
        UserError: it is not set.
    """
    if OmegaConf.is_missing(cfg, key) or cfg[key] is None:
        raise UserError(f"{key} is not set; add {key}=... to the command")
    return Path(str(cfg[key])).expanduser()


def quote_paths(argv: list[str], names: tuple[str, ...]) -> list[str]:
    """Make any path a value that Hydra takes as it is, spaces, ``=``, commas and brackets too.

    A path that is quoted already, or part of a sweep, stays as it was typed.
    """

    def quoted(argument: str) -> str:
        name, found, value = argument.partition("=")
        if not found or name not in names or value[:1] in ("", "'", '"'):
            return argument
        # A backslash means itself, except where it stands before a quote.
        escaped = re.sub(r"(\\*)('|$)", lambda m: 2 * m[1] + (m[2] and "\\'"), value)
        return f"{name}='{escaped}'"

    return argv if {"-m", "--multirun"} & set(argv) else [quoted(a) for a in argv]


def quote_digits(argv: list[str]) -> list[str]:
    """Make ``precision=32`` the name of a choice again; Hydra would read it as a number."""

    def quoted(argument: str) -> str:
        name, found, value = argument.partition("=")
        if not found or name.lstrip("+") != "precision":
            return argument
        return f"{name}=" + re.sub(r"(?<![\w'\"])(\d+)(?![\w'\"])", r"'\1'", value)

    return [quoted(argument) for argument in argv]


def _leave(line: str, status: int) -> NoReturn:
    print(f"error: {line}" if status == WRONG else f"\n{line}", file=sys.stderr, flush=True)
    sys.exit(status)


def _line(error: BaseException) -> str | None:
    """The message for the user, or None if the error is the program's own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return str(cause)
        if isinstance(cause, ConfigCompositionException | OverrideParseException):
            return _hydra(str(cause))
        if isinstance(cause, OSError):
            return f"{cause.filename}: {cause.strerror}" if cause.filename else str(cause)
        cause = cause.__cause__ or cause.__context__
    return None


def _hydra(message: str) -> str:
    """Hydra's message in one line, without its advice to add the misspelt key."""
    wanted = re.match(r"Could not override '(.*?)'", message)
    if wanted:
        return (
            f"{wanted[1]} is neither a group nor a key of the chosen configs; "
            "--cfg job shows all keys, --help all groups"
        )
    return " ".join(message.partition("Config search path")[0].split())
