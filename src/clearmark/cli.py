"""What every entry point does around its work: clear errors, a quiet terminal, usable paths."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, InstantiationException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from clearmark import launchers, mistyped, ranks, sweeps
from clearmark.errors import UserError

# How long a thread of torch on a CPU that has nothing to do stays awake, before torch is imported.
# Longer, as by default, and it keeps the processes that make samples from its core.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

# Hydra copies all that its plugins have stored once for each group it lists, which is most of the
# time of --help. Nobody writes to the store, and what is read from it is copied anyway.
ConfigStore.__deepcopy__ = lambda store, memo: store  # type: ignore[attr-defined]

FULL = "HYDRA_FULL_ERROR"
TRACEBACK = bool(os.environ.get(FULL))
WRONG, INTERRUPTED = 2, 130
# Options that print something, which is all that the command then does.
PRINTS = {"--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i", "--version"}
AGAIN = 75  # a cluster's time is up: put the job in the queue again (EX_TEMPFAIL of sysexits.h)


def run(main: Callable[[], Any]) -> None:
    """Call a Hydra main with the command line, and report what Hydra itself refuses.

    ``HYDRA_FULL_ERROR=1`` brings the traceback back.
    """
    if ranks.rank():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # the first process says it
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # and ends the others
    if PRINTS & set(sys.argv) and hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` has read enough, and that is all
    launchers.register_resolvers()
    OmegaConf.register_new_resolver("groups", mistyped.listing, replace=True)
    sys.argv = quote_digits(sys.argv, mistyped.groups())
    os.environ[FULL] = "1"  # or Hydra prints its errors itself, over many lines
    failed, line, status = None, None, WRONG
    try:
        mistyped.refuse_options(sys.argv[1:])
        main()
    except Exception as error:
        failed, line = error, _line(error)
    except KeyboardInterrupt as stop:  # of a launcher: a job's own has been told
        status = stop.args[0] if stop.args else INTERRUPTED
        line = "stopped; the same command with resume=auto and the sweep's folder goes on"
    finally:
        line = sweeps.report() or line
    if failed is not None and (line is None or TRACEBACK):
        raise failed
    if line is not None:
        _leave(line, status)


# What libraries say of their own insides, or of what is so on purpose here.
NOISE = (
    "Experiment logs directory .* exists",  # the run's folder, which Hydra has just made
    "You have overridden `on_after_batch_transfer` in `LightningModule`",
    "The '(val|test)_dataloader' does not have many workers",  # a child process costs more
    r"It is recommended to use `self.log\('(val|test)/.*sync_dist",  # RemovalMetrics has summed
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
)


def entry(main: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Turn an error that the user can mend into one line on stderr and exit status 2.

    ``HYDRA_FULL_ERROR=1`` brings the traceback back.
    """

    @functools.wraps(main)
    def guarded(cfg: Any) -> Any:
        keep_freed_memory()
        for message in NOISE:
            warnings.filterwarnings("ignore", message)
        if not TRACEBACK:
            os.environ.pop(FULL, None)  # processes that this one starts shall speak plainly, too
        try:
            return sweeps.job(main, cfg, _line) if sweeps.in_one() else main(cfg)
        except KeyboardInterrupt as stop:
            kept = f"; the network so far is in {stop}" if str(stop) else "; nothing was saved"
            _leave(f"stopped{kept}", INTERRUPTED)
        except Exception as error:
            sweeps.discard()
            line = _line(error)
            if line is None or TRACEBACK:
                raise
            _leave(line, WRONG)

    return guarded


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let glibc's malloc keep what is freed, instead of giving it back to the system.

    A training step on a CPU frees and takes hundreds of megabytes in pieces of a few, and each
    piece that comes from the system is cleared page by page: a tenth of the step. Elsewhere than
    on Linux with glibc nothing happens.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)  # the highest it takes
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Look for no garbage while libraries are imported, nor among what they made afterwards.

    It is most of a million objects, nearly all of them there to stay, and to look through them
    again and again is an eighth of the time until training starts.
    """
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():  # once: a second job's garbage would stay for ever
            gc.freeze()
        gc.enable()


def path(cfg: DictConfig, key: str) -> Path:
    """A path that the user has to give, ``~`` resolved.

    Raises:
        UserError: it is not set.
    """
    if OmegaConf.is_missing(cfg, key) or cfg[key] in (None, ""):
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


def name_path(argv: list[str], key: str) -> list[str]:
    """Let a path that stands alone be the value of a key: who gives one file needs no word more.

    Several, as a shell makes of ``*.jpg``, stay as they are, to be refused.
    """
    alone = [n for n, word in enumerate(argv) if n and mistyped.is_path(word)]
    if len(alone) != 1 or any(word.startswith(f"{key}=") for word in argv):
        return argv
    at = alone[0]
    if argv[at - 1].startswith("--"):  # an option's value
        return argv
    return [*argv[:at], f"{key}={argv[at]}", *argv[at + 1 :]]


def quote_digits(argv: list[str], groups: Sequence[str] = ("precision",)) -> list[str]:
    """Make ``precision=32`` the name of a choice again; Hydra would read it as a number."""

    def quoted(argument: str) -> str:
        name, found, value = argument.partition("=")
        if not found or name.lstrip("+") not in groups:
            return argument
        return f"{name}=" + re.sub(r"(?<![\w'\"])(\d+)(?![\w'\"])", r"'\1'", value)

    return [quoted(argument) for argument in argv]


def _leave(line: str, status: int) -> NoReturn:
    print(f"error: {line}" if status == WRONG else f"\n{line}", file=sys.stderr, flush=True)
    sys.exit(status)


def _line(error: BaseException) -> str | None:
    """The message for the user, or None if the error is the program's own."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    for tell in (_own, _library):
        for one in chain:
            if (said := tell(one)) is not None:
                return said
    return None


def _own(error: BaseException) -> str | None:
    return str(error) if isinstance(error, UserError) else None


def _library(error: BaseException) -> str | None:
    message = str(error)
    if isinstance(error, InstantiationException):
        named = (
            re.search(r"(?:target|locating) '(.*?)'", message),
            re.search(r"full_key: (\S+)", message),
        )
        target, key = (match[1] if match else "" for match in named)
        why = str(error.__cause__) if error.__cause__ else message
        return f"{key}: {target} does not take this: {' '.join(why.split())}"
    if isinstance(error, OverrideParseException):
        where = "" if "Error parsing" in message else f"Error parsing override '{error.override}' "
        return mistyped.explain(where + message)
    if isinstance(error, HydraException):
        return mistyped.explain(message)
    if isinstance(error, OmegaConfBaseException):
        key = error.full_key or ""
        return f"{key}: " * bool(key) + message.splitlines()[0]
    if ranks.lost(error):
        return "another process of the run ended; what it said stands above, if it was not killed"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else message
    return None
