"""What is wrong with a study's tables: parts that are missing, damaged or foreign, and rows that are lost."""

from collections.abc import Iterable

from tangentscope.pipeline.store import layout, manifest, run_files, tables
from tangentscope.pipeline.store.faults import Fault
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.manifest import Look, Tally
from tangentscope.pipeline.store.plan import Plan

_MOST_NAMES = 5  # of runs, in a line


def table_faults(storage: Storage, plan: Plan, table: str, thorough: bool = False) -> list[Fault]:
    """What is wrong with a table.

    Args:
        storage: The study's.
        plan: Its plan.
        table: Its name.
        thorough: Read every part, which is needed to see what is damaged inside a part that is there; otherwise only
            manifests are read, and parts that none of them lists.
    """
    look = manifest.look(storage, table)
    identity = layout.store_id(storage)
    faults = [*look.faults]
    for part in look.missing:
        faults.append(Fault(f"tables/{table}/{part.name}", "missing", f"{part.rows} rows"))
    for name in sorted(look.names - look.replaced) if thorough else look.unlisted:
        try:
            content = tables.read_part(storage, table, f"tables/{table}/{name}", identity)
        except FileNotFoundError:  # compacted meanwhile
            continue
        if isinstance(content, Fault):
            faults.append(content)
    return faults + _lost(storage, plan, table, look)


def lost_rows(storage: Storage, table: str) -> Tally:
    """Rows that manifests list and no part has, of any attempt. Parts are only read if something is missing."""
    look = manifest.look(storage, table)
    if not look.missing and not any(each.lost for each in look.manifests):
        return {}
    identity = layout.store_id(storage)
    parts = (tables.read_part(storage, table, f"tables/{table}/{name}", identity) for name in sorted(look.names))
    rows = manifest.merged(manifest.tally(table, part) for part in parts if not isinstance(part, Fault))
    return manifest.without([tally for each in look.manifests for tally in (each.tally, each.lost)], rows, table)


def _lost(storage: Storage, plan: Plan, table: str, look: Look) -> list[Fault]:
    """What an earlier compaction found missing and nobody has made again since."""
    lost = [each.lost for each in look.manifests if each.lost]
    there = manifest.merged(each.tally for each in look.manifests) if lost else {}
    names = {run.id: run.name for run in plan.runs}
    count: dict[str, int] = {}
    for (run, attempt, *_), steps in manifest.without(lost, there, table).items():
        if run in names:
            replayed = run_files.replays(storage, run)
            count[run] = count.get(run, 0) + sum(not run_files.superseded(attempt, step, replayed) for step in steps)
    of = [names[run] for run, rows in count.items() if rows]
    if not of:
        return []
    return [Fault(f"tables/{table}", "missing", f"{sum(count.values())} rows of {listed(of)}, in parts that are gone")]


def listed(names: Iterable[str]) -> str:
    """Some names of runs for a line, and how many more there are."""
    every = [*names]
    return ", ".join(every[:_MOST_NAMES]) + (f" and {len(every) - _MOST_NAMES} more" if every[_MOST_NAMES:] else "")
