"""Where a study's files lie below its storage, and what the names of snapshots say.

::

    store.json                                   the id by which files of another store are told
    study.yaml  plan.json  provenance.json      what was asked for, what it resolved to, with which code and data
    launches/<epoch>.json                        who may publish, on an object store <epoch>-<token> (store.launch)
    launches/<epoch>.dealt                       which worker group has which runs (see training.queue)
    further/<digest>.json                        what was asked for beyond the study (see driver.probe)
    points/<probe>.safetensors                   the data points of one probe, drawn once
    runs/<run>/attempts/<attempt>.json           each start of a training
    runs/<run>/attempts/<attempt>.log            what it printed and logged, its last megabyte
    runs/<run>/snapshots/<step>-<attempt>-<checksum>.safetensors
    runs/<run>/checkpoints/<step>-<attempt>.pt   what training resumes from
    runs/<run>/replays/<attempt>.json            the step after which an attempt left its predecessors' trajectory
    runs/<run>/outcome.json                      how training ended; absent while it has not
    runs/<run>/stop                              somebody wants this run to stop
    tables/<table>/<writer>-<digest>.parquet     immutable parts (see store.tables)
    manifests/<table>/<writer>.manifest          which parts and rows a writer has published (see store.manifest)
    measurements.parquet …                       the finished tables, each whole
    report.html figures/*.png *.pdf
"""

import re
import secrets
from dataclasses import dataclass, replace

from tangentscope.pipeline.store import records
from tangentscope.pipeline.store.files import Storage

STUDY, PLAN, PROVENANCE, REPORT = "study.yaml", "plan.json", "provenance.json", "report.html"
IDENTITY = "store.json"
FURTHER = "further"

SCHEMA = 1
"""Of all this and of the tables' columns. A change that older code would misread raises it."""

_SNAPSHOT = re.compile(r"^(\d{10})-(\d{4})-([0-9a-f]{16})\.(safetensors|freed)$")
_REPLAY = re.compile(r"^(\d{4,})\.json$")
_CHECKPOINT = re.compile(r"^(\d{10})-(\d{4})\.pt$")


def store_id(storage: Storage) -> str:
    """The id of a store, which its files carry; empty where an older version began it and no launch has since."""
    return storage.read_json(IDENTITY, {}).get("id", "")


def identify(storage: Storage) -> None:
    """Give a store an id, unless it has one; for the launch that holds it."""
    if not storage.exists(IDENTITY):
        storage.write_json(IDENTITY, {"id": secrets.token_hex(8)})


def is_foreign(theirs: str, ours: str) -> bool:
    """Whether a file that carries the one id is not of the store with the other; a file without one may be."""
    return bool(theirs and ours) and theirs != ours


@dataclass(frozen=True, order=True)
class SnapshotName:
    """A snapshot's identity, as its file name tells it. `freed` is True once its bytes were given back."""

    step: int
    attempt: int
    checksum: str
    freed: bool = False

    @property
    def file(self) -> str:
        """The file's name within the run's snapshot directory."""
        return f"{self.step:010d}-{self.attempt:04d}-{self.checksum}.{'freed' if self.freed else 'safetensors'}"


@dataclass(frozen=True)
class Notice:
    """What the hub is told of a snapshot on storage."""

    run: str
    name: SnapshotName


def outcome(run: str) -> str:
    """Name of the file that says how a run's training ended."""
    return f"runs/{run}/outcome.json"


def dealt(epoch: int) -> str:
    """Name of the file that says which worker group of a launch has which runs."""
    return f"launches/{epoch:06d}.dealt"


def stop(run: str) -> str:
    """Name of the file by which a run is asked to stop."""
    return f"runs/{run}/stop"


def snapshot(run: str, name: SnapshotName) -> str:
    """Name of a snapshot's file."""
    return f"runs/{run}/snapshots/{name.file}"


def checkpoint(run: str, step: int, attempt: int) -> str:
    """Name of a checkpoint's file."""
    return f"runs/{run}/checkpoints/{step:010d}-{attempt:04d}.pt"


def points(probe: str) -> str:
    """Name of the file that holds a probe's data points."""
    return f"points/{probe}.safetensors"


def further(name: str) -> str:
    """Name of a file that says what was asked for beyond the study."""
    return f"{FURTHER}/{name}"


def replays(storage: Storage, run: str) -> dict[int, int]:
    """Per attempt that left its predecessors' trajectory: the last step at which it still agreed with them."""
    found = {}
    for name in storage.list(f"runs/{run}/replays"):
        if match := _REPLAY.match(name):
            record = records.read(storage, f"runs/{run}/replays/{name}", "replay", {})
            found[int(match[1])] = record["after_step"]
    return found


def superseded(attempt: int, step: int, replayed: dict[int, int]) -> bool:
    """Whether a later attempt's diverging replay has taken the place of what `attempt` wrote for `step`."""
    return any(attempt < later and step > after for later, after in replayed.items())


def current_snapshots(storage: Storage, run: str) -> list[SnapshotName]:
    """The snapshots of the run's present trajectory, one a step, in order of step."""
    replayed = replays(storage, run)
    current: dict[int, SnapshotName] = {}
    for file in storage.list(f"runs/{run}/snapshots"):
        if match := _SNAPSHOT.match(file):
            step, attempt, checksum, kind = match.groups()
            found = SnapshotName(int(step), int(attempt), checksum, freed=kind == "freed")
            known = current.get(found.step)
            if superseded(found.attempt, found.step, replayed):
                continue
            # Both a file and its tombstone: the freeing was cut short, the bytes are still good.
            if known is None or (known.freed and not found.freed) or known.attempt < found.attempt:
                current[found.step] = found
    return [current[step] for step in sorted(current)]


def bury(storage: Storage, notice: Notice) -> None:
    """Give a snapshot's bytes back; an empty file keeps its checksum, by which a replay can still be told."""
    storage.write(snapshot(notice.run, replace(notice.name, freed=True)), b"")
    storage.remove(snapshot(notice.run, notice.name))


def newest_checkpoint(storage: Storage, run: str) -> tuple[int, str] | None:
    """Step and name of the checkpoint to resume from: the latest attempt's latest step. None if there is none."""
    found = [
        (int(match[2]), int(match[1]), file)
        for file in storage.list(f"runs/{run}/checkpoints")
        if (match := _CHECKPOINT.match(file))
    ]
    if not found:
        return None
    _, step, file = max(found)
    return step, f"runs/{run}/checkpoints/{file}"
