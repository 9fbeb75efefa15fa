"""Runs that need nothing more are those for which a ledger, row by row, finds nothing to do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from study_on_disk import checksum, outcome, rewrite_measurements, small_plan, write_study

from tangentscope.pipeline.probing.settled import ledger_of, settled
from tangentscope.pipeline.store import layout, run_files
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.layout import Notice, SnapshotName
from tangentscope.pipeline.store.reader import Store

Study = tuple[Storage, dict[str, Any]]
COMPARING = "probes.variables=[trace, kernel_distance, kernel_velocity]"


def as_compared(plan: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """A row with what it compares with, as a prober writes it."""
    steps = plan["runs"][0]["schedule"]
    before = [step for step in steps if step < row["step"]][-1:]
    places = {"kernel_distance": steps[:1], "kernel_velocity": before}.get(row["variable"])
    if places is None:
        return row
    return row | {"compared_with": " ".join(f"{step}-{checksum(step)}" for step in places) or "nothing"}


def change(**fields: Any) -> Callable[[Study], None]:
    """Changes a row of the first run."""

    def of(study: Study) -> None:
        storage, plan = study
        first = plan["runs"][0]["run"]
        at = (first, 2, "kernel_velocity")

        def changed(row: dict[str, Any]) -> dict[str, Any]:
            here = (row["run"], row["step"], row["variable"]) == at
            return as_compared(plan, row) | (fields if here else {})

        rewrite_measurements(storage, plan, changed)

    return of


def without_outcome(study: Study) -> None:
    storage, plan = study
    storage.remove(run_files.outcome(plan["runs"][0]["run"]))


def another_snapshot(study: Study) -> None:
    storage, plan = study
    run = plan["runs"][0]["run"]
    storage.write(run_files.snapshot(run, SnapshotName(1, 2, "f" * 16)), b"")


def spent(study: Study) -> None:
    """All snapshots of the second run that need not be kept are freed, and none of the first."""
    storage, plan = study
    for step in (1, 2):
        run_files.bury(storage, Notice(plan["runs"][1]["run"], SnapshotName(step, 1, checksum(step))))
    storage.write_json(layout.PLAN, plan | {"keep": "ends"})


def more_wanted(study: Study) -> None:
    storage, plan = study
    first, second = plan["runs"]
    probe = {"probe": first["probes"][0], "variables": ["entropy"], "steps": [2]}
    storage.write_json(
        layout.PLAN,
        plan | {"runs": [first | {"further": [probe]}, second], "versions": plan["versions"] | {"entropy": 1}},
    )


@pytest.mark.parametrize(
    ("done", "names"),
    [
        (lambda study: None, (0, 1)),
        (change(state="failed", cause="NaN"), (1,)),
        (change(version=99), (1,)),
        (change(checksum="e" * 16), (1,)),
        (change(compared_with=f"0-{checksum(0)}"), (1,)),
        (change(compared_with=f"1-{'e' * 16}"), (1,)),
        (without_outcome, (1,)),
        (another_snapshot, (1,)),
        (spent, (1,)),
        (more_wanted, (1,)),
    ],
)
def test_they_are_those_of_which_a_ledger_wants_nothing(done: Callable[[Study], None], names, tmp_path: Path):
    storage, plan = write_study(tmp_path, COMPARING)
    storage.write_json(layout.PLAN, small_plan(COMPARING))
    change()((storage, plan))
    done((storage, plan))
    store = Store(storage)
    present, outcomes = store.snapshot_names(), store.outcomes()
    found = settled(store.plan, store.recorded(), present, outcomes)
    assert found == {plan["runs"][place]["run"] for place in names}
    ledger = ledger_of(store.plan, store.recorded())
    for run, snapshots in present.items():
        for name in snapshots:
            ledger.notice(Notice(run, name))
        steps = store.wanted(store.plan.run_of[run])
        wants = any(ledger.missing(run, step) for step in steps) or ledger.to_free(run, steps)
        assert (run in found) == (not wants and run in outcomes)


def test_a_failed_run_of_which_all_is_measured_is_settled(tmp_path: Path):
    storage, plan = write_study(tmp_path)
    run = plan["runs"][0]["run"]
    storage.write_json(run_files.outcome(run), outcome("failed", "NaN"))
    store = Store(storage)
    assert run in settled(store.plan, store.recorded(), store.snapshot_names(), store.outcomes())
