"""How fast a launch is: what was done since it began, and what is left."""

from types import SimpleNamespace
from typing import Any

import pytest
from study_on_disk import checksum, measurement_rows, outcome

from tangentscope.pipeline.driver import pace
from tangentscope.pipeline.driver.pace import Pace
from tangentscope.pipeline.store import run_files, tables
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.launch import claim, claimed_at
from tangentscope.pipeline.store.layout import SnapshotName
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.system import throttle

Study = tuple[Storage, dict[str, Any]]


@pytest.fixture
def running(planned: Study, monkeypatch: pytest.MonkeyPatch):
    """The planned study under way, 100 s after its launch."""
    storage, plan = planned
    with claim(storage) as launch:
        begun = claimed_at(storage, launch.epoch)
        assert begun is not None
        monkeypatch.setattr(pace.time, "time", lambda: begun + 100)
        yield storage, plan, begun


def begin(storage: Storage, run: str, launch: int, resumed_at: int = 0, attempt: int = 1) -> None:
    record = {"attempt": attempt, "launch": launch, "resumed_at": resumed_at}
    storage.write_json(f"runs/{run}/attempts/{attempt:04d}.json", record)


def taken(storage: Storage, run: str, step: int) -> None:
    storage.write(run_files.snapshot(run, SnapshotName(step, 1, checksum(step))), b"parameters")


def test_nobody_runs_it(finished: Study):
    assert pace.of_launch(Store(finished[0])) is None
    assert claimed_at(finished[0], 1) is None


def test_nothing_tells_before_the_first_step(running):
    storage, plan, _ = running
    assert pace.of_launch(Store(storage)) == Pace(0.0, None)
    begin(storage, plan["runs"][0]["run"], launch=1)
    assert pace.of_launch(Store(storage)) == Pace(0.0, None)


def test_training_goes_on_as_fast_as_so_far(running):
    storage, plan, begun = running
    first, second = plan["runs"]
    begin(storage, first["run"], launch=7)  # of an earlier launch: tells nothing of this one's pace
    begin(storage, first["run"], launch=1, resumed_at=1, attempt=2)
    taken(storage, first["run"], 2)
    weights = [run["parameters"] * run["batch_size"] for run in (first, second)]
    # All values there are to measure of what is trained so far are on storage.
    rows = [row for run in (first, second) for step in run["schedule"] for row in measurement_rows(plan, run, step)]
    tables.write_part(storage, "measurements", [row | {"recorded_at": begun + 50} for row in rows], "hub")
    left = weights[0] * (4 - 2) + weights[1] * 4
    assert pace.of_launch(Store(storage)) == Pace(pytest.approx(48 / 100), pytest.approx(100 * left / weights[0]))


def test_measuring_that_is_behind_sets_the_end(running):
    storage, plan, begun = running
    for run in plan["runs"]:
        begin(storage, run["run"], launch=1)
        storage.write_json(run_files.outcome(run["run"]), outcome())
    rows = measurement_rows(plan, plan["runs"][0], 0)
    old = [row | {"recorded_at": begun - 1} for row in measurement_rows(plan, plan["runs"][0], 1)]
    tables.write_part(storage, "measurements", old, "hub")
    tables.write_part(storage, "measurements", [row | {"recorded_at": begun + 50} for row in rows], "hub")
    found = pace.of_launch(Store(storage))
    assert found == Pace(pytest.approx(6 / 100), pytest.approx((48 - 12) / (6 / 100)))


def test_at_the_end_nothing_is_left(running):
    storage, plan, begun = running
    for run in plan["runs"]:
        begin(storage, run["run"], launch=1)
        storage.write_json(run_files.outcome(run["run"]), outcome())
        rows = [row for step in run["schedule"] for row in measurement_rows(plan, run, step)]
        failed = {"state": "failed", "recorded_at": begun + 1}
        tables.write_part(storage, "measurements", [*rows[1:], rows[0] | failed], "hub")
    found = pace.of_launch(Store(storage))
    assert found is not None
    assert found.seconds_left == 0


def test_the_longer_a_look_takes_the_later_comes_the_next(monkeypatch: pytest.MonkeyPatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(throttle, "time", SimpleNamespace(monotonic=lambda: clock.now))
    look = throttle.Throttle()
    assert look.is_due
    with look:
        clock.now += 2.0
    assert look.seconds_left == pytest.approx(200.0)
    clock.now += 199.0
    assert not look.is_due
    clock.now += 2.0
    assert look.is_due
    with look:
        pass
    assert look.is_due  # what costs nothing may be done at any time
