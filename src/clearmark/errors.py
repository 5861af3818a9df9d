"""The one exception that entry points turn into a single line and a non-zero exit status."""


class UserError(Exception):
    """Something the user can mend; the message names what was wrong, the value and the fix.

    It stays one line, whatever was typed: what a terminal does not print is escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in message))


def first_line(error: Exception) -> str:
    """What an error of somebody else's code says first, or else its name."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
