"""Deaths, interrupts and absences: nothing is lost, nothing is done twice, nothing is left running."""

import os
import signal
import subprocess
import sys

import mlflow
import numpy as np
import psutil
import pytest
from long_study import LONG, half_trained, same_numbers, started, the_run
from processes import free_port, mlflow_server
from small_study import keys, planned_keys

from tangentscope import pipeline
from tangentscope.pipeline.store import run_files, tables
from tangentscope.pipeline.tracking.study_report import REPORTS, TRAININGS

pytestmark = pytest.mark.ray


def mlflow_runs(one) -> tuple[mlflow.MlflowClient, list]:
    client = mlflow.MlflowClient(f"sqlite:///{one.out.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    return client, list(client.search_runs([experiment.experiment_id], TRAININGS))


@pytest.mark.xdist_group("straight")
def test_every_comparison_is_made_and_only_the_ends_are_kept(straight):
    run = straight.store.runs[0]
    there = run_files.current_snapshots(straight.storage, run.id)
    assert [name.step for name in there] == [*run.schedule]
    assert [name.step for name in there if not name.freed] == [0, run.steps]
    frame = pipeline.load(straight.out)
    assert set(frame["state"]) == {"measured"}
    said = [f"{name.step}-{name.checksum}" for name in there]
    for _, rows in frame.groupby("split"):
        rows = {name: of_one.set_index("step").sort_index() for name, of_one in rows.groupby("variable")}
        assert rows["kernel_velocity"]["compared_with"].tolist() == ["nothing", *said[:-1]]
        assert np.isfinite(rows["kernel_velocity"]["value"]).tolist() == [False] + [True] * (len(said) - 1)
        assert set(rows["kernel_distance"]["compared_with"]) == {said[0]}
        distance = rows["kernel_distance"]["value"].to_numpy()
        assert distance[0] == pytest.approx(0, abs=1e-6)
        assert (distance[1:] > 1e-4).all()
        assert ((rows["label_alignment"]["value"] > 0) & (rows["label_alignment"]["value"] < 1)).all()
        assert (rows["kinetic_energy"]["value"] > 0).all()
        assert set(rows["projection_factors"]["length"]) == {100}
    profiles = pipeline.load(straight.out, "profiles")
    assert len(profiles) == len(there) * 2 * 2  # splits, draws
    assert {len(values) for values in profiles["values"]} == {100}
    assert "NaN or infinite" not in straight.printed


@pytest.mark.xdist_group("straight")
def test_killing_a_training_worker_and_a_prober_loses_and_doubles_nothing(launch, straight, tmp_path):
    hit = launch(tmp_path / "small", **LONG)
    hit.until(lambda: half_trained(hit))
    probers = hit.descendants("ray::Prober")
    assert probers
    for prober in probers:
        prober.send_signal(signal.SIGKILL)
    trainer = psutil.Process(hit.storage.read_json(f"runs/{the_run(hit)}/attempts/0001.json")["pid"])
    assert not hit.storage.exists(run_files.outcome(the_run(hit)))  # it dies in the middle
    trainer.send_signal(signal.SIGKILL)
    hit.finish()
    second = hit.storage.read_json(f"runs/{the_run(hit)}/attempts/0002.json")
    assert second["resumed_at"] > 0
    assert not hit.storage.exists(f"runs/{the_run(hit)}/replays")  # the replay came by the same states
    same_numbers(hit, straight)
    client, runs = mlflow_runs(hit)
    assert [run.info.status for run in runs] == ["FINISHED"]
    for name in ("test/entropy", "test/loss"):
        steps = [point.step for point in client.get_metric_history(runs[0].info.run_id, name)]
        assert len(steps) == len(set(steps)) > 0


@pytest.mark.xdist_group("straight")
@pytest.mark.slow  # tests/pipeline/test_carrying.py has the rule itself
def test_a_launch_starts_another_ray_where_its_own_has_died(launch, straight, tmp_path):
    hit = launch(tmp_path / "small", **LONG)
    hit.until(lambda: half_trained(hit))
    (raylet,) = hit.descendants("/raylet/raylet")
    raylet.kill()
    assert hit.finish().count("going on with a new one (1 of 3)\n") == 1
    second = hit.storage.read_json(f"runs/{the_run(hit)}/attempts/0002.json")
    assert (second["launch"], second["start"], second["resumed_at"] > 0) == (2, 0, True)
    same_numbers(hit, straight)
    _, runs = mlflow_runs(hit)
    assert [run.info.status for run in runs] == ["FINISHED"]


@pytest.mark.slow
def test_a_damaged_snapshot_that_was_removed_is_made_and_measured_anew(launch, tmp_path):
    hit = launch(tmp_path / "small", "--offline")
    hit.finish()
    run = hit.store.runs[0]
    name = run_files.current_snapshots(hit.storage, run.id)[3]
    file = hit.out / run_files.snapshot(run.id, name)
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    for part in tables.part_names(hit.storage, "measurements"):
        hit.storage.remove(part)
    printed = launch(tmp_path / "small", "--offline").finish(code=1)
    assert f"{name.file}: damaged (checksum " in printed
    assert "retry" not in printed
    file.unlink()
    again = launch(tmp_path / "small", "--offline")
    assert "retrain" in again.finish()
    assert set(pipeline.load(again.out)["state"]) == {"measured"}
    assert sorted(keys(pipeline.load(again.out))) == sorted(planned_keys(again.store))


@pytest.mark.xdist_group("straight")
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, *(pytest.param(each, marks=pytest.mark.slow) for each in (signal.SIGINT, signal.SIGHUP))]
)
def test_an_interrupt_leaves_a_resumable_study_and_no_run_marked_as_running(launch, straight, tmp_path, number):
    hit = launch(tmp_path / "small", **LONG)
    hit.until(lambda: half_trained(hit))
    below = psutil.Process(hit.process.pid).children(recursive=True)
    os.killpg(hit.process.pid, number)  # as a terminal and timeout(1) do
    printed = hit.finish(code=130)
    assert "run the same command again" in printed
    assert "Traceback" not in printed
    _, gone_on = psutil.wait_procs(below, timeout=30)
    assert not gone_on
    assert hit.storage.read_json("launches/000001.beat")["ended"] is True
    _, runs = mlflow_runs(hit)
    assert [run.info.status for run in runs] == ["KILLED"]
    assert hit.storage.list(f"runs/{the_run(hit)}/checkpoints")
    assert not hit.storage.exists(run_files.outcome(the_run(hit)))

    again = launch(tmp_path / "small", **LONG)
    again.finish()
    assert again.storage.read_json(f"runs/{the_run(hit)}/attempts/0002.json")["resumed_at"] > 0
    same_numbers(again, straight)
    _, runs = mlflow_runs(again)
    assert [run.info.status for run in runs] == ["FINISHED"]


@pytest.mark.xdist_group("straight")
@pytest.mark.slow
def test_killing_the_whole_launch_loses_nothing_that_was_stored(launch, straight, tmp_path):
    hit = launch(tmp_path / "small", "--offline", **LONG)
    hit.until(lambda: half_trained(hit))
    # Those that could publish; Ray's own agents take a minute to see that they are orphans.
    below = [each for title in ("Hub", "Prober", "RayTrainWorker") for each in hit.descendants(f"ray::{title}")]
    assert len(below) == 3
    hit.process.kill()
    hit.process.wait()
    again = launch(tmp_path / "small", "--offline", **LONG)  # at once: orphans may still be there
    again.finish()
    _, gone_on = psutil.wait_procs(below, timeout=60)
    assert not gone_on
    assert again.storage.read_json(f"runs/{the_run(hit)}/attempts/0002.json")["launch"] == 2
    same_numbers(again, straight)


def test_probes_slower_than_training_do_not_hold_it_up(launch, tmp_path):
    """With a hundred times the work for probes, training ends while most snapshots still wait on disk."""
    slow = launch(
        tmp_path / "small",
        "--offline",
        train={"epochs": 40, "batch_size": 50},
        grid={"model.width": [16]},
        probes={"schedule": {"every": {"epochs": 1}}, "kernel": {"draws": 30, "size": 20}},
    )
    slow.until(lambda: started(slow) and slow.storage.exists(run_files.outcome(the_run(slow))))
    measured = tables.read_parts(slow.storage, "measurements").frame["step"].nunique()
    assert measured < len(slow.store.runs[0].schedule) / 2
    slow.finish()
    frame = pipeline.load(slow.out)
    assert set(keys(frame)) == planned_keys(slow.store)
    assert slow.store.outcomes()[the_run(slow)].ended_at < frame["recorded_at"].median()


@pytest.mark.xdist_group("undisturbed")
def test_two_workers_train_as_one_does(launch, tmp_path, undisturbed):
    """The same global batches, DDP on two gloo workers: equal to float tolerance."""
    pair = launch(tmp_path / "small", "--offline", resources={"train": {"workers": 2}})
    pair.finish()
    outcomes = pair.store.outcomes().values()
    assert {outcome.workers for outcome in outcomes} == {2}
    for table, rel in (("history", 1e-3), ("measurements", 1e-2)):
        key = [column for column in tables.KEYS[table] if column != "probe"] + ["split"]
        frames = [pipeline.load(each.out, table).set_index(list(dict.fromkeys(key))) for each in (pair, undisturbed)]
        values = [frame["value"].sort_index() for frame in frames]
        assert values[0].index.tolist() == values[1].index.tolist()
        np.testing.assert_allclose(values[0].to_numpy(), values[1].to_numpy(), rtol=rel)


@pytest.mark.slow  # tests/pipeline/test_launch.py has the rule itself
def test_a_second_launch_is_refused_while_the_first_one_lives(launch, tmp_path):
    # It ends when it is told to, however long the other takes to start.
    endless = {"train": {"epochs": 10**6, "batch_size": 50}, "probes": {"schedule": {"kind": "log", "points": 10}}}
    first = launch(tmp_path / "small", "--offline", **{**LONG, **endless})
    first.until(lambda: started(first))
    printed = launch(tmp_path / "small", "--offline", **{**LONG, **endless}).finish(code=2)
    assert printed.count("\n") == 1
    assert "is held by another launch (process" in printed
    first.process.send_signal(signal.SIGTERM)
    first.finish(code=130)


@pytest.mark.slow
def test_a_tracking_server_that_goes_away_costs_nothing(launch, tmp_path):
    port = free_port()
    env = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
    with mlflow_server(tmp_path, port):
        hit = launch(tmp_path / "small", env=env, **LONG)
        hit.until(lambda: half_trained(hit))
    printed = hit.finish()
    assert "MLflow is behind" in printed
    assert set(keys(pipeline.load(hit.out))) == planned_keys(hit.store)
    with mlflow_server(tmp_path, port):
        for _ in range(2):  # sending everything twice is as good as once
            command = [sys.executable, "-m", "tangentscope", "sync", str(hit.out)]
            subprocess.run(command, env={**os.environ, **env}, check=True, capture_output=True)
        client = mlflow.MlflowClient(env["MLFLOW_TRACKING_URI"])
        experiment = client.get_experiment_by_name("small")
        assert experiment is not None
        (run,) = client.search_runs([experiment.experiment_id], TRAININGS)
        assert run.info.status == "FINISHED"
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "train/trace")]
        assert sorted(steps) == [*hit.store.runs[0].schedule]
        (report,) = client.search_runs([experiment.experiment_id], REPORTS)
        assert "report.html" in {artifact.path for artifact in client.list_artifacts(report.info.run_id)}
