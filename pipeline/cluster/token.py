"""The token by which a Ray knows its own, in a file that nobody else can read.

A Ray of this machine's own takes the one that is there, or makes it, as Ray would: ``RAY_AUTH_TOKEN``, the file that
``RAY_AUTH_TOKEN_PATH`` names, or ``~/.ray/auth_token``. Ray leaves the last to the umask, which lets others read it;
here it is its owner's alone, also if it was there before, and nothing is said of it. A file that the user names is left
as it is: it may be shared on purpose, or mounted.
"""

import os
import secrets
import stat
from pathlib import Path

from tangentscope.pipeline.system.errors import UserError

_DIRECTORY, _FILE = 0o700, 0o600
_MEND = "set HOME to a directory of yours, or RAY_AUTH_TOKEN"


def check_token() -> None:
    """Raise UserError if the token cannot be read from where it is said to be; shut others out of Ray's own file."""
    if _in_a_file():
        named = os.environ.get("RAY_AUTH_TOKEN_PATH")
        if named is not None:
            _check_readable(Path(named).expanduser())
        else:
            _keep_private(_own_file())


def ensure_token() -> None:
    """As :func:`check_token`; where there is no token, one is made.

    Raises:
        UserError: It cannot be written either.
    """
    check_token()
    file = _own_file()
    if _in_a_file() and "RAY_AUTH_TOKEN_PATH" not in os.environ and not (file.exists() and file.stat().st_size):
        try:
            _write(file, secrets.token_hex(32))
        except OSError as error:
            raise UserError(f"Ray's token {file} cannot be written: {error.strerror}; {_MEND}") from None


def _in_a_file() -> bool:
    return os.environ.get("RAY_AUTH_MODE") == "token" and not os.environ.get("RAY_AUTH_TOKEN")


def _own_file() -> Path:
    return Path.home() / ".ray" / "auth_token"


def _check_readable(file: Path) -> None:
    mend = "give the file that holds the token, or unset it"
    try:
        empty = not file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        cause = getattr(error, "strerror", None) or "no text"
        raise UserError(f"RAY_AUTH_TOKEN_PATH {file}: {cause}; {mend}") from None
    if empty:
        raise UserError(f"RAY_AUTH_TOKEN_PATH {file}: empty; {mend}")


def _keep_private(file: Path) -> None:
    for place, mode in ((file.parent, _DIRECTORY), (file, _FILE)):
        try:
            if stat.S_IMODE(place.stat().st_mode) & ~mode:
                place.chmod(mode)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UserError(f"Ray's token {place}: {error.strerror}; {_MEND}") from None


def _write(file: Path, token: str) -> None:
    """Put the file in place whole, unless another launch was quicker."""
    file.parent.mkdir(mode=_DIRECTORY, parents=True, exist_ok=True)
    new = file.with_name(f"{file.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE), "w") as stream:
            stream.write(token)
        try:
            os.link(new, file)
        except FileExistsError:
            if not file.stat().st_size:  # as a full disk leaves it
                new.replace(file)
        except OSError:  # a file system without hard links
            new.replace(file)
    finally:
        new.unlink(missing_ok=True)
