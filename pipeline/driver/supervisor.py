"""A launch in a process of its own, which is started again where Ray has died.

Ray ends every process that is connected to it when its raylet or its GCS has died, without a word and whatever that
process is at. What waits for that process here is not connected to Ray, holds nothing, and can start another, which
goes on from what is on storage.
"""

import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

from tangentscope.pipeline.system.errors import GO_ON, Lost
from tangentscope.pipeline.system.signals import NOTED

_MOST = 3  # times that a launch is started again
_LOST = "lost "  # what a launch says before the cause if Ray has died, instead of its exit code

restarts = 0
"""How often the launch that this process is at has been started again."""


@dataclass(frozen=True)
class _End:
    """A launch's exit code, and what Ray died of, if it did."""

    code: int
    lost: str | None = None


def carry(launch: Callable[[], None], again: bool) -> int:
    """Do a launch in a process of its own; its exit code.

    Signals are passed on to it, and it ends with this process, however that ends.

    Args:
        launch: Ends by SystemExit.
        again: Whether to start it again where Ray has died: not if somebody else started that Ray.
    """
    global restarts
    while (end := _carried(launch)).lost is not None:
        if not again or restarts == _MOST:
            print(Lost(end.lost), file=sys.stderr)
            return end.code
        restarts += 1
        print(f"Ray has died: {end.lost}; going on with a new one ({restarts} of {_MOST})", file=sys.stderr)
    return end.code


def _carried(launch: Callable[[], None]) -> _End:
    """Launch in a process of its own and wait for its end."""
    words, say = os.pipe()
    life, ours = os.pipe()  # nothing is written to it: it closes when this process is gone
    signal.pthread_sigmask(signal.SIG_BLOCK, NOTED)  # until both processes know what to do about them
    child = os.fork()
    if child == 0:
        os.close(ours)
        _be_carried(launch, say, life)
    os.close(say)
    os.close(life)
    heard = [number for number in NOTED if signal.getsignal(number) != signal.SIG_IGN]  # not SIGHUP below nohup(1)
    before = {number: signal.signal(number, lambda number, _: os.kill(child, number)) for number in heard}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, NOTED)
    status = os.waitpid(child, 0)[1]
    for number, handler in before.items():
        signal.signal(number, handler)
    said = os.read(words, 4096).decode() if select.select([words], [], [], 0)[0] else ""
    os.close(words)
    os.close(ours)
    return _read(said, os.waitstatus_to_exitcode(status))


def _read(said: str, code: int) -> _End:
    """How a launch ended that said this last, and whose process ended with this code; negative for a signal."""
    if said.startswith(_LOST):
        return _End(1, said.removeprefix(_LOST))
    if said:
        return _End(int(said))
    if code == -signal.SIGKILL:  # which is not Ray's way: an operator, or a machine out of memory, wanted it gone
        print(f"error: the launch was killed; what was done is kept: {GO_ON}", file=sys.stderr)
        return _End(128 + signal.SIGKILL)
    return _End(1, "it took the launch's process along")


def _be_carried(launch: Callable[[], None], say: int, life: int) -> None:
    """Launch, say how that ended, and exit."""
    os.setpgid(0, 0)  # a signal for the whole group is passed on: it must not come twice
    threading.Thread(target=_end_with, args=(life,), daemon=True, name="life").start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, NOTED)
    said = "1"
    try:
        launch()
    except SystemExit as end:
        if isinstance(end.code, Lost):
            os.write(say, f"{_LOST}{end.code.cause}".encode()[:4096])
            os._exit(1)  # Ray's own last acts would wait for what has died
        said = str(int(end.code or 0))
        raise
    finally:
        os.write(say, said.encode())


def _end_with(life: int) -> None:
    """Wait until the process that holds the other end is gone, and end."""
    os.read(life, 1)
    os.kill(os.getpid(), signal.SIGKILL)
