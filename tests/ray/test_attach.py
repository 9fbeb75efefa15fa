"""A training loop of a user's own sends its snapshots to probes, tables, report and MLflow."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
import torch
import torch.nn.functional as F

from tangentscope import pipeline, probes
from tangentscope.pipeline import attach
from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.launch import ask_to_stop
from tangentscope.pipeline.store.outcome import Outcome
from tangentscope.pipeline.store.points import read_points
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.system.errors import Stopped
from tangentscope.pipeline.tracking.study_report import TRAININGS

LOOP = Path(__file__).parent / "attached_loop.py"


def train(out: Path, *arguments: int) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    command = [sys.executable, str(LOOP), str(out), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)


def statuses(out: Path) -> list[str]:
    client = mlflow.MlflowClient(f"sqlite:///{out.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("mine")
    assert experiment is not None
    return [run.info.status for run in client.search_runs([experiment.experiment_id], TRAININGS)]


@pytest.mark.ray
def test_a_plain_loop_is_watched_and_may_fail_first(tmp_path: Path):
    out = tmp_path / "mine"
    failed = train(out, 22, 12)
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1] == "ValueError: diverged"
    store = Store(Storage.at(out))
    (run,) = store.runs
    outcome = store.outcomes()[run.id]
    assert (outcome.state, outcome.cause) == ("failed", "ValueError: diverged")
    assert "attached_loop.py" in outcome.traceback
    assert statuses(out) == ["FAILED"]
    taken = pipeline.load(out)
    assert (len(taken), set(taken["step"]), set(taken["state"])) == (3 * 2 * 4, {0, 5, 10}, {"measured"})
    assert (out / "report.html").exists()
    before = store.plan.retried[run.id]

    done = train(out, 22)  # the same states as before, and on to the end
    assert (done.returncode, done.stderr) == (0, "")
    assert store.outcomes()[run.id].state == "finished"
    assert [name.step for name in run_files.current_snapshots(store.storage, run.id)] == [0, 5, 10, 15, 20, 22]
    assert statuses(out) == ["FINISHED"]
    assert Store(store.storage).plan.retried[run.id] > before, "what failed then is measured anew"
    frame = pipeline.load(out)
    assert len(frame) == 6 * 2 * 4
    assert set(frame["state"]) == {"measured"}
    assert (out / "report.html").exists()
    assert frame["epoch"].max() == 22 / 10
    assert store.plan.report["x"] == "epoch"
    ended = store.outcomes()[run.id]
    assert 0 < ended.training_seconds < ended.seconds
    history = pipeline.load(out, "history").set_index(["split", "variable", "step"])["value"].sort_index()
    assert history["train", "loss"].index.tolist() == list(range(22))
    assert history["test", "accuracy"].iloc[-1] == pytest.approx(21 / 22)

    sys.argv = ["attached_loop.py", str(out), "22"]
    model = runpy.run_path(str(LOOP))["Mine"]()
    model.load_state_dict(torch.load(f"{out}.pt", weights_only=True))
    for probe in store.plan.probes:
        points = read_points(store.storage, probe.id)
        directly = probes.measure(
            model,
            points["inputs"],
            points["draws"],
            "full",
            ["trace", "kinetic_energy"],
            targets=points["targets"],
            loss=lambda f, y: F.cross_entropy(f, y, reduction="none"),
        )
        last = frame.loc[(frame["step"] == 22) & (frame["split"] == probe.split)].set_index("variable")["value"]
        for variable in ("trace", "kinetic_energy"):
            assert last[variable] == pytest.approx(directly.mean(variable), rel=1e-5)


@pytest.mark.ray
def test_a_loop_that_ends_early_or_is_asked_to_stop(tmp_path: Path):
    model = torch.nn.Linear(3, 1)
    asked = {"steps": 10, "train": POINTS, "kernel": {"size": 4}, "variables": ["trace"], "offline": True}

    def outcome() -> Outcome:
        store = Store(Storage.at(tmp_path / "mine"))
        return store.outcomes()[store.runs[0].id]

    with attach(model, tmp_path / "mine", **asked) as watch:
        for step in range(4):
            watch(step)
    assert (outcome().state, outcome().cause) == ("stopped", "the loop ended after 3 of 10 steps")
    assert Store(Storage.at(tmp_path / "mine")).plan.report["x"] == "step"

    def asked_in_the_middle() -> None:
        with attach(model, tmp_path / "mine", **asked) as watch:
            assert ask_to_stop(Storage.at(tmp_path / "mine"))
            while True:
                watch(4)

    with pytest.raises(Stopped, match="stopped on request after 4 of 10 steps"):
        asked_in_the_middle()
    assert (outcome().state, outcome().attempt) == ("stopped", 2)


POINTS = torch.zeros(8, 3), torch.zeros(8)
