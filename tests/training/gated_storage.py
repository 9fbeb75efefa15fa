"""A storage that holds writes back, lets them fail, and remembers their order."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from tangentscope.pipeline.store.files import Storage


@dataclass(frozen=True)
class GatedStorage(Storage):
    """`closed` keeps every write that `holds` names waiting; `fails` gives the error a write of a name shall meet."""

    gate: threading.Event = field(default_factory=threading.Event)
    held: threading.Event = field(default_factory=threading.Event)  # set once a write waits at the gate
    written: list[str] = field(default_factory=list)
    holds: list[str] = field(default_factory=list)  # beginnings of names
    fails: dict[str, Callable[[], BaseException]] = field(default_factory=dict)

    def write(self, name: str, data: bytes) -> None:
        if any(part in name for part in self.holds):
            self.held.set()
            assert self.gate.wait(60), "nobody opened the gate"
        for part, error in self.fails.items():
            if part in name:
                raise error()
        super().write(name, data)
        self.written.append(name)
