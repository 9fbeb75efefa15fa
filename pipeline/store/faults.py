"""What can be wrong with a file of a store, and how it is told."""

from dataclasses import dataclass
from typing import Literal

from tangentscope.pipeline.store.files import Storage


@dataclass(frozen=True)
class Fault:
    """A file that is missing, damaged (not what was written) or foreign (of something else than its name says)."""

    file: str
    kind: Literal["missing", "damaged", "foreign"]
    detail: str

    def __str__(self) -> str:
        return f"{self.file}: {self.kind} ({self.detail})"


def set_aside(storage: Storage, fault: Fault) -> None:
    """Give a file that is not what it says to be another name, under which nobody looks for it."""
    storage.move(fault.file, f"{fault.file}.{fault.kind}")
