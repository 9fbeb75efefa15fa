"""Putting the parts of a table together into one, so that readers open few files."""

from dataclasses import replace

import pandas as pd
import pyarrow as pa

from tangentscope.pipeline.store import layout, manifest, tables
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.manifest import Look, Manifest, Tally


def compact(storage: Storage, table: str, frame: pd.DataFrame, names: list[str], writer: str) -> None:
    """Replace parts, if there are several, by one that holds `frame`, their rows less duplicates.

    Cut short, it leaves duplicates, no gaps.

    Args:
        storage: The study's, which the caller's launch holds.
        table: Whose parts.
        frame: The rows that count.
        names: The parts that they were read from.
        writer: Of the new part.
    """
    if len(names) > 1:
        replace_parts(storage, table, frame, names, writer)


def replace_parts(storage: Storage, table: str, frame: pd.DataFrame, names: list[str], writer: str) -> None:
    """Put `frame` in the place of these parts, whatever it holds; arguments as for :func:`compact`."""
    content = pa.Table.from_pandas(frame, schema=tables.SCHEMAS[table], preserve_index=False)
    before = manifest.look(storage, table)
    rows, files = manifest.tally(table, content), {name.rpartition("/")[2] for name in names}
    earlier = next((each for each in before.manifests if each.writer == writer), None)
    earlier = earlier or Manifest(table, writer, layout.store_id(storage))
    part = tables.publish_part(storage, earlier, content)
    mine = replace(earlier, parts=(part,), tally=rows, lost=_lost(before, files, rows))
    mine = replace(mine, replaced=frozenset(files - {part.name}))
    mine.write(storage)
    for name in sorted(mine.replaced):
        storage.remove(f"tables/{table}/{name}")
    # A manifest of which something else is still there stays, and with it what its other parts were replaced by.
    gone = mine.replaced | {each.name for each in before.missing}
    others = [each for each in before.manifests if each.writer != writer]
    for other in others:
        if other.names <= gone:
            storage.remove(other.file)
    left = frozenset[str]().union(*(other.names for other in others if not other.names <= gone))
    replace(mine, replaced=mine.replaced & left).write(storage)


def _lost(before: Look, files: set[str], rows: Tally) -> Tally:
    """What was published and is not among the rows, nor was at an earlier compaction; any attempt's row will do."""
    earlier = [each.lost for each in before.manifests if each.lost]
    if not earlier and not before.listed.keys() - files:
        return {}
    return manifest.without([*earlier, *(each.tally for each in before.manifests)], rows, before.manifests[0].table)
