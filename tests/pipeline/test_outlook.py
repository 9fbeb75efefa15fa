"""What a launch would do to an output that holds something already."""

from pathlib import Path
from typing import Any

import pytest
from study_on_disk import checksum, outcome, small_study, write_plan, write_study

from tangentscope.pipeline.driver.outlook import Outlook, departing, outlook
from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.layout import Notice, SnapshotName
from tangentscope.pipeline.system.errors import UserError

WIDER = "grid.model.width=[3, 5, 7]"


def names(*widths: int) -> list[str]:
    return [f"width={width} seed=0" for width in widths]


def seen(storage: Storage, *overrides: str) -> Outlook:
    return outlook(storage, *small_study(*overrides))


def test_what_is_done_and_what_is_still_to_train(finished: tuple[Storage, dict[str, Any]]):
    assert seen(finished[0]) == Outlook(names(3, 5), [], [], [], [])
    found = seen(finished[0], WIDER)
    assert found == Outlook(names(3, 5), names(7), [], [], [])
    assert [*found.lines()] == ["2 done, 1 to train, 0 to measure, 0 to retrain"]


def test_another_variable_is_measured_on_kept_snapshots_and_trained_for_where_they_are_gone(tmp_path: Path):
    storage, plan = write_study(tmp_path / "study")
    more = "probes.variables=[trace, entropy, effective_rank, label_alignment]"
    assert seen(storage, more) == Outlook([], [], names(3, 5), [], [])
    gone = plan["runs"][1]["run"]
    run_files.bury(storage, Notice(gone, SnapshotName(2, 1, checksum(2))))
    found = seen(storage, more)
    assert found == Outlook([], [], names(3), names(5), [])
    assert [*found.lines()][1].startswith("retrain width=5 seed=0: a snapshot that is wanted now")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "study").rglob("*")}
    seen(storage, more)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "study").rglob("*")} == before


def test_a_damaged_snapshot_that_would_be_read_is_trained_for_and_left_where_it_is(tmp_path: Path):
    storage, plan = write_study(tmp_path / "study")
    file = run_files.snapshot(plan["runs"][1]["run"], SnapshotName(2, 1, checksum(2)))
    storage.write(file, storage.read(run_files.snapshot(plan["runs"][0]["run"], SnapshotName(2, 1, checksum(2)))))
    assert seen(storage) == Outlook(names(3, 5), [], [], [], [])
    assert seen(storage, "probes.variables=[trace, label_alignment]") == Outlook([], [], names(3), names(5), [])
    assert storage.exists(file)


def test_runs_that_failed_wait_for_a_retry(planned: tuple[Storage, dict[str, Any]]):
    storage, plan = planned
    storage.write_json(run_files.outcome(plan["runs"][0]["run"]), outcome("failed", "ValueError: NaN"))
    found = seen(storage)
    assert found == Outlook([], names(5), [], [], names(3))
    assert [*found.lines()] == ["0 done, 1 to train, 0 to measure, 0 to retrain, 1 failed or stopped, to `retry`"]


def test_another_study_is_refused(planned: tuple[Storage, dict[str, Any]]):
    with pytest.raises(UserError, match='holds the study "quickstart", not "other"; give another --out'):
        seen(planned[0], "name=other")


def test_runs_that_leave_the_study_are_named_with_what_has_changed(tmp_path: Path):
    storage, _ = write_study(tmp_path / "study")
    assert departing(storage, *small_study()) is None
    assert departing(storage, *small_study(WIDER)) is None
    line = departing(storage, *small_study("optimiser.lr=0.5"))
    assert line is not None
    assert line.startswith(f"{storage.uri} holds runs that the study no longer has (width=3 seed=0, width=5 seed=0)")
    assert "; optimiser.lr: 0.001 before, 0.5 now: they stay on storage" in line
    fewer = departing(storage, *small_study("grid.model.width=[3]"))
    assert fewer is not None
    assert "(width=5 seed=0); model.width: 5 before, 3 now" in fewer
    drawn = departing(storage, *small_study("task.data_seed=1"))
    assert drawn is not None
    assert "; task.data_seed: 0 before, 1 now; data: they stay" in drawn


def test_runs_that_never_began_leave_without_a_word(tmp_path: Path):
    storage, _ = write_plan(tmp_path / "study")
    assert departing(storage, *small_study("optimiser.lr=0.5")) is None
    assert departing(Storage.at(tmp_path / "nothing"), *small_study()) is None
