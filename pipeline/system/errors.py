"""Errors a user can mend, told in one line: what was got, what was expected, what to do."""

import difflib
import errno
import signal
from collections.abc import Iterable

from tangentscope.pipeline.system.redaction import redacted

# What a storage says that is full or read-only: it will take more once somebody has seen to it.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
GO_ON = "run the same command again to go on"


class _Told(Exception):  # noqa: N818  some are no mistakes
    """What is told in one line. What it quotes (a URI, another library's message) may hold line ends and secrets."""

    def __str__(self) -> str:
        return redacted(" ".join(super().__str__().splitlines()))


class UserError(_Told):
    """Bad input or surroundings that do not serve; the command line prints it without a traceback and exits with 2."""


class Fenced(_Told):
    """A newer launch of the same study holds the output: this process must publish nothing more."""


class Stopped(_Told):
    """Somebody asked this launch or run to stop, or it cannot go on now; what was done is kept and can be resumed.

    Args:
        message: For the user.
        code: The command's exit code.
    """

    def __init__(self, message: str = "stopped", code: int = 128 + signal.SIGINT) -> None:
        super().__init__(message)
        self.code = code


class Lost(Stopped):
    """Ray has died under a launch. What was done is kept, and a launch on another Ray goes on from there."""

    def __init__(self, cause: str) -> None:
        super().__init__(f"error: Ray has died: {cause}; what was done is kept: {GO_ON}", code=1)
        self.cause = cause


def no_room(trouble: str) -> Stopped:
    """What ends a launch whose storage takes nothing."""
    return Stopped(f"error: {trouble}; results so far are kept: make room and run the same command again", code=1)


def is_no_room(error: BaseException) -> bool:
    """Whether storage takes nothing for now, for which no run is to blame."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def nearest(name: str, allowed: Iterable[str]) -> str:
    """A hint for a mistyped name: its nearest neighbour, if any, and all that is allowed."""
    names = sorted(allowed)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f'; did you mean "{close[0]}"?' if close else ""
    return f"allowed: {', '.join(names)}{hint}"


def one_line(error: BaseException, limit: int = 300) -> str:
    """The cause of a failure as one line without secrets, for tables and tags."""
    text = redacted(" ".join(str(error).split())) or type(error).__name__
    text = text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
    return text if len(text) <= limit else text[: limit - 1] + "…"
