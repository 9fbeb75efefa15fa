"""Which runs need nothing more, told from all rows at once: a ledger takes each row by itself, and keeps it.

What a launch keeps in mind is then of the runs that it works on, and not of thousands that ended before it.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from tangentscope.pipeline.probing.ledger import Ledger
from tangentscope.pipeline.store.layout import SnapshotName
from tangentscope.pipeline.store.outcome import Outcome
from tangentscope.pipeline.store.plan import Plan
from tangentscope.pipeline.store.planned import PlannedRun

Present = Mapping[str, Sequence[SnapshotName]]
"""The snapshots of each run's present trajectory."""

_ROW = ["run", "step", "probe", "variable"]
_COMPARED = ("run", "step", "variable", "compared_with")


def settled(plan: Plan, rows: pd.DataFrame, present: Present, outcomes: Mapping[str, Outcome]) -> set[str]:
    """The runs that have ended, of which every wanted value is measured and no snapshot is still to be freed.

    A ledger finds nothing to do for them; its own account of what is measured is the same, row by row.

    Args:
        plan: The study's.
        rows: Measurements, one a key, as `Store.recorded` has them.
        present: Of every run of the plan.
        outcomes: Of the runs that have one.
    """
    versions = rows["variable"].map(plan.versions.get)
    measured = rows.loc[(rows["state"] == "measured") & (rows["version"] == versions)]
    there = [(run, name.step, name.checksum) for run, names in present.items() for name in names]
    names = pd.DataFrame(there, columns=["run", "step", "checksum"]).astype({"step": "int64"})
    measured = measured.merge(names, on=["run", "step", "checksum"])
    measured = measured.loc[_compared_with_present(plan, measured, present), _ROW]
    whole = _whole(plan, measured)
    return {run.id for run in whole if run.id in outcomes and not _to_free(plan, run, present[run.id])}


def ledger_of(plan: Plan, rows: pd.DataFrame, runs: Container[str] | None = None) -> Ledger:
    """A ledger with the measurements that are recorded; no snapshot is noticed yet.

    Args:
        plan: The study's.
        rows: Measurements, one a key, as `Store.recorded` has them.
        runs: Ids of those of the plan's that it is about; all by default.
    """
    ledger = Ledger(plan if runs is None else replace(plan, runs=tuple(run for run in plan.runs if run.id in runs)))
    ours = rows.loc[rows["run"].isin([*ledger.plan.run_of])]
    ledger.restore(dict(zip(ours.columns, row, strict=True)) for row in ours.itertuples(index=False, name=None))
    return ledger


def _whole(plan: Plan, measured: pd.DataFrame) -> list[PlannedRun]:
    """The runs of which as many wanted values are measured as there are."""
    groups: dict[tuple[object, ...], list[PlannedRun]] = {}
    for run in plan.runs:
        groups.setdefault(run.wish, []).append(run)
    found: list[PlannedRun] = []
    for runs in groups.values():
        values = [(s, p, v) for s, probes in plan.wanted(runs[0]).items() for p, names in probes.items() for v in names]
        planned = pd.DataFrame(values, columns=_ROW[1:]).astype({"step": "int64"})
        ours = measured.loc[measured["run"].isin([run.id for run in runs])]
        counts = ours.merge(planned, on=_ROW[1:])["run"].value_counts()
        found += [run for run in runs if counts.get(run.id, 0) == len(values) > 0]
    return found


def _compared_with_present(plan: Plan, rows: pd.DataFrame, present: Present) -> np.ndarray:
    """Which rows compare with the snapshots that are there now; those that compare with nothing do."""
    compares = rows["variable"].isin(list(plan.compares))
    if not compares.to_numpy().any():
        return np.ones(len(rows), dtype=bool)
    ledger = Ledger(plan)
    ledger.present = {(run, name.step): name for run, names in present.items() for name in names}
    places = rows.loc[compares, ["run", "step"]].drop_duplicates()
    tags = {(run, step): ledger.tags(run, step) for run, step in zip(places["run"], places["step"], strict=True)}
    rightly = ~compares.to_numpy()
    ours = rows.loc[compares]
    rightly[compares.to_numpy()] = [
        tags[run, step][variable] == tag
        for run, step, variable, tag in zip(*(ours[name] for name in _COMPARED), strict=True)
    ]
    return rightly


def _to_free(plan: Plan, run: PlannedRun, names: Sequence[SnapshotName]) -> bool:
    """Whether a snapshot is left that the plan does not keep and, as all is measured, nobody reads."""
    kept = {"all": None, "ends": {0, run.steps}, "none": set()}[plan.keep]
    steps = plan.wanted(run)
    return kept is not None and any(not n.freed and n.step in steps and n.step not in kept for n in names)
