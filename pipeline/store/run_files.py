"""The files of one run, ``runs/<run>/…``: their names are spelled here and nowhere else.

See `tangentscope.pipeline.store.layout` for what each of them is.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from tangentscope.pipeline.store import records
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.layout import Notice, SnapshotName
from tangentscope.pipeline.store.outcome import Outcome

_SNAPSHOT = re.compile(r"^(\d{10})-(\d{4})-([0-9a-f]{16})\.(safetensors|freed)$")
_REPLAY = re.compile(r"^(\d{4,})\.json$")
_CHECKPOINT = re.compile(r"^(\d{10})-(\d{4})\.pt$")
_FOLDERS = ("snapshots", "checkpoints", "attempts", "replays")


@dataclass(frozen=True)
class Attempt:
    """One start of a run's training, as its file has it.

    `together` says whether the run trains in one pass with others of its kind. The first attempt settles it for all.
    `start` counts how often the launch had started the worker group again that trains it.
    """

    run: str
    attempt: int
    launch: int
    started_at: float
    host: str
    pid: int
    resumed_at: int  # step
    checkpoint: str | None  # name of its file
    together: bool = False
    start: int = 0

    @classmethod
    def from_json(cls, run: str, record: Mapping[str, Any]) -> Self:
        """The content of an attempt's file, of which earlier versions and loops of the user's own left out a part."""
        known = {"attempt": 0, "launch": 0, "started_at": 0.0, "host": "", "pid": 0, "resumed_at": 0}
        names = {each.name for each in fields(cls)}
        told = {name: value for name, value in record.items() if name in names}
        return cls(**{**known, "checkpoint": None, **told, "run": run})

    def to_json(self) -> dict[str, Any]:
        """What an attempt's file is to hold."""
        return asdict(self)


def folder(run: str) -> str:
    """Name of the folder of all a run's files, for messages."""
    return f"runs/{run}"


def outcome(run: str) -> str:
    """Name of the file that says how a run's training ended."""
    return f"{folder(run)}/outcome.json"


def stop(run: str) -> str:
    """Name of the file by which a run is asked to stop."""
    return f"{folder(run)}/stop"


def snapshot(run: str, name: SnapshotName) -> str:
    """Name of a snapshot's file."""
    return f"{folder(run)}/snapshots/{name.file}"


def checkpoint(run: str, step: int, attempt: int) -> str:
    """Name of a checkpoint's file."""
    return f"{folder(run)}/checkpoints/{step:010d}-{attempt:04d}.pt"


def attempt(run: str, number: int, kind: str = "json") -> str:
    """Name of an attempt's file of this kind: ``json``, ``log`` (what it said) or ``rank-<rank>`` (its cause)."""
    return f"{folder(run)}/attempts/{number:04d}.{kind}"


def replay(run: str, number: int) -> str:
    """Name of the file that says where an attempt left its predecessors' trajectory."""
    return f"{folder(run)}/replays/{number:04d}.json"


def has_begun(storage: Storage, run: str) -> bool:
    """Whether anybody has begun to train a run."""
    return bool(storage.list(f"{folder(run)}/attempts"))


def attempts(storage: Storage, run: str) -> list[Attempt]:
    """The attempts at a run, in their order."""
    names = [name for name in storage.list(f"{folder(run)}/attempts") if name.endswith(".json")]
    read = (records.read(storage, f"{folder(run)}/attempts/{name}", "attempt", {}) for name in names)
    return [Attempt.from_json(run, record) for record in read]


def first_attempt(storage: Storage, run: str) -> Attempt | None:
    """The first attempt at a run; None if there is none."""
    record = records.read(storage, attempt(run, 1), "attempt")
    return Attempt.from_json(run, record) if record else None


def causes(storage: Storage, run: str) -> list[dict[str, Any]]:
    """What ranks of the attempts at a run died of, as `attempt` files of their kind have it."""
    names = [name for name in storage.list(f"{folder(run)}/attempts") if ".rank-" in name]
    return [records.read(storage, f"{folder(run)}/attempts/{name}", "rank") for name in names]


def read_outcome(storage: Storage, run: str) -> Outcome | None:
    """How a run's training ended; None if it has not."""
    record = records.read(storage, outcome(run), "outcome")
    return None if record is None else Outcome.from_json(record)


def replays(storage: Storage, run: str) -> dict[int, int]:
    """Per attempt that left its predecessors' trajectory: the last step at which it still agreed with them."""
    after: dict[int, int] = {}
    for name in storage.list(f"{folder(run)}/replays"):
        if match := _REPLAY.match(name):
            record = records.read(storage, f"{folder(run)}/replays/{name}", "replay", {})
            after[int(match[1])] = record["after_step"]
    return after


def leave_trajectory(storage: Storage, run: str, number: int, after_step: int) -> None:
    """Say that what attempts before this one wrote for later steps no longer counts; -1 for all steps."""
    storage.write_json(replay(run, number), {"after_step": after_step})


def superseded(number: int, step: int, replayed: Mapping[int, int]) -> bool:
    """Whether a later attempt's diverging replay has taken the place of what attempt `number` wrote for `step`."""
    return any(number < later and step > after for later, after in replayed.items())


def current_snapshots(storage: Storage, run: str) -> list[SnapshotName]:
    """The snapshots of the run's present trajectory, one a step, in order of step."""
    replayed = replays(storage, run)
    current: dict[int, SnapshotName] = {}
    for file in storage.list(f"{folder(run)}/snapshots"):
        if match := _SNAPSHOT.match(file):
            step, number, checksum, kind = match.groups()
            name = SnapshotName(int(step), int(number), checksum, freed=kind == "freed")
            before = current.get(name.step)
            if replayed and superseded(name.attempt, name.step, replayed):
                continue
            # Both a file and its tombstone: the freeing was cut short, the bytes are still good.
            if before is None or (before.freed and not name.freed) or before.attempt < name.attempt:
                current[name.step] = name
    return [current[step] for step in sorted(current)]


def replaced_snapshots(storage: Storage, run: str, present: Iterable[SnapshotName]) -> list[str]:
    """Names of the files of snapshots whose trajectory a later attempt has left, given the `current_snapshots`."""
    current = {name.file for name in present}
    names = [name for name in storage.list(f"{folder(run)}/snapshots") if name.endswith(".safetensors")]
    return [f"{folder(run)}/snapshots/{name}" for name in names if name not in current]


def bury(storage: Storage, notice: Notice) -> None:
    """Give a snapshot's bytes back; an empty file keeps its checksum, by which a replay can still be told."""
    storage.write(snapshot(notice.run, replace(notice.name, freed=True)), b"")
    storage.remove(snapshot(notice.run, notice.name))


def checkpoints(storage: Storage, run: str) -> list[str]:
    """Names of the files from which a run's training can go on."""
    return [f"{folder(run)}/checkpoints/{name}" for name in storage.list(f"{folder(run)}/checkpoints")]


def newest_checkpoint(storage: Storage, run: str) -> tuple[int, str] | None:
    """Step and name of the checkpoint to resume from: the latest attempt's latest step. None if there is none."""
    found = [
        (int(match[2]), int(match[1]), file)
        for file in checkpoints(storage, run)
        if (match := _CHECKPOINT.match(file.rpartition("/")[2]))
    ]
    return max(found)[1:] if found else None


def discard(storage: Storage, run: str) -> None:
    """Remove all files of a run."""
    for name in _FOLDERS:
        for file in storage.list(f"{folder(run)}/{name}"):
            storage.remove(f"{folder(run)}/{name}/{file}")
    storage.remove(outcome(run))
