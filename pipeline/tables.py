"""The tables a study leaves behind: their columns, and how parts are written, read and compacted.

A part is an immutable Parquet file by one writer. The same row can stand in several parts (a replay, a compaction cut
short): readers keep one row a key, see :mod:`pipeline.store`.
"""

import io
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UserError
from pipeline.storage import Storage

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
            ("state", pa.string()),  # "measured", or with its cause "failed" or "interrupted", see pipeline.failures
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

NOTHING = "nothing"


def without_number(measurements: pd.DataFrame) -> np.ndarray:
    """Which rows have no value by their nature: profiles, and comparisons with what was before the first step."""
    return np.asarray(measurements["length"].notna() | (measurements["compared_with"] == NOTHING), dtype=bool)


def write_part(storage: Storage, table: str, rows: Iterable[Mapping[str, Any]], writer: str) -> str | None:
    """Publish rows as one part of a table; the part's name, or None if there were no rows."""
    rows = list(rows)
    if not rows:
        return None
    name = f"tables/{table}/{writer}-{uuid.uuid4().hex[:12]}.parquet"
    storage.write(name, to_parquet(pa.Table.from_pylist(rows, schema=SCHEMAS[table])))
    return name


def flush_interval(elapsed: float) -> float:
    """Seconds between two parts of one writer: two at first, longer later, so that days leave few parts.

    Parts then grow as the logarithm of the time; a live curve is never more than two seconds or 2 % of its run behind.
    """
    return min(60.0, max(2.0, elapsed / 50))


def part_names(storage: Storage, table: str) -> list[str]:
    """The parts of a table that are there now."""
    return [f"tables/{table}/{name}" for name in storage.list(f"tables/{table}") if name.endswith(".parquet")]


def read_parts(storage: Storage, table: str, names: Iterable[str] | None = None) -> pd.DataFrame:
    """All rows of the parts (all of a table's by default), duplicates included.

    A part that a compaction removes between listing and reading is looked for again in a fresh listing.
    """
    for _ in range(5):
        chosen = list(part_names(storage, table) if names is None else names)
        try:
            parts = [_read_part(storage, table, name) for name in chosen]
        except FileNotFoundError:
            if names is None:
                continue
            raise
        frame = pa.concat_tables([SCHEMAS[table].empty_table(), *parts]).to_pandas()
        # With and without missing values alike, so that a column's type does not depend on what was measured.
        return frame.astype({"length": "float64"}) if "length" in frame else frame
    raise OSError(f"table {table} in {storage.uri} kept changing while it was read; try again")


def _read_part(storage: Storage, table: str, name: str) -> pa.Table:
    data = storage.read(name)
    try:
        return pq.read_table(pa.BufferReader(data), schema=SCHEMAS[table])
    except pa.ArrowException as error:
        what = " ".join(str(error).split())
        raise UserError(f"{storage.path(name)}: damaged ({what}); remove it and run the study again") from error


def compact(storage: Storage, table: str, frame: pd.DataFrame, names: list[str], writer: str) -> None:
    """Replace parts by one that holds `frame`, their rows less duplicates. Cut short, it leaves duplicates, no gaps."""
    if len(names) < 2:
        return
    merged = pa.Table.from_pandas(frame, schema=SCHEMAS[table], preserve_index=False)
    storage.write(f"tables/{table}/{writer}-{uuid.uuid4().hex[:12]}.parquet", to_parquet(merged))
    for name in names:
        storage.remove(name)


def to_parquet(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
