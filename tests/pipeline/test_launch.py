import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from tangentscope.pipeline.store import launch
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.launch import SILENCE_SECONDS, Launch, claim, holder
from tangentscope.pipeline.system.errors import Fenced, UserError

HOLD = """
import sys
from tangentscope.pipeline.store.launch import claim
from tangentscope.pipeline.store.files import Storage
with claim(Storage.at(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.at(tmp_path)


@contextmanager
def other_process(storage: Storage, *within: str) -> Iterator[subprocess.Popen]:
    """Another process that holds the storage until a line comes on its stdin."""
    command = [*within, sys.executable, "-c", HOLD, storage.uri]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody watches a heartbeat that looks old, but where a test says so."""
    monkeypatch.setattr(launch, "WATCH_SECONDS", 0.0)
    monkeypatch.setattr(launch, "GLANCE_SECONDS", 0.0)


def written(storage: Storage, epoch: int = 1, **changes: Any) -> None:
    """A claim as a launch elsewhere or in the past has left it."""
    record = {"host": "elsewhere", "pid": 1, "created": 1.0, "at": time.time()} | changes
    storage.create(f"launches/{epoch:06d}.json", json.dumps(record).encode())


def test_nobody_holds_a_new_storage_and_each_launch_has_its_epoch(storage: Storage):
    assert holder(storage) is None
    for epoch in (1, 2, 3):
        with claim(storage) as mine:
            assert mine == Launch(storage, epoch)
            mine.check()
            assert f"process {os.getpid()} on {socket.gethostname()}" in str(holder(storage))
        assert holder(storage) is None


def test_a_second_launch_in_the_same_process_is_refused(storage: Storage):
    with claim(storage), pytest.raises(UserError, match="held by another launch"), claim(storage):
        pass
    assert storage.list("launches") == ["000001.beat", "000001.json"]


def test_a_launch_that_fails_lets_go(storage: Storage):
    with pytest.raises(ZeroDivisionError), claim(storage):
        raise ZeroDivisionError
    assert holder(storage) is None


def test_a_live_process_excludes_others_and_a_killed_one_is_taken_over_at_once(storage: Storage):
    with other_process(storage) as process:
        old = Launch(storage, 1)
        old.check()
        with pytest.raises(UserError, match=f"held by another launch .process {process.pid} on "), claim(storage):
            pass
        process.kill()
        # Until its parent waits for it, a killed process is a zombie: dead, but still with a process id.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
        with claim(storage) as mine:
            assert mine.epoch == 2
            mine.check()
            with pytest.raises(Fenced, match=r"launch 1 of .* taken over"):
                old.check()


def test_a_launch_that_ends_in_peace_lets_go_while_its_process_lives_on(storage: Storage):
    with other_process(storage) as process:
        assert holder(storage) is not None
        process.communicate("go\n", timeout=60)
        assert process.returncode == 0
    with claim(storage) as mine:
        assert mine.epoch == 2


def test_a_process_id_used_again_is_another_process(storage: Storage):
    own = launch._started(os.getpid())
    assert own is not None
    written(storage, **launch._here(), pid=os.getpid(), started=own)
    assert holder(storage) is not None
    written(storage, 2, **launch._here(), pid=os.getpid(), started=own - 1000)
    assert holder(storage) is None


@pytest.mark.parametrize("key", ["host", "boot", "namespace"])
def test_a_process_of_elsewhere_is_not_looked_for_here(key: str, storage: Storage):
    """The process that has the claim's id here is another one; its own may beat on."""
    there = launch._here() | {key: "another"}
    written(storage, **there, pid=os.getpid(), started=-1.0)
    assert holder(storage) is not None, "its heartbeat is fresh"
    with pytest.raises(UserError, match="held by another launch"), claim(storage):
        pass
    written(storage, 2, **there, pid=os.getpid(), started=launch._started(os.getpid()), at=0.0)
    assert holder(storage) is None, "its heartbeat is not"


@pytest.mark.parametrize("days", [400, -400])
def test_clocks_that_differ_by_days_change_nothing(days: int, storage: Storage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(launch, "WATCH_SECONDS", 60.0)
    with other_process(storage):
        clock = SimpleNamespace(time=lambda: time.time() + 86400 * days, monotonic=time.monotonic, sleep=time.sleep)
        monkeypatch.setattr(launch, "time", clock)
        monkeypatch.setattr(launch, "_here", lambda: {"host": "elsewhere"})
        with pytest.raises(UserError, match="held by another launch"), claim(storage):
            pass
    monkeypatch.setattr(launch, "WATCH_SECONDS", 0.2)
    assert holder(storage) is None
    with claim(storage) as mine:
        assert mine.epoch == 2


def unshared() -> list[str]:
    """A command line that starts what follows in a namespace of process ids of its own; empty where one may not."""
    command = ["unshare", "-pf", "--mount-proc", "--kill-child"]
    try:
        done = subprocess.run([*command, "true"], capture_output=True, timeout=60)
    except FileNotFoundError:
        return []
    return command if done.returncode == 0 else []


def test_two_containers_of_one_host_name(storage: Storage, monkeypatch: pytest.MonkeyPatch):
    if not (command := unshared()):
        pytest.skip("no namespaces of process ids may be made here")
    with other_process(storage, *command):
        claimed = storage.read_json("launches/000001.json")
        assert (claimed["host"], claimed["pid"]) == (socket.gethostname(), 1)
        assert holder(storage) is not None
        with pytest.raises(UserError, match=r"held by another launch .process 1 on "), claim(storage):
            pass
        Launch(storage, 1).check()
    monkeypatch.setattr(launch, "SILENCE_SECONDS", 0.0)  # it has been killed
    with claim(storage) as mine:
        assert mine.epoch == 2


@pytest.mark.parametrize(("ago", "alive"), [(0.0, True), (SILENCE_SECONDS - 5, True), (SILENCE_SECONDS + 5, False)])
@pytest.mark.parametrize("beaten", [True, False])
def test_on_another_machine_silence_decides(ago: float, alive: bool, beaten: bool, storage: Storage):
    now = time.time()
    written(storage, at=now - (100_000 if beaten else ago))
    if beaten:
        storage.write_json("launches/000001.beat", {"at": now - ago})
    assert (holder(storage) is not None) == alive
    if alive:
        with pytest.raises(UserError, match="process 1 on elsewhere, heard of"), claim(storage):
            pass
    else:
        with claim(storage) as mine:
            assert mine.epoch == 2


def test_a_launch_elsewhere_that_said_it_ended_has(storage: Storage):
    written(storage)
    storage.write_json("launches/000001.beat", {"at": time.time(), "ended": True})
    assert holder(storage) is None


def test_the_heart_beats_while_a_launch_lasts(storage: Storage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(launch, "HEARTBEAT_SECONDS", 0.001)
    beats, failures, seen = 0, 0, threading.Event()
    real = Launch.beat

    def beat(mine: Launch) -> None:
        nonlocal beats, failures
        beats += 1
        if beats == 3:
            failures += 1
            raise OSError(28, "No space left on device")
        if beats == 5:
            seen.set()
        real(mine)

    monkeypatch.setattr(Launch, "beat", beat)
    with claim(storage):
        assert seen.wait(20), "the heart goes on after a beat that could not be written"
        assert failures == 1
    assert storage.read_json("launches/000001.beat")["ended"]


def test_a_launch_can_be_asked_to_stop(storage: Storage):
    with claim(storage) as first:
        assert not first.stopping
        Launch(storage, 1).stop()
        assert first.stopping
    with claim(storage) as second:
        assert not second.stopping


@dataclass(frozen=True)
class Raced(Storage):
    """A storage that another launch claims right after somebody has looked who holds it."""

    def read_json(self, name: str, default: Any = None) -> Any:
        found = super().read_json(name, default)
        if name == "launches/000001.json":
            written(Storage(self.uri), 2)
        return found


def test_of_two_launches_that_find_the_same_dead_one_only_one_takes_over(storage: Storage):
    written(storage, at=0.0)
    with pytest.raises(UserError, match="claimed by another launch just now"), claim(Raced(storage.uri)):
        pass
    assert holder(storage) is not None
    assert not storage.exists("launches/000003.json")
