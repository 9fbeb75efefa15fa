"""What each writer has published of a table: its parts, and which rows they hold, in one small file replaced whole.

A part is published before the manifest that lists it. A part that no manifest lists is therefore no error (its writer
died in between, or an older version wrote it) and vouches for itself; a part that is listed and not there is missing.
A compaction lists the parts that its own part replaces, then removes these, and their manifests last. There is one
writer a file, so nothing is locked, on an object store as little as on a disk.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import xxhash

from tangentscope.pipeline.store import layout
from tangentscope.pipeline.store.failures import FAILED
from tangentscope.pipeline.store.faults import Fault
from tangentscope.pipeline.store.files import Storage

_TRIES = 10  # of reading a file that may be replaced meanwhile

KEYS: Mapping[str, tuple[str, ...]] = {
    "measurements": ("run", "attempt", "probe", "variable", "version", "state", "launch", "failed_at"),
    "spectra": ("run", "attempt", "probe"),
    "profiles": ("run", "attempt", "probe", "variable"),
    "history": ("run", "attempt", "split", "variable"),
    "snapshots": ("run", "attempt"),
}
"""By table, what tells rows of a step apart in a tally.

``launch`` is the one that recorded a row that failed, ``failed_at`` when that was, in files from before rows named it.
"""

_OF_AN_ATTEMPT = {"attempt", "version", "state", "launch", "failed_at"}  # in which a row and its successor differ

Tally = dict[tuple[Any, ...], set[int]]
"""Which rows there are: steps by the values of a table's `KEYS`."""


def tally(table: str, rows: pa.Table) -> Tally:
    """The tally of a table's rows."""
    columns = {name: rows.column(name).to_pylist() for name in {*KEYS[table], "step"} - {"failed_at"}}
    if table == "measurements":
        failed = [state == FAILED for state in columns["state"]]
        launches, times = columns["launch"], rows.column("recorded_at").to_pylist()
        columns["failed_at"] = [
            at if lost and launch is None else None for lost, launch, at in zip(failed, launches, times, strict=True)
        ]
        columns["launch"] = [launch if lost else None for lost, launch in zip(failed, launches, strict=True)]
    steps: Tally = {}
    for *key, step in zip(*(columns[name] for name in KEYS[table]), columns["step"], strict=True):
        steps.setdefault(tuple(key), set()).add(step)
    return steps


def merged(tallies: Iterable[Tally]) -> Tally:
    """The rows of several tallies; a row that several have is one row."""
    steps: Tally = {}
    for one in tallies:
        for key, some in one.items():
            steps[key] = steps[key] | some if key in steps else some
    return steps


def without(tallies: Iterable[Tally], rows: Tally, table: str) -> Tally:
    """What tallies have and `rows` have not of any attempt."""
    names = KEYS[table]
    same = [names.index(name) for name in names if name not in _OF_AN_ATTEMPT]
    there = merged({tuple(key[place] for place in same): steps} for key, steps in rows.items())
    left = {
        key: steps - there.get(tuple(key[place] for place in same), set()) for key, steps in merged(tallies).items()
    }
    return {key: steps for key, steps in left.items() if steps}


@dataclass(frozen=True)
class Part:
    """A part as its manifest lists it."""

    name: str  # of its file within the table's directory
    rows: int
    at: float  # when the latest of its rows was recorded, in seconds since 1970


@dataclass(frozen=True)
class Manifest:
    """What one writer has published of one table.

    `lost` are rows that earlier manifests listed and that were not there any more when a compaction came by; `replaced`
    are the names of the parts whose rows this writer's part holds, while they are being removed.
    """

    table: str
    writer: str
    store: str = ""  # id of the store that it belongs to, see `tangentscope.pipeline.store.layout`
    parts: tuple[Part, ...] = ()
    tally: Tally = field(default_factory=dict)
    lost: Tally = field(default_factory=dict)
    replaced: frozenset[str] = frozenset()

    @property
    def file(self) -> str:
        """Name of its file on storage."""
        return f"{directory(self.table)}/{self.writer}.manifest"

    def with_part(self, part: Part, rows: Tally) -> "Manifest":
        """The manifest once one more part has been published."""
        return replace(self, parts=(*self.parts, part), tally=merged([self.tally, rows]))

    @property
    def names(self) -> frozenset[str]:
        """The names of its parts."""
        return frozenset(part.name for part in self.parts)

    def write(self, storage: Storage) -> None:
        """Publish it in place of the writer's last one."""
        record = {"store": self.store, "parts": [[part.name, part.rows, part.at] for part in self.parts]}
        record |= {"tally": _packed(self.tally), "lost": _packed(self.lost), "replaced": sorted(self.replaced)}
        body = json.dumps(record, separators=(",", ":")).encode()
        storage.write(self.file, xxhash.xxh3_64_hexdigest(body).encode() + b"\n" + body)


def directory(table: str) -> str:
    """The directory of a table's manifests."""
    return f"manifests/{table}"


def read(storage: Storage, table: str, writer: str) -> Manifest | None:
    """A writer's manifest; None if there is none, or a damaged one, whose parts then vouch for themselves."""
    empty = Manifest(table, writer)
    # On an object store a file that is replaced meanwhile can be had in part, or as an error.
    for _ in range(1 if storage.local else _TRIES):
        try:
            digest, _, body = storage.read(empty.file).partition(b"\n")
        except FileNotFoundError:
            return None
        if xxhash.xxh3_64_hexdigest(body).encode() == digest:
            record = json.loads(body)
            parts = tuple(Part(*part) for part in record["parts"])
            steps = {name: _unpacked(record[name]) for name in ("tally", "lost")}
            return Manifest(table, writer, record["store"], parts, **steps, replaced=frozenset(record["replaced"]))
    return None


def writers(storage: Storage, table: str) -> list[str]:
    """Who has a manifest of a table, in order of their names."""
    names = storage.list(directory(table))
    return [name.removesuffix(".manifest") for name in names if name.endswith(".manifest")]


@dataclass(frozen=True)
class Look:
    """A table's manifests and the parts that were there at the same time."""

    manifests: tuple[Manifest, ...]
    names: frozenset[str]  # of parts, within the table's directory
    faults: tuple[Fault, ...]  # of manifests

    @property
    def listed(self) -> dict[str, Part]:
        """The parts that ought to be there, by name."""
        listed = {part.name: part for manifest in self.manifests for part in manifest.parts}
        return {name: part for name, part in listed.items() if name not in self.replaced}

    @property
    def replaced(self) -> frozenset[str]:
        """Names of parts whose rows are in another one."""
        return frozenset[str]().union(*(manifest.replaced for manifest in self.manifests))

    @property
    def missing(self) -> list[Part]:
        """Parts that ought to be there and are not."""
        return [part for name, part in sorted(self.listed.items()) if name not in self.names]

    @property
    def unlisted(self) -> list[str]:
        """Names of parts that no manifest lists: just published, of an older version, or foreign."""
        return sorted(self.names - self.listed.keys() - self.replaced)


def look(storage: Storage, table: str) -> Look:
    """A table's manifests and parts; what is missing was so at two looks, and not only because of a compaction."""
    identity, missing = layout.store_id(storage), None
    while True:
        # Manifests first: a part that is published in between is unlisted, which is no fault.
        manifests, faults = [], []
        for writer in writers(storage, table):
            manifest = read(storage, table, writer)
            if manifest is None:
                faults += _fault_of(storage, Manifest(table, writer).file)
            elif layout.is_foreign(manifest.store, identity):
                faults.append(Fault(manifest.file, "foreign", f"of another store, {manifest.store}"))
            else:
                manifests.append(manifest)
        names = frozenset(name for name in storage.list(f"tables/{table}") if name.endswith(".parquet"))
        seen = Look(tuple(manifests), names, tuple(faults))
        if not seen.missing or seen.missing == missing:
            return seen
        missing = seen.missing


def _fault_of(storage: Storage, file: str) -> list[Fault]:
    """Of a manifest that could not be read; none if it has been removed meanwhile, as a compaction does."""
    return [Fault(file, "damaged", "its content is not what was written")] if storage.exists(file) else []


def _packed(rows: Tally) -> list[list[Any]]:
    """A tally for JSON: runs and steps once for all rows that share them, which those of a run mostly do."""
    shared: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    for (run, attempt, *rest), steps in rows.items():
        shared.setdefault((run, attempt, *sorted(steps)), []).append(tuple(rest))
    return [[run, attempt, steps, rest] for (run, attempt, *steps), rest in shared.items()]


def _unpacked(packed: list[list[Any]]) -> Tally:
    """The tally; rows that share their steps on file share one set here, which nobody changes."""
    return {
        (run, attempt, *key): shared for run, attempt, steps, rest in packed for shared in (set(steps),) for key in rest
    }
