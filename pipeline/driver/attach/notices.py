"""What an attached training tells its user: each trouble once, and where things are."""

import logging

_LOG = logging.getLogger("tangentscope.attach")


class Teller:
    """Says things on the screen.

    Args:
        quiet: Whether only what goes wrong is said.
    """

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._warned: dict[str, str] = {}

    def say(self, line: str) -> None:
        """How things go."""
        if not self._quiet:
            print(f"attach: {line}", flush=True)

    def warn(self, line: str, kind: str | None = None) -> None:
        """Something that the user should know; only the first one of a kind, or of these words, is said."""
        if (kind or line) not in self._warned:
            self._warned[kind or line] = line
            _LOG.warning("attach: %s", line)

    @property
    def warned(self) -> tuple[str, ...]:
        """All that has gone wrong so far."""
        return tuple(self._warned.values())
