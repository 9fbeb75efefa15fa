"""Who may publish into a study's storage: one launch at a time, told apart by a growing epoch.

A launch claims ``launches/<epoch>.json`` (created exclusively) and keeps its heartbeat fresh. Whoever finds the newest
launch alive is refused; a dead one is taken over with the next epoch. Workers of the older launch that still run see
the newer epoch before they publish and stop.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil

from pipeline.errors import Fenced, UserError
from pipeline.storage import Storage

HEARTBEAT_SECONDS = 2.0
# A launch on another machine that has not been heard of for this long is taken to be dead.
SILENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Launch:
    """One launch's right to publish. Cheap to send to workers."""

    storage: Storage
    epoch: int

    def check(self) -> None:
        """Raise Fenced if a newer launch has claimed the storage."""
        if self.storage.exists(_claim(self.epoch + 1)):
            raise Fenced(f"launch {self.epoch} of {self.storage.uri} has been taken over by a newer one")

    def beat(self) -> None:
        """Say that this launch is alive."""
        self.storage.write_json(_beat(self.epoch), {"at": time.time()})

    def stop(self) -> None:
        """Ask the launch's workers to checkpoint and stop."""
        self.storage.write_json(_stop(self.epoch), {"at": time.time()})

    @property
    def stopping(self) -> bool:
        """Whether somebody has asked this launch to stop."""
        return self.storage.exists(_stop(self.epoch))


def ask_to_stop(storage: Storage) -> bool:
    """Ask the launch that holds the storage to checkpoint and end; False if nobody holds it."""
    epoch = _newest(storage)
    if _holder_of(storage, epoch) is None:
        return False
    Launch(storage, epoch).stop()
    return True


def _claim(epoch: int) -> str:
    return f"launches/{epoch:06d}.json"


def _beat(epoch: int) -> str:
    return f"launches/{epoch:06d}.beat"


def _stop(epoch: int) -> str:
    return f"launches/{epoch:06d}.stop"


def _newest(storage: Storage) -> int:
    epochs = [int(name.removesuffix(".json")) for name in storage.list("launches") if name.endswith(".json")]
    return max(epochs, default=0)


def claimed_at(launch: Launch) -> float | None:
    """When a launch that is alive claimed the storage, in seconds since 1970; None if it is not alive."""
    if _holder_of(launch.storage, launch.epoch) is None:
        return None
    return launch.storage.read_json(_claim(launch.epoch))["at"]


def holder(storage: Storage) -> str | None:
    """Who holds the storage now, as ``process 123 on host, heard of 2 s ago``; None if nobody does."""
    return _holder_of(storage, _newest(storage))


def _holder_of(storage: Storage, epoch: int) -> str | None:
    claim = storage.read_json(_claim(epoch)) if epoch else None
    beat = storage.read_json(_beat(epoch)) if claim else None
    if not claim or (beat and beat.get("ended")):
        return None
    silence = time.time() - (beat or claim)["at"]
    if claim["host"] == socket.gethostname():
        alive = psutil.pid_exists(claim["pid"]) and _created(claim["pid"]) == claim["created"]
    else:
        alive = silence < SILENCE_SECONDS
    return f"process {claim['pid']} on {claim['host']}, heard of {silence:.0f} s ago" if alive else None


def _created(pid: int) -> float | None:
    # A process id is used again after a reboot; with the process's start it is unique. A zombie is dead: it only waits
    # for its parent to take notice.
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


@contextmanager
def claim(storage: Storage) -> Iterator[Launch]:
    """Hold the storage: refuse if another launch is alive, else become the newest and beat until the block ends.

    Raises:
        UserError: Another launch holds it.
    """
    # Looked up once: a claim made from here on takes the next epoch, so that the exclusive creation below fails.
    newest = _newest(storage)
    if who := _holder_of(storage, newest):
        raise UserError(f"output {storage.uri} is held by another launch ({who}); wait for it, or give another --out")
    epoch = newest + 1
    pid = os.getpid()
    record = {"host": socket.gethostname(), "pid": pid, "created": _created(pid), "at": time.time()}
    if not storage.create(_claim(epoch), json.dumps(record).encode()):
        raise UserError(f"output {storage.uri} was claimed by another launch just now; give another --out")
    launch = Launch(storage, epoch)
    launch.beat()
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            try:
                launch.beat()
            except OSError:
                continue  # a full disk must not end the launch; the next beat may succeed

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield launch
    finally:
        ended.set()
        thread.join()
        with suppress(OSError):  # on a full disk the claim ends with this process
            storage.write_json(_beat(epoch), {"at": time.time(), "ended": True})
