"""What every entry point does around its work: one clear line for an error, and no traceback."""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable
from typing import Any

from clearmark.errors import UserError


def entry(main: Callable[[Any], None]) -> Callable[[Any], None]:
    """Turn an error that the user can mend into one line on stderr and exit status 2.

    ``HYDRA_FULL_ERROR=1`` brings the traceback back.
    """

    @functools.wraps(main)
    def guarded(cfg: Any) -> None:
        try:
            main(cfg)
        except Exception as error:
            line = _line(error)
            if line is None or os.environ.get("HYDRA_FULL_ERROR"):
                raise
            sys.exit(f"error: {line}")

    return guarded


def quote_digits(argv: list[str]) -> list[str]:
    """Make ``precision=32`` the name of a choice again; Hydra would read it as a number."""

    def quoted(argument: str) -> str:
        name, found, value = argument.partition("=")
        if not found or name.lstrip("+") != "precision":
            return argument
        return f"{name}=" + re.sub(r"(?<![\w'\"])(16|32|64)(?![\w'\"])", r"'\1'", value)

    return [quoted(argument) for argument in argv]


def _line(error: BaseException) -> str | None:
    """The message for the user, or None if the error is the program's own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return str(cause)
        if isinstance(cause, OSError):
            return f"{cause.filename}: {cause.strerror}" if cause.filename else str(cause)
        cause = cause.__cause__ or cause.__context__
    return None
