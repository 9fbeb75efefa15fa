"""SIGINT and SIGTERM as an exception, so that a launch can leave things in order."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.errors import Stopped


@contextmanager
def interruptible() -> Iterator[None]:
    """Within the block, SIGINT and SIGTERM raise Stopped in the main thread, once; a second one does as it did before.

    In any other thread the block changes nothing: Python gives signals to the main thread only.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        for other in before:
            signal.signal(other, before[other])
        raise Stopped(f"{signal.Signals(number).name}: stopped; run the same command again to go on")

    with same_handlers() as before:
        for number in before:
            signal.signal(number, stop)
        yield


@contextmanager
def same_handlers() -> Iterator[dict[signal.Signals, Any]]:
    """Whatever the block does to the handlers of SIGINT and SIGTERM, afterwards they are as they were before it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield before
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)
