"""Asking a study or a run to stop, and what `run` and `retry` make of it."""

import threading
from collections.abc import Container
from pathlib import Path
from typing import Any

import pytest
from study_on_disk import outcome, rewrite_measurements, small_study, write_study

from tangentscope.pipeline.driver import execution, stop
from tangentscope.pipeline.driver import run as study
from tangentscope.pipeline.driver.standing import clear, standings
from tangentscope.pipeline.store import layout, run_files
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.launch import claim
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.system.errors import Stopped, UserError

Study = tuple[Storage, dict[str, Any]]


def taken_up(storage: Storage, again: Container[str] = ()) -> tuple[list[str], int]:
    """Ids of runs that a launch trains, and how many snapshots of others it has to read, once it has cleared."""
    found = standings(Store(storage), again)
    clear(storage, found)
    return [each.run for each in found if each.trains], sum(each.unread for each in found if not each.trains)


def test_stopping_a_study_waits_until_its_launch_has_ended(planned: Study):
    storage, _ = planned
    holds = threading.Event()

    def hold() -> None:
        with claim(storage) as launch:
            holds.set()
            while not launch.stopping:
                holds.wait(0.01)

    thread = threading.Thread(target=hold)
    thread.start()
    holds.wait()
    said = list(stop.stop(Store(storage)))
    assert said == ["asked quickstart to stop", "stopped; `tangentscope run` goes on from there"]
    thread.join()
    with claim(storage) as launch:
        assert not launch.stopping, "the next launch has not been asked"


def test_there_must_be_something_to_stop(planned: Study):
    storage, _ = planned
    with pytest.raises(UserError, match="nobody runs this study; there is nothing to stop"):
        list(stop.stop(Store(storage)))
    with claim(storage):
        pass
    with pytest.raises(UserError, match="nobody runs this study"):
        list(stop.stop(Store(storage)))


def test_runs_are_stopped_by_name_or_id(planned: Study):
    storage, plan = planned
    first, second = plan["runs"]
    said = list(stop.stop(Store(storage), [first["name"], second["run"]]))
    assert said == [f"asked {run['name']} to stop; `tangentscope retry` takes it up again" for run in (first, second)]
    assert all(storage.exists(run_files.stop(run["run"])) for run in (first, second))


def test_runs_that_cannot_be_stopped_are_told_before_any_is(planned: Study):
    storage, plan = planned
    first, second = plan["runs"]
    with pytest.raises(UserError, match=r'run "width=4 seed=0" unknown; allowed: .*; did you mean "width='):
        list(stop.stop(Store(storage), [second["name"], "width=4 seed=0"]))
    storage.write_json(run_files.outcome(first["run"]), outcome())
    with pytest.raises(UserError, match=r"run width=3 seed=0 has ended already \(finished\); leave it out"):
        list(stop.stop(Store(storage), [second["name"], first["name"]]))
    assert not storage.exists(run_files.stop(second["run"]))


@pytest.mark.parametrize("state", ["failed", "stopped"])
@pytest.mark.parametrize("again", [False, True])
def test_what_has_failed_or_was_stopped_waits_for_a_retry(finished: Study, state: str, again: bool):
    storage, plan = finished
    ended, other = (run["run"] for run in plan["runs"])
    storage.write_json(run_files.outcome(ended), outcome(state, "said so"))
    storage.write(run_files.stop(ended), b"")
    storage.write(run_files.checkpoint(ended, 3, 1), b"state")
    todo, unread = taken_up(storage, {ended, other} if again else set())
    assert (todo, unread) == ([ended] if again else [], 0)
    assert storage.exists(run_files.outcome(ended)) != again
    assert storage.exists(run_files.stop(ended)) != again
    assert storage.exists(run_files.checkpoint(ended, 3, 1)), "a retry goes on from it"
    assert storage.exists(run_files.outcome(other))


def test_snapshots_of_a_failed_run_are_measured_all_the_same(finished: Study):
    storage, plan = finished
    run = plan["runs"][0]["run"]
    rewrite_measurements(storage, plan, lambda row: None if (row["run"], row["step"]) == (run, 2) else row)
    storage.write_json(run_files.outcome(run), outcome("failed", "NaN"))
    assert taken_up(storage) == ([], 1)


def test_a_retry_is_of_runs_that_there_are():
    runs = small_study()[1]
    assert study._chosen(runs, []) == {run.id for run in runs}
    assert study._chosen(runs, [runs[1].name]) == study._chosen(runs, [runs[1].id]) == {runs[1].id}
    with pytest.raises(UserError, match='run "seed=7" unknown; allowed: '):
        study._chosen(runs, [runs[0].name, "seed=7"])


def test_failed_measurements_are_tried_again_by_a_retry_only(tmp_path: Path):
    storage, plan = write_study(tmp_path)
    run = plan["runs"][0]["run"]
    failed = {"state": "failed"}
    rewrite_measurements(storage, plan, lambda row: row | (failed if (row["run"], row["step"]) == (run, 2) else {}))
    assert taken_up(storage) == ([], 0)
    storage.write_json(layout.PLAN, plan | {"retried": {run: 2}})
    assert taken_up(storage, {run}) == ([], 1)


def test_with_fail_fast_one_failure_stops_everything(finished: Study):
    storage, plan = finished
    first, second = (run["run"] for run in plan["runs"])
    execution.stop_at_failure(Store(storage), [first, second])
    storage.write_json(run_files.outcome(second), outcome("failed", "ValueError: NaN"))
    execution.stop_at_failure(Store(storage), [first])  # that one failed in an earlier launch
    with pytest.raises(Stopped, match="width=5 seed=0 failed: ValueError: NaN; all else was stopped") as stopped:
        execution.stop_at_failure(Store(storage), [first, second])
    assert stopped.value.code == 1
