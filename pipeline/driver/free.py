"""Giving storage back: what the keep policy does not ask for, and what launches left behind."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tangentscope.pipeline.probing.settled import ledger_of
from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.launch import claim
from tangentscope.pipeline.store.layout import Notice
from tangentscope.pipeline.store.plan import Keep
from tangentscope.pipeline.store.reader import Store


@dataclass(frozen=True)
class Freed:
    """Files that were given back, or would be: how many of each kind, and their bytes."""

    counts: dict[str, int]
    bytes: int


def free(storage: Storage, keep: Keep | None = None, dry_run: bool = False) -> Freed:
    """Give back what nothing will read any more; nothing that is still to be measured is touched.

    Args:
        storage: A study's, which no launch holds.
        keep: Which measured snapshots stay; by default what the study says.
        dry_run: Only count.

    Raises:
        UserError: No study there, or a launch holds it.
    """
    store = Store(storage)
    counts: dict[str, int] = {}
    size = 0
    with claim(storage):
        for kind, name, notice in _unwanted(store, keep or store.plan.keep):
            counts[kind] = counts.get(kind, 0) + 1
            size += storage.size(name)
            if not dry_run:
                run_files.bury(storage, notice) if notice else storage.remove(name)
    return Freed(counts, size)


def _unwanted(store: Store, keep: Keep) -> Iterator[tuple[str, str, Notice | None]]:
    """Kind and name of each file; with the notice of those that leave a tombstone."""
    storage = store.storage
    ledger = ledger_of(replace(store.plan, keep=keep), store.recorded())
    outcomes = store.outcomes()
    for run in store.runs:
        present = run_files.current_snapshots(storage, run.id)
        for name in present:
            ledger.notice(Notice(run.id, name))
        steps = store.wanted(run)
        spent = ledger.to_free(run.id, steps)
        if keep != "all":  # of a schedule that no longer holds
            spent += [name for name in present if not name.freed and name.step not in steps]
        for name in spent:
            yield "snapshots", run_files.snapshot(run.id, name), Notice(run.id, name)
        for file in run_files.replaced_snapshots(storage, run.id, present):
            yield "replaced snapshots", file, None
        if run.id in outcomes and outcomes[run.id].state == "finished":
            for file in run_files.checkpoints(storage, run.id):
                yield "checkpoints", file, None
    for name in storage.leftovers():
        yield "files of writers that died", name, None
