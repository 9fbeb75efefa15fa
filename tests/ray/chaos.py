"""What the tests that kill and take away have in common: moments, and what MLflow must show afterwards."""

import random

import mlflow
from long_study import started, the_run

from pipeline import layout
from pipeline.tracking import TRAININGS

ROUNDS = range(5)


def moment(number: int, victim: str, most: int) -> int:
    """How many snapshots are on storage when the round strikes."""
    return random.Random(f"{victim} {number}").randrange(1, most)


def snapshots(one) -> int:
    return len(layout.current_snapshots(one.storage, the_run(one))) if started(one) else 0


def strike(one, number: int, victim: str) -> None:
    """Wait for the round's moment."""
    one.until(lambda: started(one))
    when = moment(number, victim, len(one.store.runs[0]["schedule"]))
    one.until(lambda: snapshots(one) >= when)


def check_mlflow(uri: str, one) -> None:
    """One run, finished, with one point for each step that has a value."""
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], TRAININGS)
    assert run.info.status == "FINISHED"
    for name in ("train/trace", "test/entropy"):
        steps = [point.step for point in client.get_metric_history(run.info.run_id, name)]
        assert sorted(steps) == one.store.runs[0]["schedule"]
