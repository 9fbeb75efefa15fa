"""Names and passwords are taken out of whatever is printed, logged or recorded.

They stand in URIs (``http://name:password@host``, ``s3://bucket/x?secret_key=…``), in headers, and in the environment;
other libraries' errors quote all three.
"""

import os
import re
from urllib.parse import parse_qsl, quote, unquote

HIDDEN = "***"

# What options of URIs and variables of the environment are called that hold a secret.
_WORDS = "password|passwd|passphrase|secret|token|credentials?|signature|(?:access|api|account|private)[_-]?key"
_NAME = re.compile(
    rf"(?:[a-z0-9_-]*(?:{_WORDS})|(?:[a-z0-9_-]*[_-])?(?:pass|pwd|sig))(?:[_-]?(?:id|key))?", re.IGNORECASE
)
_OPTION = re.compile(rf"(?<=[?&;])({_NAME.pattern})=[^&;\s'\"]+", re.IGNORECASE)
# One slash is what is left of two where a URI was taken for a path.
_USERINFO = re.compile(r"(?<![a-z0-9+.-])([a-z][a-z0-9+.-]*:/{1,2})[^\s/?#'\"@]+(?:@[^\s/?#'\"@]+)*@", re.IGNORECASE)
_HEADER = re.compile(r"\b(Bearer|Basic) +[\w.~+/-]{8,}=*")
_LEAST = 6  # letters: shorter values of the environment would blot out words


def redacted(text: str) -> str:
    """The text without userinfo and secret options of URIs, authorization headers, and secrets of the environment."""
    for secret in sorted(_of_environment(), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = _USERINFO.sub(rf"\1{HIDDEN}@", text)
    text = _OPTION.sub(rf"\1={HIDDEN}", text)
    return _HEADER.sub(rf"\1 {HIDDEN}", text)


def secret_options(uri: str) -> list[str]:
    """Names of a URI's options that hold a secret, sorted."""
    options = parse_qsl(uri.partition("?")[2], keep_blank_values=True)
    return sorted({name for name, _ in options if _NAME.fullmatch(name)})


def without_userinfo(uri: str) -> tuple[str, str | None, str | None]:
    """A URI without the name and password before its host, and those two; None for one that is not there."""
    scheme, marked, rest = uri.partition("://")
    userinfo, at, _ = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")
    if not (marked and at):
        return uri, None, None
    name, colon, password = userinfo.partition(":")
    return f"{scheme}://{rest[len(userinfo) + 1 :]}", unquote(name), unquote(password) if colon else None


def _of_environment() -> set[str]:
    """Secrets that this process was given, also as they stand in a URI."""
    found = {value for name, value in os.environ.items() if _NAME.fullmatch(name)}
    found |= {password for uri in _uris() if (password := without_userinfo(uri)[2])}
    found |= {quote(value, safe="") for value in found}
    return {value for value in found if len(value) >= _LEAST and not _is_place(value)}


def _uris() -> list[str]:
    return [value for value in os.environ.values() if "@" in value and "://" in value]


def _is_place(value: str) -> bool:
    return "/" in value and os.path.exists(value)  # noqa: PTH110  of a token's file, say; it is no secret
