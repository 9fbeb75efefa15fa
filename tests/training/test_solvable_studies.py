"""Studies that name made-up tasks and solvable models: they are trained and measured like any other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from trained_study import finish

from tangentscope.models.solvable.base import Solvable
from tangentscope.pipeline.config.train import Train
from tangentscope.pipeline.probing.measurer import Measurer
from tangentscope.pipeline.study.runs import make_runs
from tangentscope.pipeline.study.spec import Study
from tangentscope.pipeline.system.errors import UserError
from tangentscope.pipeline.training.learner import initialise, training_of
from tangentscope.pipeline.training.loop import train
from tangentscope.tasks import GaussianLinear

PARITY = {"name": "sparse_parity", "skills": 3, "train_size": 50, "test_size": 30}
PAIRS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sines": ({"name": "sines", "train_size": 30, "test_size": 30}, {"name": "linear"}),
    "step": ({"name": "step", "train_size": 30, "test_size": 30}, {"name": "mlp", "width": 4}),
    "scalar": ({"name": "gaussian_linear", "scales": [2.0], "train_size": 30}, {"name": "scalar_net", "width": 4}),
    "modes": (
        {"name": "gaussian_linear", "scales": [3.0, 1.0], "apart": True, "train_size": 30},
        {"name": "linear_net", "width": 4},
    ),
    "parity": (PARITY, {"name": "mlp", "width": 4}),
    "skills": ({**PARITY, "inputs": "skills"}, {"name": "multilinear"}),
    "bases": ({**PARITY, "inputs": "bases"}, {"name": "skill_bases", "functions": 7}),
    "modular": ({"name": "modular", "p": 7}, {"name": "transformer", "dim": 8}),
    "modular numbers": ({"name": "modular", "p": 7, "inputs": "numbers"}, {"name": "mlp", "width": 4}),
}


@pytest.mark.parametrize("name", PAIRS)
def test_it_is_trained_and_measured(name: str, tmp_path: Path):
    task, model = PAIRS[name]
    study = finish(tmp_path, model, {"draws": 2, "size": 5}, [], task=task)
    measured = Measurer(study.storage, study.plan).measure(study.job())["measurements"]
    values = {row["variable"]: row["value"] for row in measured if row["split"] == "test"}
    assert values["trace"] > 0
    assert np.isfinite(list(values.values())).all()


def study_of(task: dict[str, Any], model: dict[str, Any], **train_fields: Any) -> Study:
    return Study.model_validate(
        {
            "name": "solved",
            "task": task,
            "model": model,
            "optimiser": {"name": "sgd", "lr": 0.01},
            "train": {"epochs": 300, "batch_size": "full", **train_fields},
            "probes": {"variables": ["trace"], "kernel": {"size": 10}},
        }
    )


def test_what_a_study_trains_is_where_the_solution_says():
    """Full batches of exact moments; the rest is steps of 0.01 and float32."""
    fields = {"scales": [2.0, 1.0, -1.0], "variances": [2.0, 1.0, 0.5], "train_size": 20}
    model = {"name": "diagonal_linear", "init": "normal", "size": 0.3}
    (run,) = make_runs(study_of({"name": "gaussian_linear", **fields}, model), None)
    what, task = training_of(run.planned()), GaussianLinear(**fields)
    assert isinstance(what.course, Train)
    assert isinstance(run.model, Solvable)
    start = initialise(what, run.data, torch.device("cpu"))
    predicted = run.model.solution(start, 0.01 * 300, task.target(), task.moments())
    trained, _ = train(what, run.data, None)
    a, b = (parameter.detach().numpy() for parameter in trained.parameters())
    np.testing.assert_allclose(a * b, predicted, atol=0.02)
    begun = np.prod([parameter.detach().numpy() for parameter in start.parameters()], axis=0)
    assert np.abs(a * b - begun).max() > 0.5


def test_variables_that_need_a_label_for_each_output_are_refused_for_parities():
    study = study_of(PARITY, {"name": "mlp", "width": 4})
    probes = study.probes.model_copy(update={"variables": ("label_alignment",)})
    with pytest.raises(UserError, match="label_alignment needs a target for each point, which sparse_parity's kernels"):
        make_runs(study.model_copy(update={"probes": probes}), None)
