"""One study through every real component: Ray Train, probe actors, Parquet, MLflow on SQLite, figures and report."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from small_study import SMALL, keys, planned_keys

from tangentscope import pipeline
from tangentscope.models import MLP
from tangentscope.pipeline.store import run_files, tables
from tangentscope.pipeline.store.points import read_points
from tangentscope.pipeline.store.snapshots import read_snapshot
from tangentscope.pipeline.tracking.study_report import REPORTS, TRAININGS

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("undisturbed")]

ISSUED = "study run task model seed step epoch split outputs variable value stderr draws probe_seconds lag_seconds"


def test_every_planned_value_is_measured_once(undisturbed):
    frame = pipeline.load(undisturbed.out)
    assert sorted(keys(frame)) == sorted(planned_keys(undisturbed.store))
    assert set(frame["state"]) == {"measured"}
    assert set(ISSUED.split()) | {"model.width"} <= set(frame.columns)
    assert (frame["lag_seconds"] > 0).all()
    assert (frame["probe_seconds"] > 0).all()
    assert np.isfinite(frame["stderr"]).all()  # two draws, so there is one


def test_an_independent_float64_computation_gives_the_recorded_entropy_and_trace(undisturbed):
    """From the kept files alone: no kernel, spectrum or variable of ours."""
    storage, store = undisturbed.storage, undisturbed.store
    frame = pipeline.load(undisturbed.out)
    run = next(run for run in store.runs if run.varied["model.width"] == 16)
    for name in run_files.current_snapshots(storage, run.id)[::3]:
        state, _ = read_snapshot(storage, run.id, name)
        model = MLP(width=16).build((1, 28, 28), 10).double()
        model.load_state_dict({key: value.double() for key, value in state.items()})
        for probe in store.plan.probes:
            traces, entropies = [], []
            points = read_points(storage, probe.id)
            for inputs in points["inputs"][points["draws"]].double():
                rows = []
                for output in model(inputs).reshape(-1):
                    gradients = torch.autograd.grad(output, list(model.parameters()), retain_graph=True)
                    rows.append(torch.cat([gradient.reshape(-1) for gradient in gradients]))
                jacobian = torch.stack(rows).numpy()
                eigenvalues = np.linalg.svd(jacobian, compute_uv=False) ** 2
                shares = eigenvalues[eigenvalues > 0] / eigenvalues.sum()
                traces.append(eigenvalues.sum())
                entropies.append(-(shares * np.log(shares)).sum())
            here = frame[(frame["run"] == run.id) & (frame["step"] == name.step)]
            recorded = here[here["probe"] == probe.id].set_index("variable")["value"]
            assert recorded["trace"] == pytest.approx(np.mean(traces), rel=1e-4)
            assert recorded["entropy"] == pytest.approx(np.mean(entropies), rel=1e-4)


def test_mlflow_has_a_finished_flat_run_per_training(undisturbed):
    client = mlflow.MlflowClient(f"sqlite:///{undisturbed.out.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], TRAININGS)
    assert {run.info.run_name for run in runs} == {"width=4 seed=0", "width=16 seed=0"}
    for run in runs:
        assert run.info.status == "FINISHED"
        assert "mlflow.parentRunId" not in run.data.tags
        assert {"task", "model", "width", "seed", "git_commit", "version.torch", "data"} <= set(run.data.tags)
        assert run.data.params["optimiser.lr"] == "0.001"
        variables = ["loss", "accuracy", "entropy", "trace", "effective_rank"]
        assert {f"{split}/{name}" for split in ("train", "test") for name in variables} == set(run.data.metrics)
        schedule = [*undisturbed.store.runs[0].schedule]
        history = client.get_metric_history(run.info.run_id, "test/entropy")
        assert sorted(point.step for point in history) == schedule
        assert not client.list_artifacts(run.info.run_id)
    (report,) = client.search_runs([experiment.experiment_id], REPORTS)
    artifacts = {artifact.path for artifact in client.list_artifacts(report.info.run_id)}
    assert {"report.html", "figures", "study.yaml", "provenance.json"} <= artifacts
    figures = {artifact.path for artifact in client.list_artifacts(report.info.run_id, "figures")}
    assert {"figures/curves.png", "figures/curves.pdf"} <= figures


def test_tables_figures_and_report_lie_in_the_output(undisturbed):
    out: Path = undisturbed.out
    for table in tables.SCHEMAS:
        whole = pq.read_table(out / f"{table}.parquet").to_pandas()
        assert len(whole) == len(pipeline.load(out, table))
        assert (len(whole) > 0) == (table != "profiles")  # no variable is one
        assert len(list((out / "tables" / table).glob("*.parquet"))) == (table != "profiles")  # compacted
    side = 10 * 10
    assert {len(values) for values in pipeline.load(out, "spectra")["eigenvalues"]} == {side}
    assert (out / "report.html").read_text().count("width=16") > 0
    assert (out / "figures" / "curves.pdf").read_bytes().startswith(b"%PDF")


def test_history_has_loss_and_score_of_both_splits_from_start_to_end(undisturbed):
    history = pipeline.load(undisturbed.out, "history")
    steps = [*undisturbed.store.runs[0].evaluations]
    for _, rows in history.groupby(["run", "split", "variable"]):
        assert rows["step"].tolist() == steps
    last = history[history["step"] == steps[-1]].set_index(["model.width", "split", "variable"])["value"]
    assert last[16, "train", "loss"] < math.log(10)  # it has learned something


def test_it_says_where_everything_is_and_how_to_open_it(undisturbed):
    printed = undisturbed.printed
    assert str(undisturbed.out / "report.html") in printed
    assert "mlflow server" in printed
    assert "compareRunsMode=CHART" in printed
    assert "Traceback" not in printed


def test_nothing_is_left_running(undisturbed):
    assert undisturbed.storage.read_json("launches/000001.beat")["ended"] is True


def test_kept_snapshots_are_probed_again_in_the_same_actors(undisturbed, launch, tmp_path):
    """A further variable at some steps of one run; what was measured before stays as it was."""
    shutil.copytree(undisturbed.out, tmp_path / "small")
    again = replace(undisturbed, out=tmp_path / "small")
    before, (run, _) = pipeline.load(again.out), again.store.runs
    wanted = ["--variables", "condition_number", "--data", "test", "--steps", "0:8", "--draws", "3"]
    printed = again.command("probe", run.name, *wanted, "--offline")
    assert "2 runs finished, 0 failed" in printed
    after = pipeline.load(again.out)
    new = after.loc[after["variable"] == "condition_number"]
    steps = [step for step in run.schedule if step <= 8]
    assert list(zip(new["run"], new["step"], new["draws"], strict=True)) == [(run.id, step, 3) for step in steps]
    assert set(new["state"]) == {"measured"}
    assert after.drop(new.index).reset_index(drop=True).equals(before)
    for each in again.store.runs:
        attempts = f"runs/{each.id}/attempts"
        assert again.storage.list(attempts) == undisturbed.storage.list(attempts), "nothing is trained again"
    assert "of 8 snapshots" not in again.command("status")


def test_run_again_does_only_what_is_missing(undisturbed, launch, tmp_path):
    """Nothing at first, then a new width alone and new variables on kept snapshots without training."""
    out = tmp_path / "small"
    first = launch(out, "--offline", grid={"model.width": [4]})
    first.finish()
    before = {name: (out / name).stat().st_mtime_ns for name in snapshot_files(out)}
    launch(out, "--offline", grid={"model.width": [4]}).finish()
    probes = {**SMALL["probes"], "variables": ["trace", "entropy_cosine", "kernel_velocity"]}
    more = launch(out, "--offline", grid={"model.width": [4, 8]}, probes=probes)
    more.finish()
    after = {name: (out / name).stat().st_mtime_ns for name in snapshot_files(out)}
    assert before.items() < after.items()  # untouched, and more
    attempts = {run.name: len(more.storage.list(f"runs/{run.id}/attempts")) for run in more.store.runs}
    assert attempts == {"width=4 seed=0": 1, "width=8 seed=0": 1}
    frame = pipeline.load(out)
    assert planned_keys(more.store) <= set(keys(frame))
    assert len(keys(frame)) == len(set(keys(frame)))
    old = pipeline.load(undisturbed.out)
    same = ["run", "step", "split", "variable"]
    both = frame.merge(old, on=same, suffixes=("", "_undisturbed"))
    assert len(both) > 0
    assert (both["value"] == both["value_undisturbed"]).all()  # same run, other launch, other study: same numbers


def snapshot_files(out: Path) -> list[str]:
    return [str(path.relative_to(out)) for path in out.glob("runs/*/snapshots/*.safetensors")]
