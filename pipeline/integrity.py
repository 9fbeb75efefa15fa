"""What can be wrong with a file of a store, and how it is told."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Fault:
    """A file that is missing, damaged (not what was written) or foreign (of something else than its name says)."""

    file: str
    kind: Literal["missing", "damaged", "foreign"]
    detail: str

    def __str__(self) -> str:
        return f"{self.file}: {self.kind} ({self.detail})"
