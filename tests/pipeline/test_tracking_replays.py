"""Rows come again, or a replay leaves the trajectory: MLflow has one point a step, all of one trajectory."""

from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow_store import points, runs_of
from study_on_disk import START, history_rows, write_study

from tangentscope.pipeline.store import tables
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.tracking import tracker as tracking
from tangentscope.pipeline.tracking.tracker import Tracker


def test_a_compaction_sends_nothing_again(uri: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    storage, _ = write_study(tmp_path, name)
    sent = []
    plain = MlflowClient.log_batch
    monkeypatch.setattr(
        MlflowClient,
        "log_batch",
        lambda self, run_id, metrics=(), *rest: (sent.extend(metrics), plain(self, run_id, metrics, *rest)),
    )
    tracker = Tracker(storage, uri)
    tracker.follow()
    count = len(sent)
    assert count > 0
    Store(storage).publish("compact")
    tracker.finish()
    assert len(sent) == count


def test_a_second_look_asks_nothing_of_runs_that_are_whole_and_sends_the_rest(
    uri: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    storage, plan = write_study(tmp_path, name)
    storage.write("report.html", b"as made")
    Tracker(storage, uri).finish()
    before = [(run.info.run_id, points(uri, run)) for run in runs_of(uri, name)]
    calls = []
    for method in ("create_run", "log_batch", "log_artifacts", "get_metric_history", "set_terminated", "set_tag"):
        plain = getattr(MlflowClient, method)
        monkeypatch.setattr(
            MlflowClient,
            method,
            lambda self, run, *rest, _name=method, _plain=plain, **more: (
                calls.append((_name, run)),
                _plain(self, run, *rest, **more),
            )[1],
        )
    Tracker(storage, uri).finish()
    assert calls == []
    tables.write_part(storage, "history", history_rows(plan["runs"][0], 3), "train")
    Tracker(storage, uri).finish()
    assert {run for _, run in calls} == {before[0][0]}
    assert [name for name, _ in calls].count("log_batch") == 1
    monkeypatch.undo()
    after = [(run.info.run_id, points(uri, run)) for run in runs_of(uri, name)]
    assert after[1] == before[1]
    assert [step for step, _ in after[0][1]["test/loss"]] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_sending_that_is_cut_short_is_gone_on_with(
    call: int, uri: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What MLflow has is asked for, and each point is there once."""
    storage, _ = write_study(tmp_path, name)
    monkeypatch.setattr(tracking, "_BATCH", 10)
    plain, calls = MlflowClient.log_batch, []

    def fails(self: MlflowClient, *arguments, **more) -> None:
        calls.append(0)
        if len(calls) == call:
            raise ConnectionError("gone")
        plain(self, *arguments, **more)

    monkeypatch.setattr(MlflowClient, "log_batch", fails)
    with pytest.raises(ConnectionError):
        Tracker(storage, uri).finish()
    Tracker(storage, uri).finish()
    runs = runs_of(uri, name)
    assert [run.info.status for run in runs] == ["FINISHED"] * 2
    assert all(run.data.params["model.depth"] == "3" for run in runs)
    for run in runs:
        curves = points(uri, run)
        assert len(curves) == 10
        assert all([step for step, _ in curve] == [0, 1, 2, 4] for curve in curves.values())


@pytest.mark.parametrize("anew", [False, True], ids=["the same tracker", "another tracker"])
def test_a_diverging_replay_takes_the_place_of_the_whole_curve(anew: bool, uri: str, name: str, tmp_path: Path):
    """No curve is spliced from two trajectories: the replaced one's run is deleted, its successor has one a step."""
    storage, plan = write_study(tmp_path, name)
    run = plan["runs"][0]
    tracker = Tracker(storage, uri)
    tracker.follow()
    before = runs_of(uri, name)
    storage.write_json(f"runs/{run['run']}/replays/0002.json", {"after_step": 1})
    later = [row for step in (2, 4) for row in history_rows(run, step, attempt=2, value=77.0 + step)]
    tables.write_part(storage, "history", later, "replay")
    (Tracker(storage, uri) if anew else tracker).finish()
    after = runs_of(uri, name)
    assert len(after) == len(before) == 2
    assert before[0].info.run_id not in {each.info.run_id for each in after}
    assert before[1].info.run_id in {each.info.run_id for each in after}
    found = points(uri, after[0])["test/loss"]
    assert [step for step, _ in found] == [0, 1, 2, 4]
    assert [value for step, value in found if step > 1] == [79.0, 81.0]
    assert points(uri, after[1]) == points(uri, before[1])


@pytest.mark.parametrize("anew", [False, True], ids=["the same tracker", "another tracker"])
def test_a_replay_of_the_same_values_leaves_one_point_a_step(anew: bool, uri: str, name: str, tmp_path: Path):
    """The rows come again, recorded later: the same curve, not a second one on top of it."""
    storage, plan = write_study(tmp_path, name)
    tracker = Tracker(storage, uri)
    tracker.follow()
    before = [(run.info.run_id, points(uri, run)) for run in runs_of(uri, name)]
    again = [row for step in (2, 4) for row in history_rows(plan["runs"][0], step, attempt=2, recorded_at=START + 99)]
    tables.write_part(storage, "history", again, "replay")
    (Tracker(storage, uri) if anew else tracker).finish()
    assert [(run.info.run_id, points(uri, run)) for run in runs_of(uri, name)] == before


def test_a_replay_of_other_values_with_no_snapshot_to_tell_it_by_makes_the_curve_anew(
    uri: str, name: str, tmp_path: Path
):
    storage, plan = write_study(tmp_path, name)
    tracker = Tracker(storage, uri)
    tracker.follow()
    before = runs_of(uri, name)
    tables.write_part(storage, "history", history_rows(plan["runs"][0], 4, attempt=2, value=77.0), "replay")
    tracker.follow()
    after = runs_of(uri, name)
    assert [one.info.run_id == other.info.run_id for one, other in zip(before, after, strict=True)] == [False, True]
    found = points(uri, after[0])["test/loss"]
    assert [step for step, _ in found] == [0, 1, 2, 4]
    assert found[-1] == (4, 77.0)
    assert points(uri, after[0])["test/trace"] == points(uri, before[0])["test/trace"]
