"""What the tests that kill and take away have in common: moments, and what MLflow must show afterwards."""

import os
import random
from collections.abc import Callable

import mlflow
import psutil
from long_study import started, the_run

from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.tracking.study_report import TRAININGS

ROUNDS = range(int(os.environ.get("CHAOS_ROUNDS", 5)))  # for each victim
PAIR_ROUNDS = range(int(os.environ.get("CHAOS_PAIR_ROUNDS", 3)))  # for two at once


def moment(number: int, victim: str, most: int) -> int:
    """How many snapshots are on storage when the round strikes."""
    return random.Random(f"{victim} {number}").randrange(1, most)


def snapshots(one) -> int:
    return len(run_files.current_snapshots(one.storage, the_run(one))) if started(one) else 0


def strike(one, number: int, victim: str) -> None:
    """Wait for the round's moment."""
    one.until(lambda: started(one))
    when = moment(number, victim, len(one.store.runs[0].schedule))
    one.until(lambda: snapshots(one) >= when)


def titled(title: str) -> Callable:
    """Kills what Ray calls so, e.g. ``ray::Hub``."""

    def kill(one, number: int) -> None:
        victims = one.descendants(title)
        assert victims, f"no process called {title}"
        end_all(victims)

    return kill


def any_of_all(one, number: int) -> None:
    """Kills one of all processes below the launch, drawn from the round's number."""
    family = psutil.Process(one.process.pid).children(recursive=True)
    end_all([random.Random(f"any {number}").choice(sorted(family, key=lambda process: process.pid))])


def everything(one, number: int) -> None:
    """Kills the launch with all below it."""
    launch = psutil.Process(one.process.pid)
    end_all([launch, *launch.children(recursive=True)])


def end_all(processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:  # it ended with another
            continue


OF_OURS: dict[str, Callable] = {
    "training worker": titled("ray::RayTrainWorker"),
    "probe": titled("ray::Prober"),
    "hub": titled("ray::Hub"),
    "tracker": titled("ray::TrackerActor"),
}
OF_RAY: dict[str, Callable] = {
    "dashboard agent": titled("ray::DashboardAgent"),
    "environment agent": titled("ray::RuntimeEnvAgent"),
    "control store": titled("/gcs/gcs_server"),
    "node": titled("/raylet/raylet"),
}
OF_THE_LAUNCH: dict[str, Callable] = {
    "driver": lambda one, number: one.process.kill(),
    "everything": everything,
    "any": any_of_all,
}


def check_mlflow(uri: str, one) -> None:
    """One run, finished, with one point for each step that has a value."""
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], TRAININGS)
    assert run.info.status == "FINISHED"
    for name in ("train/trace", "test/entropy"):
        steps = [point.step for point in client.get_metric_history(run.info.run_id, name)]
        assert sorted(steps) == [*one.store.runs[0].schedule]
