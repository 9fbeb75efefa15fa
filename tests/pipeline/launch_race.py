"""Launches that claim one object store at once, one file operation at a time, in any order that a test gives."""

import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.launch import Launch, claim
from tangentscope.pipeline.system.errors import UserError

_thread = threading.local()


@dataclass(frozen=True)
class Gated(Storage):
    """Before each of its operations the claimant whose thread it is waits for its turn."""

    def list(self, directory: str) -> list[str]:
        _wait()
        return super().list(directory)

    def read(self, name: str) -> bytes:
        _wait()
        return super().read(name)

    def write(self, name: str, data: bytes) -> None:
        _wait()
        if (claimant := _claimant()) and claimant.silent:
            if name.endswith(".beat"):
                return
            data = json.dumps(json.loads(data) | {"host": "elsewhere", "at": 0.0}).encode()
        super().write(name, data)

    def remove(self, name: str) -> None:
        _wait()
        super().remove(name)


class Claimant(threading.Thread):
    """A launch that holds what it has claimed until it is released. A `silent` one looks dead to all others."""

    def __init__(self, storage: Storage, silent: bool = False) -> None:
        super().__init__(daemon=True)
        self.storage, self.silent = Gated(storage.uri), silent
        self.launch: Launch | None = None
        self.refused: str | None = None
        self._turn, self._waits = threading.Semaphore(0), threading.Semaphore(0)
        self._released = threading.Event()
        self.start()
        self._waits.acquire()

    def run(self) -> None:
        _thread.claimant = self
        try:
            with claim(self.storage) as launch:
                self.launch = launch
                self._waits.release()
                self._released.wait()
                _thread.claimant = None
        except UserError as error:
            self.refused = str(error)
            self._waits.release()

    def wait(self) -> None:
        self._waits.release()
        self._turn.acquire()

    @property
    def decided(self) -> bool:
        return self.launch is not None or self.refused is not None

    def step(self) -> None:
        """Let it do one operation; nothing if it has decided."""
        if not self.decided:
            self._turn.release()
            self._waits.acquire()

    def release(self) -> None:
        self._released.set()
        self.join()


def race(claimants: list[Claimant], order: Iterable[int]) -> list[Launch]:
    """Give turns in this order, and then all the turns it takes; those that hold, by epoch."""
    for k in order:
        claimants[k].step()
    for claimant in claimants:
        while not claimant.decided:
            claimant.step()
    return sorted((each.launch for each in claimants if each.launch), key=lambda launch: launch.epoch)


def _claimant() -> Claimant | None:
    return getattr(_thread, "claimant", None)


def _wait() -> None:
    if claimant := _claimant():
        claimant.wait()
