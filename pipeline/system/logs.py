"""What a training prints, warns and logs, kept beside its results."""

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TextIO

from tangentscope.pipeline.system.redaction import redacted

_MOST_CHARACTERS = 2**20


class Tail(io.TextIOBase):
    """Keeps the last characters written to it."""

    def __init__(self, most: int = _MOST_CHARACTERS) -> None:
        self._most, self._text = most, ""

    def write(self, text: str) -> int:
        """Keep what there is room for."""
        self._text = (self._text + text)[-self._most :]
        return len(text)

    @property
    def text(self) -> str:
        """What is kept, from the start of a line, without secrets."""
        return redacted(self._text if len(self._text) < self._most else self._text.partition("\n")[2])


class Tee(io.TextIOBase):
    """Writes to a stream and to a tail."""

    def __init__(self, stream: TextIO, tail: Tail) -> None:
        self._stream, self._tail = stream, tail

    def write(self, text: str) -> int:
        """To both."""
        self._tail.write(text)
        return self._stream.write(text)

    def flush(self) -> None:
        """The stream."""
        self._stream.flush()


@contextmanager
def kept() -> Iterator[Tail]:
    """Keep what the block prints, warns and logs; it appears where it did before, too."""
    tail = Tail()
    handler = logging.StreamHandler(tail)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        with redirect_stdout(Tee(sys.stdout, tail)), redirect_stderr(Tee(sys.stderr, tail)):
            yield tail
    finally:
        root.removeHandler(handler)
