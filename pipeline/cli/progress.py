"""How far a study is: one line a run, from storage alone, for `status` and for the table that `run` shows."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from tangentscope.pipeline.driver import pace
from tangentscope.pipeline.store import run_files, tables
from tangentscope.pipeline.store.launch import holder
from tangentscope.pipeline.store.plan import count_values
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.store.status import HubStatus
from tangentscope.pipeline.system.formatting import clock

_WATCH_SECONDS = 2.0
_MEASURED = ("measurements", "spectra", "profiles")
_MOST_ROWS = 30  # a table longer than a screen helps nobody; the counts above it are complete


@dataclass(frozen=True)
class RunProgress:
    """How far one run is: its state, and what of its snapshots and values there is, of how many planned."""

    name: str
    state: str  # waiting, running, interrupted, measuring, finished, stopped or failed
    snapshots: int
    planned_snapshots: int
    measured: int
    planned_values: int
    failed_values: int = 0
    cause: str | None = None


def of_runs(store: Store, measured: Mapping[str, int], failed: Mapping[str, int], live: bool) -> list[RunProgress]:
    """Every planned run's progress.

    Args:
        store: The study.
        measured: Values on storage, by run.
        failed: Values given up after three tries, by run.
        live: Whether a launch is going on: a run without an outcome is then running, else it was interrupted.
    """
    outcomes = store.outcomes()
    found = []
    for run in store.runs:
        outcome = outcomes.get(run.id)
        begun = outcome is not None or run_files.has_begun(store.storage, run.id)
        planned = count_values(store.wanted(run))
        values, lost = measured.get(run.id, 0), failed.get(run.id, 0)
        state = outcome.state if outcome else (("running" if live else "interrupted") if begun else "waiting")
        if state == "finished" and values + lost < planned:
            state = "measuring" if live else "interrupted"
        taken = len(run_files.current_snapshots(store.storage, run.id)) if begun else 0
        cause = outcome.cause if outcome else None
        found.append(RunProgress(run.name, state, taken, len(run.snapshots), values, planned, lost, cause))
    return found


def now(store: Store) -> list[RunProgress]:
    """Every run's progress as storage has it at this moment, whoever runs the study."""
    counts = store.counts()
    measured = {run: count.measured for run, count in counts.items()}
    failed = {run: count.failed for run, count in counts.items()}
    return of_runs(store, measured, failed, live=holder(store.storage) is not None)


def troubles(store: Store) -> list[str]:
    """What is wrong with the tables, a line each; while a launch goes on, with those of measurements."""
    # Each training under way has manifests of its own, which there may be thousands of.
    names = _MEASURED if holder(store.storage) else tuple(tables.SCHEMAS)
    return [str(fault) for table in names for fault in store.faults(table)]


def summary(runs: list[RunProgress]) -> str:
    """The counts by state, e.g. ``2 finished, 1 running, 1 waiting; 96 of 160 snapshots, 480 of 960 values``."""
    states = [run.state for run in runs]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states)))
    taken, planned = sum(run.snapshots for run in runs), sum(run.planned_snapshots for run in runs)
    measured, values = sum(run.measured for run in runs), sum(run.planned_values for run in runs)
    lost = sum(run.failed_values for run in runs)
    failed = f", {lost} failed" if lost else ""
    return f"{counts}; {taken} of {planned} snapshots, {measured} of {values} values measured{failed}"


def table(runs: list[RunProgress], title: str = "", rows: int = _MOST_ROWS) -> Table:
    """The progress as a table for the terminal, what is going on first, at most so many rows below the counts."""
    order = ["running", "measuring", "interrupted", "failed", "stopped", "waiting", "finished"]
    grid = Table(title=f"{title}\n{summary(runs)}".strip(), title_justify="left")
    for column in ("run", "state"):
        grid.add_column(column)
    for column in ("snapshots", "measured"):
        grid.add_column(column, justify="right")
    shown = sorted(runs, key=lambda run: order.index(run.state))[: max(1, min(rows, _MOST_ROWS))]
    for run in shown:
        state = f"{run.state}: {run.cause}" if run.cause else run.state
        grid.add_row(
            run.name, state, f"{run.snapshots}/{run.planned_snapshots}", f"{run.measured}/{run.planned_values}"
        )
    if len(runs) > len(shown):
        grid.add_row("…", f"and {len(runs) - len(shown)} more", "", "")
    return grid


def _room(console: Console, tables: int = 1) -> int:
    """Rows for each of some tables on one screen, beside title, counts, head, frame and the row that says how many."""
    return console.height // tables - 8


def show(console: Console, store: Store, watch: bool) -> None:
    """Print the progress of a study; with `watch` again and again until nobody runs it."""
    if not watch:
        console.print(_page(store))
        for line in troubles(store):
            console.print(line, markup=False)
        return
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(_page(store, _room(console)), refresh=True)
            if holder(store.storage) is None:
                return
            time.sleep(_WATCH_SECONDS)


def _page(store: Store, rows: int = _MOST_ROWS) -> Table:
    title = f"{store.name}, {holder(store.storage) or 'not running'}"
    if (at := pace.of_launch(store)) is not None:
        title += f"; {at.values_per_second:.2g} values a second"
        title += f", about {clock(at.seconds_left)} left" if at.seconds_left is not None else ""
    return table(now(store), title, rows)


@contextmanager
def shown(console: Console, several: bool = False) -> Iterator[Callable[[Store, HubStatus], None]]:
    """What to call with store and hub status while studies run: a table each on a terminal, plain lines elsewhere.

    Args:
        console: Where it is shown.
        several: Whether there are several studies, so that lines have to say which they are of.
    """
    if not console.is_terminal:
        yield _Lines(console, several)
        return
    stores: dict[str, Store] = {}
    pages: dict[str, Table] = {}
    with Live(console=console, refresh_per_second=4, transient=False) as live:

        def watch(store: Store, status: HubStatus) -> None:
            runs = of_runs(store, status.measured, status.failed, live=True)
            trouble = f"  (storage: {status.trouble})" if status.trouble else ""
            stores[store.storage.uri] = store
            room = _room(console, len(stores))
            pages[store.storage.uri] = table(runs, title=f"{store.name}{trouble}", rows=room)
            live.update(Group(*pages.values()), refresh=True)

        yield watch
        # What stays on the screen is how it ended, and not what the last look before that saw.
        live.update(Group(*(table(now(store), store.name, _room(console, len(stores))) for store in stores.values())))


class _Lines:
    """A line when a run's state changes, and a summary of each study every ten seconds."""

    def __init__(self, console: Console, several: bool) -> None:
        self._console, self._several = console, several
        self._states: dict[tuple[str, str], str] = {}
        self._told: dict[str, float] = {}
        self._troubles: dict[str, str | None] = {}

    def __call__(self, store: Store, status: HubStatus) -> None:
        which = store.storage.uri
        about = f"{store.name}: " if self._several else ""
        runs = of_runs(store, status.measured, status.failed, live=True)
        for run in runs:
            known = self._states.setdefault((which, run.name), "waiting")
            if run.state != known:
                cause = f": {run.cause}" if run.cause else ""
                self._console.print(f"{about}{run.name}: {run.state}{cause}", markup=False)
                self._states[which, run.name] = run.state
        trouble = status.trouble
        if trouble and trouble != self._troubles.get(which):
            said = f"{about}storage: {trouble}; measurements wait in memory until it takes them"
            self._console.print(said, markup=False)
        self._troubles[which] = trouble
        if time.monotonic() - self._told.setdefault(which, time.monotonic()) > 10:
            self._console.print(f"{about}{summary(runs)}", markup=False)
            self._told[which] = time.monotonic()
