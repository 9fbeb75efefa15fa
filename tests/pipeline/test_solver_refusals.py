"""What a study may ask of a solver, and the one line for what it may not, before anything is trained."""

from typing import Any

import pytest
import torch
import yaml

from tangentscope.pipeline.config.components import restore
from tangentscope.pipeline.config.resources import TrainPool
from tangentscope.pipeline.study.runs import make_runs
from tangentscope.pipeline.study.solvers import check_solver
from tangentscope.pipeline.study.spec import parse_study
from tangentscope.pipeline.system.errors import UserError
from tangentscope.tasks import Split, TaskData

FLOW: dict[str, Any] = {"name": "flow", "lr": 0.1}
LEAST: dict[str, Any] = {"name": "least_norm"}
SOLUTION: dict[str, Any] = {"name": "solution", "lr": 0.1}
SINES = {"name": "sines"}
GAUSSIAN = {"name": "gaussian_linear", "train_size": 30}
SKILLS = {"name": "skills", "skills": 3}


def planned(task: dict[str, Any], model: str | dict[str, Any], optimiser: dict[str, Any], *overrides: str) -> int:
    study = {
        **{"name": "solved", "task": task, "model": {"name": model} if isinstance(model, str) else model},
        **{"optimiser": optimiser, "train": {"epochs": 1, "batch_size": "full"}},
        "probes": {"variables": ["trace"], "kernel": {"size": 2}, "splits": ["train"]},
    }
    return len(make_runs(parse_study(yaml.safe_dump(study), "s.yaml", overrides), None, "s.yaml"))


@pytest.mark.parametrize(
    ("task", "model", "optimiser"),
    [
        (SINES, "linear", LEAST),
        (SKILLS, "linear", LEAST),
        (SKILLS, "multilinear", SOLUTION),
        (GAUSSIAN, "diagonal_linear", SOLUTION),
        (GAUSSIAN, "diagonal_linear", FLOW),
        ({"name": "modular", "p": 3, "inputs": "numbers"}, {"name": "mlp", "width": 3}, FLOW),
    ],
)
def test_a_study_of_a_solver_plans(task: dict[str, Any], model: Any, optimiser: dict[str, Any]):
    assert planned(task, model, optimiser) == 1


MLP = {"name": "mlp", "width": 3}
REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "batches": ((SINES, "linear", LEAST, "train.batch_size=2"), "sees all points at once, got train.batch_size 2; set"),
    "trainable": ((SINES, "linear", FLOW, "train.trainable=last"), "solves for all parameters, got train.trainable"),
    "precision": ((SINES, "linear", FLOW, "train.precision=bfloat16"), "solves in float64, got train.precision"),
    "workers": ((SINES, "linear", FLOW, "resources.train.workers=2"), "is solved by one worker, got .* 2; set it to 1"),
    "two steps": ((SINES, "linear", LEAST, "train.epochs=2"), "takes one step, got 2; set train.epochs to 1"),
    "not linear": ((SINES, MLP, LEAST), "needs a network that is linear in its parameters, which mlp is not; take"),
    "two layers": (
        (GAUSSIAN, "diagonal_linear", LEAST),
        "linear in its parameters, which diagonal_linear is not",
    ),
    "another loss": (
        ({"name": "modular", "p": 3, "inputs": "numbers"}, "linear", LEAST),
        "minimises a squared error, which modular's loss is not; take",
    ),
    "no closed form": ((SINES, MLP, SOLUTION), "needs a model with a closed form, which mlp has not; take flow"),
    "no moments": ((SINES, "linear", SOLUTION), "needs data of exact second moments, which sines does not have; take"),
    "free draws": (
        ({**GAUSSIAN, "exact": False}, "linear", SOLUTION),
        "needs data of exact second moments, which gaussian_linear does not have; take",
    ),
    "strengths alone": (
        ({**GAUSSIAN, "apart": True}, {"name": "linear_net", "width": 9}, SOLUTION),
        "linear_net's parameters have no closed form, only its strengths: take another optimiser",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_a_solver_cannot_do_is_refused_in_one_line(what: str):
    arguments, told = REFUSED[what]
    optimiser = arguments[2]["name"]
    with pytest.raises(UserError, match=rf"^s\.yaml: optimiser {optimiser}: .*{told}") as caught:
        planned(*arguments)
    assert "\n" not in str(caught.value)


OF_IMAGES = {
    "crop_flip": ("cnn", "follows the mean loss of the same points, but cifar10 draws them anew; take sgd"),
    "none": ("resnet18", "needs a network without randomness or batches' statistics, but resnet18 has BatchNorm2d; "),
}


@pytest.mark.parametrize("changed", OF_IMAGES)
def test_a_flow_of_what_is_drawn_anew_is_refused(changed: str):
    model, told = OF_IMAGES[changed]
    images = Split(torch.randn(4, 3, 32, 32), torch.arange(4))
    data = TaskData(images, images, (3, 32, 32), 10, "drawn")
    task, built, optimiser, course = restore(
        {
            **{"task": {"name": "cifar10", "augment": changed}, "model": {"name": model, "width": 2}},
            **{"optimiser": FLOW, "train": {"epochs": 1, "batch_size": "full"}},
        }
    )
    with pytest.raises(UserError, match=f"^s.yaml: optimiser flow: {told}"):
        check_solver(task, built, optimiser, course, data, TrainPool(), "s.yaml")


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("rtol", 1e-16, "rtol: got 1e-16; .*below what float64 can keep; ask for 2.3e-14 or more"),
        ("rtol", 1, "rtol: got 1; input should be less than 1"),
        ("atol", 0, "atol: got 0; input should be greater than 0"),
        ("method", "euler", "method: got 'euler'; input should be 'DOP853'"),
        ("lr", 0, "lr: got 0; input should be greater than 0"),
        ("momentum", 0.9, "momentum: .*unknown"),
    ],
)
def test_a_tolerance_that_cannot_be_met_is_refused_when_the_study_is_read(field: str, value: Any, told: str):
    with pytest.raises(UserError, match=rf"^s\.yaml: optimiser\.{told}"):
        planned(SINES, "linear", {**FLOW, field: value})


@pytest.mark.parametrize(
    ("task", "told"),
    [
        (
            {**SKILLS, "frequencies": [0.5, 0.3, 0.1]},
            "frequencies must be above 0 and sum to 1, got a sum of 0.9",
        ),
        ({**SKILLS, "frequencies": [0.5, 0.5]}, "each skill needs a frequency, got 2 for 3 skills: give as many"),
        ({**SKILLS, "frequencies": [1.2, -0.1, -0.1]}, "frequencies must be above 0 and sum to 1, got"),
        ({"name": "sparse_parity", "relevant": 40}, "a skill of 40 relevant bits needs as many bits, got 32"),
        ({"name": "modular", "p": 91}, "division needs a prime p, got 91, which 7 divides: choose another p"),
        ({"name": "modular", "share": 1.2}, "task.share 1.2 takes 11174 of the table's 9312 pairs"),
    ],
)
def test_tasks_that_make_no_sense_are_refused_in_one_line(task: dict[str, Any], told: str):
    with pytest.raises(UserError, match=r"^s\.yaml: task.*") as caught:
        planned(task, {"name": "mlp", "width": 3}, {"name": "sgd", "lr": 0.1})
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
