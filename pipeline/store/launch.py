"""Who may publish into a study's storage: one launch at a time, told apart by a growing epoch.

A launch claims ``launches/<epoch>.json`` (created exclusively) and keeps its heartbeat fresh. Whoever finds the newest
launch alive is refused; a dead one is taken over with the next epoch. Workers of the older launch that still run see
the newer epoch before they publish and stop. On an object store, where nothing is created exclusively, a claim is
``launches/<epoch>-<token>.json``, which `_stands` decides on.

Where the process that made a claim can be looked for (same boot, same namespace of process ids), it decides. Elsewhere
the heartbeat does: in another container a process id means another process, and two machines' clocks are not compared.
A launch is dead if its heartbeat stays as it is for long enough by the clock of the machine that watches it.
"""

import json
import logging
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tangentscope.pipeline.store import records
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.system.errors import Fenced, UserError

HEARTBEAT_SECONDS = 2.0
# A heartbeat that looks older than this is watched: if it does not change for so long, the launch is taken over.
SILENCE_SECONDS = WATCH_SECONDS = 30.0
# Whoever only wants to know watches for some beats.
GLANCE_SECONDS = 2.5 * HEARTBEAT_SECONDS

_LOG = logging.getLogger(__name__)
_heard: dict[str, tuple[Any, float]] = {}  # by heartbeat: what it last was, and since when by this process's clock
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


def _holding(claims: list[Launch], patience: float | None = None) -> Iterator[_Holding]:
    """The newest launch, if it is alive; several where claims of its epoch are still to be withdrawn.

    patience: Seconds for which to watch a heartbeat that looks old; `GLANCE_SECONDS` by default.
    """
    newest, seconds = _newest(claims), GLANCE_SECONDS if patience is None else patience
    for launch in (each for each in claims if each.epoch == newest):
        claim = records.read(launch.storage, launch.file("json"), "claim")  # None if it was withdrawn just now
        beat = records.read(launch.storage, launch.file("beat"), "beat")
        if not claim or (beat and beat.get("ended")):
            continue
        silence = time.time() - (beat or claim)["at"]
        who = f"process {claim['pid']} on {claim['host']}, heard of {max(silence, 0.0):.0f} s ago"
        if _here() == {key: claim.get(key) for key in _here()}:
            alive = _started(claim["pid"]) == claim.get("started")
        else:
            # Right clocks spare the wait; wrong ones, which may show anything, only cost it.
            alive = abs(silence) < SILENCE_SECONDS or _beats(launch, who, seconds)
        if alive:
            yield _Holding(launch, claim["at"], who)


def _beats(launch: Launch, who: str, seconds: float) -> bool:
    """Whether a launch's heartbeat changes while it is watched, or has since this process last looked."""
    place = launch.storage.path(launch.file("beat"))
    if seconds > GLANCE_SECONDS and place not in _heard:
        _LOG.warning("%s has not said that it ended: watching its heartbeat for %.0f s", who, seconds)
    while seconds > 0:
        beat, now = launch.storage.read_json(launch.file("beat")), time.monotonic()
        last, since = _heard.setdefault(place, (beat, now))
        if beat != last:
            _heard[place] = beat, now
            return not beat.get("ended")
        if now - since >= seconds:
            break
        time.sleep(min(HEARTBEAT_SECONDS / 2, seconds))
    return False


def _here() -> dict[str, str]:
    """Where process ids mean the same processes: host, boot and namespace."""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    try:
        return {"host": socket.gethostname(), "boot": boot.read_text().strip(), "namespace": str(namespace.readlink())}
    except OSError:  # not Linux: one system is one namespace
        return {"host": socket.gethostname(), "boot": str(psutil.boot_time()), "namespace": ""}


def _started(pid: int) -> float | None:
    """When a process started, since the boot; None if it is not there.

    Ids are used again; with its start a process is unique. A zombie is dead: it only waits for its parent to notice.
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else float(fields[18])  # the 22nd field in all; it follows no changed clock
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return None
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
    record = {**_here(), "pid": pid, "started": _started(pid), "at": time.time()}
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
    for other in _holding(known, WATCH_SECONDS):
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
