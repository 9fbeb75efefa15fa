"""Where a study's files lie below its storage, and what the names of snapshots say; those of a run: store.run_files.

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

import secrets
from dataclasses import dataclass

from tangentscope.pipeline.store.files import Storage

STUDY, PLAN, PROVENANCE, REPORT = "study.yaml", "plan.json", "provenance.json", "report.html"
IDENTITY = "store.json"
FURTHER = "further"

SCHEMA = 1
"""Of all this and of the tables' columns. A change that older code would misread raises it."""


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


def dealt(epoch: int) -> str:
    """Name of the file that says which worker group of a launch has which runs."""
    return f"launches/{epoch:06d}.dealt"


def points(probe: str) -> str:
    """Name of the file that holds a probe's data points."""
    return f"points/{probe}.safetensors"


def further(name: str) -> str:
    """Name of a file that says what was asked for beyond the study."""
    return f"{FURTHER}/{name}"
