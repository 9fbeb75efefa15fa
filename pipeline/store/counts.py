"""How much of a study is there, counted from manifests: no value is read for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tangentscope.pipeline.store import layout, manifest, run_files, tables
from tangentscope.pipeline.store.failures import stands
from tangentscope.pipeline.store.faults import Fault
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.manifest import Tally
from tangentscope.pipeline.store.plan import Plan
from tangentscope.pipeline.store.planned import PlannedRun


@dataclass(frozen=True)
class Count:
    """Values of one probe and variable: those that were measured, and those that failed and were not measured."""

    measured: int = 0
    failed: int = 0


@dataclass(frozen=True)
class Counts:
    """Values of one run that are on storage, of those that the plan wants now; `of` has them by probe and variable."""

    planned: int = 0
    measured: int = 0
    failed: int = 0
    of: Mapping[tuple[str, str], Count] = field(default_factory=dict)


def counts(storage: Storage, plan: Plan) -> dict[str, Counts]:
    """Count the values that a plan wants, by run; every planned run is there.

    A value counts once, however many rows and parts have it, and only of the variable's present version; not at all
    where a replay has left its trajectory; as failed only if no row has it measured, and if it failed since the last
    retry. That is what the rows themselves would tell: manifests say of each row which run, attempt, step, probe,
    variable and version it is of. Parts that no manifest lists are read, and all parts where a listed one is missing.
    Only damage that shows in a part's content alone is not seen; `Store.check` looks for it.

    Args:
        storage: The study's.
        plan: Its plan.
    """
    measured: dict[str, dict[tuple[str, str], set[int]]] = {run.id: {} for run in plan.runs}
    failed: dict[str, dict[tuple[str, str], set[int]]] = {run.id: {} for run in plan.runs}
    replays: dict[str, dict[int, int]] = {}
    for (run, attempt, probe, variable, version, *end), steps in tally_of(storage, "measurements").items():
        row: dict[str, Any] = dict(zip(("run", "state", "launch", "recorded_at"), (run, *end), strict=True))
        if run not in measured or plan.versions.get(variable) != version:
            continue
        if row["state"] != "measured" and not stands(row, plan):
            continue
        if run not in replays:
            replays[run] = run_files.replays(storage, run)
        if replays[run]:
            steps = {step for step in steps if not run_files.superseded(attempt, step, replays[run])}
        there = (measured if row["state"] == "measured" else failed)[run]
        there[probe, variable] = there[probe, variable] | steps if (probe, variable) in there else steps
    planned = {run.wish: run for run in plan.runs}
    steps = {wish: _planned(plan, run) for wish, run in planned.items()}
    return {run.id: _counted(steps[run.wish], measured[run.id], failed[run.id]) for run in plan.runs}


def published_since(storage: Storage, since: float) -> int:
    """Rows of measurements in the parts that have a row recorded after a time, in seconds since 1970.

    A part that was begun before and ended after is counted whole; parts that a compaction has put together are one.
    """
    parts = manifest.look(storage, "measurements").listed.values()
    return sum(part.rows for part in parts if part.at > since)


def tally_of(storage: Storage, table: str) -> Tally:
    """Which rows of a table are there, by what its manifests say, and by the rows themselves where they do not."""
    identity = layout.store_id(storage)
    while True:
        look = manifest.look(storage, table)
        listed, names = ((), look.names) if look.missing else (look.manifests, look.unlisted)
        try:
            unlisted = [_read(storage, table, name, identity) for name in names]
        except FileNotFoundError:  # compacted meanwhile
            continue
        return manifest.merged([*(each.tally for each in listed), *unlisted])


def _read(storage: Storage, table: str, name: str, identity: str) -> Tally:
    part = tables.read_part(storage, table, f"tables/{table}/{name}", identity)
    return {} if isinstance(part, Fault) else manifest.tally(table, part)


def _planned(plan: Plan, run: PlannedRun) -> Mapping[tuple[str, str], set[int]]:
    """At which steps a plan wants each probe and variable of a run."""
    steps: dict[tuple[str, str], set[int]] = {}
    for step, probes in plan.wanted(run).items():
        for probe, variables in probes.items():
            for variable in variables:
                steps.setdefault((probe, variable), set()).add(step)
    return steps


def _counted(
    steps: Mapping[tuple[str, str], set[int]],
    measured: Mapping[tuple[str, str], set[int]],
    failed: Mapping[tuple[str, str], set[int]],
) -> Counts:
    of = {}
    for key, some in steps.items():
        done = some & measured.get(key, set())
        of[key] = Count(len(done), len((some & failed.get(key, set())) - done))
    planned = sum(map(len, steps.values()))
    return Counts(planned, sum(each.measured for each in of.values()), sum(each.failed for each in of.values()), of)
