"""Asking work to stop, from any shell or node that sees the storage."""

import time
from collections.abc import Iterator, Sequence

from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.store.launch import ask_to_stop, holder
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.study.plan import named
from tangentscope.pipeline.system.errors import UserError

_PATIENCE_SECONDS = 120.0


def stop(store: Store, runs: Sequence[str] = ()) -> Iterator[str]:
    """Ask a study, or the runs of these names or ids, to checkpoint and stop; yields what to tell the user.

    A study is waited for until its launch has ended. A run ends within seconds; one that has not begun never does.

    Raises:
        UserError: No such run, one that has ended, nobody runs the study, or it does not end.
    """
    if runs:
        yield from _stop_runs(store, runs)
        return
    if not ask_to_stop(store.storage):
        raise UserError(f"{store.storage.uri}: nobody runs this study; there is nothing to stop")
    yield f"asked {store.name} to stop"
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while who := holder(store.storage):
        if time.monotonic() > deadline:
            raise UserError(f"{store.storage.uri} is still held ({who}); look at that process")
        time.sleep(0.2)
    yield "stopped; `tangentscope run` goes on from there"


def _stop_runs(store: Store, names: Sequence[str]) -> Iterator[str]:
    chosen, outcomes = named(store.runs, names), store.outcomes()
    for run in chosen:
        if outcome := outcomes.get(run.id):
            raise UserError(f"run {run.name} has ended already ({outcome.state}); leave it out")
    for run in chosen:
        store.storage.write(run_files.stop(run.id), b"")
        yield f"asked {run.name} to stop; `tangentscope retry` takes it up again"
