"""How often one looks at something slow."""

import time


class Throttle:
    """A look at storage that may take a share of the time at most: the longer one takes, the later comes the next."""

    _SHARE = 0.01

    def __init__(self) -> None:
        self._begun = self._due = 0.0

    @property
    def is_due(self) -> bool:
        """Whether it is time to look again."""
        return time.monotonic() >= self._due

    @property
    def seconds_left(self) -> float:
        """Until it is."""
        return max(0.0, self._due - time.monotonic())

    def __enter__(self) -> None:
        self._begun = time.monotonic()

    def __exit__(self, *error: object) -> None:
        ended = time.monotonic()
        self._due = ended + (ended - self._begun) / self._SHARE
