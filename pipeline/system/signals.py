"""SIGINT, SIGTERM and SIGHUP as a wish that a launch fulfils where it can, so that it leaves things in order.

The handler only notes the signal. An exception raised from it would strike anywhere, also inside Ray, which swallows
some and takes others for its own end.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tangentscope.pipeline.system.errors import GO_ON, Stopped

NOTED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # of Ctrl-C, a scheduler, a terminal that was closed


@dataclass
class Interrupt:
    """The signal that has come, if one has."""

    number: int | None = None

    def check(self) -> None:
        """Raise Stopped if a signal has come. Called wherever a launch waits."""
        if self.number is not None:
            name = signal.Signals(self.number).name
            raise Stopped(f"{name}: stopped; {GO_ON}")


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Within the block, the first of these signals is noted; a second one does as it did before the block.

    A SIGHUP that is ignored, as under nohup(1), stays so. In any other thread than the main one nothing is noted:
    Python gives signals to the main thread only.
    """
    interrupt = Interrupt()
    with same_handlers() as before:

        def note(number: int, frame: object) -> None:
            interrupt.number = number
            for other, handler in before.items():
                signal.signal(other, handler)

        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                if (number, handler) != (signal.SIGHUP, signal.SIG_IGN):
                    signal.signal(number, note)
        yield interrupt


@contextmanager
def same_handlers() -> Iterator[dict[signal.Signals, Any]]:
    """Whatever the block does to the handlers of these signals, afterwards they are as they were before it."""
    before = {number: signal.getsignal(number) for number in NOTED}
    try:
        yield before
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


_apart = False


@contextmanager
def apart() -> Iterator[None]:
    """What the block starts with a `preexec_fn`, as Ray does, gets a session of its own.

    Signals for the launch's process group, such as those of timeout(1) or of a scheduler, then reach the launch alone,
    which ends the others in order once it needs them no longer.
    """
    global _apart
    before, _apart = _apart, True
    try:
        yield
    finally:
        _apart = before


def _lead_a_session() -> None:
    if _apart:
        os.setsid()


os.register_at_fork(after_in_child=_lead_a_session)
