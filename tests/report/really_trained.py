"""Small studies that are really trained, in this process and without measurements, for figures that read networks."""

from pathlib import Path
from typing import Any

import torch

from tangentscope.pipeline.report.view import View
from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.launch import Launch
from tangentscope.pipeline.store.outcome import Outcome
from tangentscope.pipeline.study.plan import study_plan
from tangentscope.pipeline.study.points import store_points
from tangentscope.pipeline.study.runs import make_runs
from tangentscope.pipeline.study.spec import Study
from tangentscope.pipeline.training.learner import initialise, training_of
from tangentscope.pipeline.training.loop import train
from tangentscope.pipeline.training.recorder import Recorder


def trained(place: Path, **study: Any) -> View:
    """The view of a study of these parts, trained to its end."""
    probes = {"schedule": {"kind": "log", "points": 20}, "kernel": {"draws": 1, "size": 2}, "variables": ["trace"]}
    described = Study.model_validate({"name": "trained", "probes": {**probes, "splits": ["test"]}, **study})
    storage, runs = Storage.at(place), make_runs(described, None)
    study_plan(described, runs, 1).write(storage)
    store_points(storage, runs)
    for run in runs:
        what = training_of(run.planned())
        network = initialise(what, run.data, torch.device("cpu"))
        with Recorder(Launch(storage, 1), run.id, 1, what.epoch_steps, 0, network) as recorder:
            train(what, run.data, recorder)
        storage.write_json(run_files.outcome(run.id), Outcome("finished", 1.0, started_at=0.0).to_json())
    return View(storage)
