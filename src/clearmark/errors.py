"""The one exception that entry points turn into a single line and a non-zero exit status."""


class UserError(Exception):
    """Something the user can mend; the message names what was wrong, the value and the fix."""
