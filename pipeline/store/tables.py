"""The tables a study leaves behind: their columns, and how parts are written, read and compacted.

A part is an immutable Parquet file by one writer. It carries the store, table and writer that it is of, and its name
has the checksum of its bytes, both of which are held against what was asked for whenever it is read. The same row can
stand in several parts (a replay, a compaction cut short): readers keep one row a key, see :mod:`pipeline.store.reader`.
"""

import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from tangentscope.pipeline.store import layout, manifest
from tangentscope.pipeline.store.faults import Fault
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.manifest import Manifest, Part

_LOOKS = 5
_PART = re.compile(r"(?P<writer>.+)-(?P<digest>[0-9a-f]{16})\.parquet")  # older ones have 12 digits, at random
_METADATA = b"tangentscope"

Rows = Mapping[str, list[dict[str, Any]]]
"""Rows by table."""

_RUN = [("run", pa.string()), ("attempt", pa.int64()), ("step", pa.int64()), ("epoch", pa.float64())]
_PROBE = [*_RUN, ("checksum", pa.string()), ("probe", pa.string()), ("split", pa.string()), ("outputs", pa.string())]
_PROBE += [("part", pa.string())]  # of the outputs, that the kernel is of; none where it is of all

SCHEMAS: dict[str, pa.Schema] = {
    # One row per (run, step, probe, variable). `value` is the mean over draws, `stderr` its standard error. A profile
    # has no value here but a `length`, and its numbers in the table `profiles`.
    "measurements": pa.schema(
        [
            *_PROBE,
            ("variable", pa.string()),
            ("version", pa.int64()),
            ("value", pa.float64()),
            ("stderr", pa.float64()),
            ("draws", pa.int64()),
            ("size", pa.int64()),
            ("draw_values", pa.list_(pa.float64())),
            ("length", pa.int64()),
            # Of variables that compare: step and checksum of each earlier snapshot, or NOTHING at the first step.
            ("compared_with", pa.string()),
            (
                "state",
                pa.string(),
            ),  # "measured", or with its cause "failed" or "interrupted", see tangentscope.pipeline.store.failures
            ("cause", pa.string()),
            ("clipped_mass", pa.float64()),
            ("probe_seconds", pa.float64()),
            ("lag_seconds", pa.float64()),
            ("peak_memory", pa.int64()),
            ("launch", pa.int64()),  # that recorded the row; none in older files
            ("recorded_at", pa.float64()),
        ]
    ),
    # One row per draw: eigenvalues in descending order.
    "spectra": pa.schema([*_PROBE, ("draw", pa.int64()), ("eigenvalues", pa.list_(pa.float64()))]),
    # One row per draw and variable that is a profile.
    "profiles": pa.schema(
        [
            *_PROBE,
            ("draw", pa.int64()),
            ("variable", pa.string()),
            ("version", pa.int64()),
            ("values", pa.list_(pa.float64())),
            ("recorded_at", pa.float64()),
        ]
    ),
    # One row per (run, step, split, variable): loss and score as training went on.
    "history": pa.schema(
        [
            *_RUN,
            ("split", pa.string()),
            ("variable", pa.string()),
            ("value", pa.float64()),
            ("recorded_at", pa.float64()),
        ]
    ),
    # One row per snapshot taken: what it cost training. Seconds; the write happens off the training thread.
    "snapshots": pa.schema(
        [
            *_RUN,
            ("checksum", pa.string()),
            ("bytes", pa.int64()),
            ("copy_seconds", pa.float64()),
            ("wait_seconds", pa.float64()),
            ("write_seconds", pa.float64()),
            ("taken_at", pa.float64()),
        ]
    ),
}

KEYS: dict[str, list[str]] = {
    "measurements": ["run", "step", "probe", "variable"],
    "spectra": ["run", "step", "probe", "draw"],
    "profiles": ["run", "step", "probe", "draw", "variable"],
    "history": ["run", "step", "split", "variable"],
    "snapshots": ["run", "step"],
}

_IDENTITY = {"run", "attempt", "step", "epoch"}
_KERNEL = {*_IDENTITY, "checksum", "probe", "split", "outputs"}
# What a row must have; the other columns are empty where there is nothing to say.
REQUIRED: dict[str, set[str]] = {
    "measurements": {*_KERNEL, "variable", "version", "state", "value", "recorded_at"},
    "spectra": {*_KERNEL, "draw", "eigenvalues"},
    "profiles": {*_KERNEL, "draw", "variable", "version", "values", "recorded_at"},
    "history": {*_IDENTITY, "split", "variable", "value", "recorded_at"},
    "snapshots": {*_IDENTITY, "checksum", "bytes", "copy_seconds", "wait_seconds", "write_seconds", "taken_at"},
}

NOTHING = "nothing"


def without_number(measurements: pd.DataFrame) -> np.ndarray:
    """Which rows have no value by their nature: profiles, and comparisons with what was before the first step."""
    return np.asarray(measurements["length"].notna() | (measurements["compared_with"] == NOTHING), dtype=bool)


def write_part(storage: Storage, table: str, rows: Iterable[Mapping[str, Any]], writer: str) -> str | None:
    """Publish rows as one part of a table; the part's name, or None if there were no rows.

    Args:
        storage: The study's.
        table: Which of its tables.
        rows: With every column of the table's `REQUIRED` and no other than its columns.
        writer: Nobody else writes under this name at the same time.

    Raises:
        ValueError: A row with a column too many or too few.
    """
    rows = list(rows)
    if not rows:
        return None
    earlier = manifest.read(storage, table, writer) or Manifest(table, writer, layout.store_id(storage))
    content = _checked(table, rows)
    part = publish_part(storage, earlier, content)
    earlier.with_part(part, manifest.tally(table, content)).write(storage)
    return f"tables/{table}/{part.name}"


def flush_interval(elapsed: float) -> float:
    """Seconds between two parts of one writer: two at first, longer later, so that days leave few parts.

    Parts then grow as the logarithm of the time; a live curve is never more than two seconds or 2 % of its run behind.
    """
    return min(60.0, max(2.0, elapsed / 50))


def part_names(storage: Storage, table: str) -> list[str]:
    """The parts of a table that are there now."""
    return [f"tables/{table}/{name}" for name in storage.list(f"tables/{table}") if name.endswith(".parquet")]


@dataclass(frozen=True)
class Parts:
    """The rows of a table's parts, duplicates included, the parts they are from, and what is wrong with others."""

    frame: pd.DataFrame
    names: list[str]
    faults: list[Fault]


def read_parts(
    storage: Storage, table: str, names: Iterable[str] | None = None, columns: Sequence[str] | None = None
) -> Parts:
    """Read parts, all of a table's by default. What is damaged or foreign is left out, and among the faults.

    A part that a compaction removes between listing and reading is looked for again in a fresh listing.

    Raises:
        FileNotFoundError: One of the `names` is not there.
    """
    identity = layout.store_id(storage)
    for _ in range(_LOOKS):
        chosen = list(part_names(storage, table) if names is None else names)
        try:
            parts = {name: read_part(storage, table, name, identity, columns) for name in chosen}
        except FileNotFoundError:
            if names is None:
                continue
            raise
        whole = {name: part for name, part in parts.items() if isinstance(part, pa.Table)}
        empty = SCHEMAS[table].empty_table()
        frame = pa.concat_tables([empty.select(columns) if columns else empty, *whole.values()]).to_pandas()
        # With and without missing values alike, so that a column's type does not depend on what was measured.
        frame = frame.astype({name: "float64" for name in ("length", "launch") if name in frame})
        return Parts(frame, list(whole), [part for part in parts.values() if isinstance(part, Fault)])
    raise OSError(f"table {table} in {storage.uri} kept changing while it was read; try again")


def read_part(
    storage: Storage, table: str, name: str, identity: str, columns: Sequence[str] | None = None
) -> pa.Table | Fault:
    """The rows of one part, or what is wrong with it. Raises FileNotFoundError.

    Args:
        storage: The study's.
        table: Whose rows are wanted.
        name: Of the part.
        identity: The store's id.
        columns: Which of the table's to read; all by default.
    """
    data = storage.read(name)
    named = _PART.fullmatch(name.rpartition("/")[2])
    if named and xxhash.xxh3_64_hexdigest(data) != named["digest"]:
        return Fault(name, "damaged", "its content is not what was written")
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        carried = json.loads((file.schema_arrow.metadata or {}).get(_METADATA, b"{}"))
        held = set(file.schema_arrow.names)
        expected = {"table": table, "writer": named["writer"]} if named else {}
        if any(carried.get(key) != value for key, value in expected.items()) or (carried and not named):
            return Fault(name, "foreign", f"a part of table {carried.get('table')} by {carried.get('writer')}")
        if layout.is_foreign(carried.get("store", ""), identity):
            return Fault(name, "foreign", f"a part of another store ({carried['store']}, this one is {identity})")
        if not {*KEYS[table]} <= held <= {*SCHEMAS[table].names}:
            return Fault(name, "foreign", "a part of another table")
        return pq.read_table(pa.BufferReader(data), schema=SCHEMAS[table], columns=columns)
    except (pa.ArrowException, ValueError, TypeError) as error:
        return Fault(name, "damaged", " ".join(str(error).split()))


def _checked(table: str, rows: list[Mapping[str, Any]]) -> pa.Table:
    """Rows as a table. pyarrow alone would pass over a column that is misspelt or left out."""
    names, required = {*SCHEMAS[table].names}, REQUIRED[table]
    for row in rows:
        if not required <= row.keys() <= names:
            wrong = ", ".join([f"no {name}" for name in sorted(required - row.keys())] + sorted(row.keys() - names))
            raise ValueError(f"a row for the table {table}: got {wrong}, expected all of {', '.join(sorted(required))}")
    return pa.Table.from_pylist(rows, schema=SCHEMAS[table])


def publish_part(storage: Storage, earlier: Manifest, content: pa.Table) -> Part:
    """Publish a table as one more part of a writer's; the manifest that will list it is still to be written."""
    carried = {"store": earlier.store, "table": earlier.table, "writer": earlier.writer}
    carried |= {"number": len(earlier.parts), "rows": len(content)}
    data = to_parquet(content.replace_schema_metadata({_METADATA: json.dumps(carried).encode()}))
    name = f"{earlier.writer}-{xxhash.xxh3_64_hexdigest(data)}.parquet"
    storage.write(f"tables/{earlier.table}/{name}", data)
    times = content.column("recorded_at").to_pylist() if "recorded_at" in content.column_names else []
    return Part(name, len(content), max((at for at in times if at is not None), default=0.0))


def to_parquet(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
