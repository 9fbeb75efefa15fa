"""A study, or one of its runs, is stopped from another shell, looked at, and taken up again: as if nothing had been."""

import json

import mlflow
import numpy as np
import psutil
import pytest
from small_study import keys, planned_keys

from tangentscope import pipeline
from tangentscope.pipeline.store import layout, run_files, tables
from tangentscope.pipeline.tracking.study_report import TRAININGS

pytestmark = [pytest.mark.ray, pytest.mark.slow]

# Two runs, long enough to be stopped in the middle; the wider one is trained first.
TWO = {
    "train": {"epochs": 1200, "batch_size": 50, "evaluate_every": 60},
    "grid": {"model.width": [8, 16]},
    "resources": {"train": {"checkpoint_seconds": 0.2}},
}
WIDE, NARROW = "width=16 seed=0", "width=8 seed=0"


@pytest.fixture(scope="module")
def straight(launch, tmp_path_factory):
    """The two runs, undisturbed."""
    done = launch(tmp_path_factory.mktemp("straight") / "small", "--offline", **TWO)
    done.finish()
    return done


def test_stopped_and_taken_up_again(launch, straight, tmp_path):
    hit = launch(tmp_path / "small", **TWO)
    hit.until(lambda: hit.storage.exists(layout.PLAN))
    by_name = {run.name: run.id for run in hit.store.runs}

    hit.until(lambda: hit.storage.list(f"runs/{by_name[WIDE]}/checkpoints"))
    assert hit.command("stop", WIDE) == f"asked {WIDE} to stop; `tangentscope retry` takes it up again\n"
    hit.until(lambda: hit.storage.list(f"runs/{by_name[NARROW]}/checkpoints"))
    assert hit.storage.read_json(run_files.outcome(by_name[WIDE]))["state"] == "stopped"
    told = hit.command("status")
    launch_pid = hit.storage.read_json("launches/000001.json")["pid"]
    assert psutil.Process(launch_pid).ppid() == hit.process.pid
    assert f"process {launch_pid} on " in told
    assert "values a second" in told
    assert hit.command("stop").splitlines()[-1] == "stopped; `tangentscope run` goes on from there"
    assert "stopped on request" in hit.finish(130)
    assert not hit.storage.exists(run_files.outcome(by_name[NARROW])), "a study that stops ends no run"
    assert statuses(hit) == {WIDE: "KILLED", NARROW: "KILLED"}

    again = launch(hit.out, **TWO).finish()
    assert "1 runs finished, 0 failed, 1 stopped on request" in again
    assert f"tangentscope retry {hit.out}" in again
    assert statuses(hit) == {WIDE: "KILLED", NARROW: "FINISHED"}
    assert not hit.storage.exists(f"runs/{by_name[WIDE]}/attempts/0002.json"), "what was stopped waits for a retry"

    assert "2 runs finished, 0 failed, in" in hit.command("retry", WIDE)
    assert hit.storage.read_json(f"runs/{by_name[WIDE]}/attempts/0002.json")["resumed_at"] > 0
    assert not hit.storage.exists(f"runs/{by_name[NARROW]}/attempts/0003.json")
    assert statuses(hit) == {WIDE: "FINISHED", NARROW: "FINISHED"}
    for table in ("measurements", "history"):
        one, other = (
            pipeline.load(each.out, table).set_index(tables.KEYS[table])["value"].sort_index()
            for each in (hit, straight)
        )
        assert one.index.tolist() == other.index.tolist()
        np.testing.assert_array_equal(one.to_numpy(), other.to_numpy())
    assert sorted(keys(pipeline.load(hit.out))) == sorted(planned_keys(hit.store))

    freed = hit.command("gc", "--keep", "ends")
    taken = sum(len(run.schedule) - 2 for run in hit.store.runs)
    assert f"freed {taken} snapshots, " in freed
    assert "2 checkpoints" in freed
    before = json.dumps(sorted(tables.part_names(hit.storage, "measurements")))
    assert launch(hit.out, **TWO).finish().startswith("nothing to do: 2 runs finished, 0 failed, and no snapshot waits")
    assert json.dumps(sorted(tables.part_names(hit.storage, "measurements"))) == before


def statuses(one) -> dict[str, str]:
    """What MLflow says of each run."""
    client = mlflow.MlflowClient(f"sqlite:///{one.out.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = list(client.search_runs([experiment.experiment_id], TRAININGS))
    assert len({run.info.run_name for run in runs}) == len(runs)
    return {str(run.info.run_name): run.info.status for run in runs}
