"""What was asked for beyond a study, as it lies on storage: one file a request, which becomes part of the plan."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from tangentscope.pipeline.store import layout, records
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.planned import PlannedProbe


@dataclass(frozen=True)
class FurtherRequest:
    """Measurements of one run by one probe.

    Args:
        probe: With the variables that are wanted.
        run: Id.
        steps: Of snapshots that are kept.
        source: Where the points come from, if not from the run's data.
        asked_at: Seconds since 1970.
        number: In which order requests came; 0 in files of earlier versions, which come first.
    """

    probe: PlannedProbe
    run: str
    steps: tuple[int, ...]
    source: str | None
    asked_at: float
    number: int = 0

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The content of a request's file."""
        probe = PlannedProbe.from_json(record["probe"])
        steps, source = tuple(record["steps"]), record.get("source")
        return cls(probe, record["run"], steps, source, record["asked_at"], record.get("number", 0))

    def to_json(self) -> dict[str, Any]:
        """What a request's file is to hold."""
        return {**self._content, "asked_at": self.asked_at, "number": self.number}

    @property
    def _content(self) -> dict[str, Any]:
        return {"probe": self.probe.to_json(), "run": self.run, "steps": list(self.steps), "source": self.source}

    @property
    def file(self) -> str:
        """Name of its file: a hash of what is asked for, so that the same request is one."""
        digest = hashlib.sha256(json.dumps(self._content, sort_keys=True).encode()).hexdigest()
        return layout.further(f"{digest[:12]}.json")


def requests(storage: Storage) -> list[FurtherRequest]:
    """All that was asked for so far, in the order in which it was."""
    files = map(layout.further, storage.list(layout.FURTHER))
    read = [FurtherRequest.from_json(records.read(storage, file, "asked")) for file in files]
    return sorted(read, key=lambda each: (each.number, each.asked_at, each.probe.id))
