"""Who may publish into a study's storage: one launch at a time, told apart by a growing epoch.

A launch claims ``launches/<epoch>.json`` (created exclusively) and keeps its heartbeat fresh. Whoever finds the newest
launch alive is refused; a dead one is taken over with the next epoch. Workers of the older launch that still run see
the newer epoch before they publish and stop. On an object store, where nothing is created exclusively, a claim is
``launches/<epoch>-<token>.json``, which `_stands` decides on.
"""

import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple

import psutil

from pipeline import records
from pipeline.errors import Fenced, UserError
from pipeline.storage import Storage

HEARTBEAT_SECONDS = 2.0
# A launch on another machine that has not been heard of for this long is taken to be dead.
SILENCE_SECONDS = 30.0

_CLAIM = re.compile(r"(\d+)(?:-([0-9a-f]+))?\.json")


@dataclass(frozen=True)
class Launch:
    """One launch's right to publish. Cheap to send to workers."""

    storage: Storage
    epoch: int
    token: str = ""  # on an object store: tells claims of the same epoch apart

    def check(self) -> None:
        """Raise Fenced if a newer launch has claimed the storage."""
        if any(other.epoch > self.epoch for other in _claims(self.storage)):
            raise Fenced(f"launch {self.epoch} of {self.storage.uri} has been taken over by a newer one")

    def beat(self) -> None:
        """Say that this launch is alive."""
        self.storage.write_json(self.file("beat"), {"at": time.time()})

    def stop(self) -> None:
        """Ask the launch's workers to checkpoint and stop."""
        self.storage.write_json(self.file("stop"), {"at": time.time()})

    @property
    def stopping(self) -> bool:
        """Whether somebody has asked this launch to stop."""
        return self.storage.exists(self.file("stop"))

    def file(self, kind: str) -> str:
        """Name of the launch's own file of this kind: ``json`` (its claim), ``beat`` or ``stop``."""
        return f"launches/{self.epoch:06d}{'-' if self.token else ''}{self.token}.{kind}"


class _Holding(NamedTuple):
    """A launch that is alive, since when, and what to call it."""

    launch: Launch
    since: float
    who: str


def ask_to_stop(storage: Storage) -> bool:
    """Ask the launch that holds the storage to checkpoint and end; False if nobody holds it."""
    holding = list(_holding(_claims(storage)))
    for each in holding:
        each.launch.stop()
    return bool(holding)


def claimed_at(storage: Storage, epoch: int) -> float | None:
    """When the launch of this epoch claimed the storage, in seconds since 1970; None if it does not hold it now."""
    return next((each.since for each in _holding(_claims(storage)) if each.launch.epoch == epoch), None)


def holder(storage: Storage) -> str | None:
    """Who holds the storage now, as ``process 123 on host, heard of 2 s ago``; None if nobody does."""
    return next((each.who for each in _holding(_claims(storage))), None)


def _claims(storage: Storage) -> list[Launch]:
    found = (_CLAIM.fullmatch(name) for name in storage.list("launches"))
    return [Launch(storage, int(match[1]), match[2] or "") for match in found if match]


def _newest(claims: list[Launch]) -> int:
    return max((launch.epoch for launch in claims), default=0)


def _holding(claims: list[Launch]) -> Iterator[_Holding]:
    """The newest launch, if it is alive; several where claims of its epoch are still to be withdrawn."""
    newest = _newest(claims)
    for launch in (each for each in claims if each.epoch == newest):
        claim = records.read(launch.storage, launch.file("json"), "claim")  # None if it was withdrawn just now
        beat = records.read(launch.storage, launch.file("beat"), "beat")
        if not claim or (beat and beat.get("ended")):
            continue
        silence = time.time() - (beat or claim)["at"]
        if claim["host"] == socket.gethostname():
            alive = psutil.pid_exists(claim["pid"]) and _created(claim["pid"]) == claim["created"]
        else:
            alive = silence < SILENCE_SECONDS
        if alive:
            who = f"process {claim['pid']} on {claim['host']}, heard of {silence:.0f} s ago"
            yield _Holding(launch, claim["at"], who)


def _created(pid: int) -> float | None:
    # A process id is used again after a reboot; with the process's start it is unique. A zombie is dead: it only waits
    # for its parent to take notice.
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


def _stands(launch: Launch, known: list[Launch]) -> bool:
    """Make a claim; False if somebody else has made one since the `known` ones were listed.

    On an object store a claim is withdrawn if a listing made after it shows another that is not known. Of two launches
    that do not know of each other the one to write last finds the other's claim, unless that has been withdrawn, so at
    most one goes on; both may withdraw, which is safe.
    """
    storage, pid = launch.storage, os.getpid()
    record = {"host": socket.gethostname(), "pid": pid, "created": _created(pid), "at": time.time()}
    if storage.local is not None:
        return storage.create(launch.file("json"), json.dumps(record).encode())
    storage.write_json(launch.file("json"), record)
    alone = set(_claims(storage)) <= {launch, *known}
    if not alone:
        storage.remove(launch.file("json"))
    return alone


@contextmanager
def claim(storage: Storage) -> Iterator[Launch]:
    """Hold the storage: refuse if another launch is alive, else become the newest and beat until the block ends.

    Raises:
        UserError: Another launch holds it.
    """
    known = _claims(storage)
    for other in _holding(known):
        problem = f"is held by another launch ({other.who}); wait for it, or give another --out"
        raise UserError(f"output {storage.uri} {problem}")
    launch = Launch(storage, _newest(known) + 1, "" if storage.local else secrets.token_hex(8))
    if not _stands(launch, known):
        raise UserError(f"output {storage.uri} was claimed by another launch just now; give another --out")
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
            storage.write_json(launch.file("beat"), {"at": time.time(), "ended": True})
