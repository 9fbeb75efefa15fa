"""Trainings by a solver: where they lead, in a study's own training loop, and what a checkpoint brings back."""

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tangentscope.models.solvable.base import Solvable
from tangentscope.models.solvable.flow import FlowError
from tangentscope.models.solvable.linear import least_norm
from tangentscope.pipeline.config.components import restore
from tangentscope.pipeline.training.learner import Training, World, initialise
from tangentscope.pipeline.training.loop import train
from tangentscope.pipeline.training.solved import least_squares, solved
from tangentscope.pipeline.training.vectorised_trial import better_together
from tangentscope.tasks import TASKS, TaskData
from tangentscope.tasks.moments import HasMoments

CPU = torch.device("cpu")
LINEAR = {"name": "gaussian_linear", "scales": [2.0, 1.0, -1.0], "variances": [2.0, 1.0, 0.5], "train_size": 20}
APART = {"name": "gaussian_linear", "scales": [3.0, 1.0], "apart": True, "train_size": 30}
ONE = {"name": "gaussian_linear", "scales": [2.0], "train_size": 9}
SKILLS = {"name": "skills", "skills": 4, "scale": 2.0}
SINES = {"name": "sines", "features": 30, "train_size": 9, "test_size": 5, "exponent": -0.5, "noise": 0.1}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "linear": (LINEAR, {"name": "linear", "std": 0.5}),
    "diagonal": (LINEAR, {"name": "diagonal_linear", "init": "normal", "size": 0.3}),
    "net": (APART, {"name": "linear_net", "width": 3, "size": 0.3}),
    "scalar": (
        {"name": "gaussian_linear", "scales": [2.0], "train_size": 9},
        {"name": "scalar_net", "width": 5, "size": 0.1},
    ),
    "skills": (SKILLS, {"name": "multilinear", "size": 0.1}),
    "fewer skills": ({**SKILLS, "samples": 40, "endless": True}, {"name": "multilinear", "skills": 3, "size": 0.1}),
    "coded": (SKILLS, {"name": "linear"}),
}


def training(
    task: dict[str, Any], model: dict[str, Any], optimiser: dict[str, Any], steps: int = 50, **changes: Any
) -> tuple[Training, TaskData]:
    course = {"epochs": steps, "batch_size": "full"}
    made = restore({"task": task, "model": model, "optimiser": optimiser, "train": course})
    data = made[0].load()
    fields = {"batch_size": len(data.train), "epoch_steps": 1, "steps": steps, "seed": 0}
    return Training(*made[:3], **fields, schedule=frozenset({steps}), evaluations=frozenset(), **changes), data


def strengths(what: Training, data: TaskData, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Those after so many steps of a training, and those of the closed form."""
    assert isinstance(what.model, Solvable)
    assert isinstance(what.task, HasMoments)
    start = initialise(what, data, CPU)
    module, costs = train(what, data, None)
    assert costs.steps == steps
    time = steps * what.optimiser.lr  # pyright: ignore[reportAttributeAccessIssue]
    target = what.task.target()
    return what.model.strengths(module, target), what.model.solution(start, time, target, what.task.moments())


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("optimiser", ["flow", "solution"])
def test_a_solved_training_is_where_the_closed_form_says(name: str, optimiser: str):
    if (name, optimiser) == ("net", "solution"):
        pytest.skip("parameters of nets of matrices have no closed form")
    fields: dict[str, Any] = {"name": optimiser, "lr": 0.03}
    fields |= {"rtol": 1e-10, "atol": 1e-12} if optimiser == "flow" else {}
    what, data = training(*CASES[name], fields)
    found, expected = strengths(what, data, 50)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    begun = what.model.strengths(initialise(what, data, CPU), what.task.target())  # pyright: ignore
    assert np.abs(found - begun).max() > 0.1, "something was learned"


@pytest.mark.parametrize("name", CASES)
def test_descent_comes_nearer_to_flow_as_its_rate_shrinks(name: str):
    errors = []
    for rate in (0.04, 0.02, 0.01):
        what, data = training(*CASES[name], {"name": "sgd", "lr": rate}, steps=round(1.2 / rate))
        found, expected = strengths(what, data, what.steps)
        errors.append(np.abs(found - expected).max())
    assert errors[0] > 1.6 * errors[1] > 2.5 * errors[2] > 0


def walked(what: Training, data: TaskData, schedule: set[int]) -> tuple[torch.Tensor, list[int]]:
    """Parameters at the end, and the steps at which it was said that they change."""
    which = replace(what, schedule=frozenset(schedule))
    learner, said = solved(which, data.train, initialise(which, data, CPU)), []
    while learner.step < what.steps:
        learner.update(lambda: said.append(learner.step))
    return torch.cat([p.detach() for p in learner.modules[0].parameters()]), said


def test_it_is_where_it_would_be_if_nobody_had_looked_before():
    what, data = training(*CASES["diagonal"], {"name": "flow", "lr": 0.03})
    expected, once = walked(what, data, {50})
    found, said = walked(what, data, {7, 20, 50})
    assert torch.equal(found, expected)
    assert (once, said) == ([50], [7, 20, 50])


@pytest.mark.parametrize("optimiser", ["flow", "solution"])
def test_what_goes_on_from_a_checkpoint_ends_at_the_same_numbers(optimiser: str):
    what, data = training(*CASES["diagonal"], {"name": optimiser, "lr": 0.03})
    whole = train(what, data, None)[0].state_dict()
    learner = solved(what, data.train, initialise(what, data, CPU))
    for _ in range(20):
        learner.update()
    saved = io.BytesIO()
    torch.save(learner.state(0), saved)
    resumed = solved(what, data.train, initialise(what, data, CPU), saved.getvalue())
    assert resumed.step == 20
    at_20 = what.model.strengths(resumed.modules[0], what.task.target())  # pyright: ignore
    start = initialise(what, data, CPU)
    expected = what.model.solution(start, 0.6, what.task.target(), what.task.moments())  # pyright: ignore
    np.testing.assert_allclose(at_20, expected, atol=1e-5)
    while resumed.step < 50:
        resumed.update()
    assert all(torch.equal(value, whole[name]) for name, value in resumed.modules[0].state_dict().items())


def test_a_tolerance_that_is_not_met_ends_the_training():
    what, data = training(*CASES["diagonal"], {"name": "flow", "lr": 0.03, "max_gradients": 20})
    with pytest.raises(FlowError, match=r"^rtol 1e-08, atol 1e-10 not met within 20 gradients: reached time [\d.]+; "):
        train(what, data, None)


def test_seeds_are_solved_one_by_one():
    what, data = training(*CASES["diagonal"], {"name": "flow", "lr": 0.03}, steps=100)
    assert not better_together([what, replace(what, seed=1)], data, CPU)


def solved_linear(task: dict[str, Any], **model: Any) -> tuple[np.ndarray, TaskData]:
    what, data = training(task, {"name": "linear", **model}, {"name": "least_norm"}, steps=1)
    module, _ = train(what, data, None)
    return next(iter(module.parameters())).detach().double().numpy().ravel(), data


def test_the_least_norm_is_found_in_one_step():
    """Fewer points than features, with noise: all of it is fitted."""
    found, data = solved_linear(SINES)
    x, y = (part.double().numpy() for part in (data.train.inputs, data.train.targets))
    np.testing.assert_allclose(found, least_norm(x, y)[:, 0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(x @ found, y[:, 0], atol=1e-5)


def test_from_elsewhere_it_is_the_nearest_solution():
    found, data = solved_linear(SINES, std=1.0)
    what, _ = training(SINES, {"name": "linear", "std": 1.0}, {"name": "least_norm"}, steps=1)
    start = next(iter(initialise(what, data, CPU).parameters())).detach().double().numpy().ravel()
    x, y = (part.double().numpy() for part in (data.train.inputs, data.train.targets))
    expected = start + least_norm(x, y[:, 0] - x @ start)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_of_samples_those_skills_are_learned_that_were_seen():
    """Nam eq. 4.26."""
    found, _ = solved_linear({"name": "skills", "skills": 50, "samples": 30, "endless": True, "scale": 3.0})
    seen = TASKS["skills"](skills=50, samples=30, endless=True).moments() > 0  # pyright: ignore
    np.testing.assert_allclose(found, np.where(seen, 3.0, 0.0), atol=1e-6)
    assert 5 < seen.sum() < 30


def test_of_bases_a_share_of_a_skill_is_learned_that_is_its_samples_over_its_functions():
    """Nam B.42: R/S = d/D_c below D_c samples, in the mean over draws."""
    task = {"name": "sparse_parity", "skills": 1, "bits": 20, "inputs": "bases", "functions": 40, "test_size": 4000}
    shares = []
    for seed in range(12):
        found, data = solved_linear({**task, "train_size": 20, "data_seed": seed})
        outputs = data.test.inputs.flatten(1).double() @ torch.from_numpy(found)  # pyright: ignore
        shares.append(TASKS["sparse_parity"]().score(outputs[:, None], data.test.targets))
    assert np.mean(shares) == pytest.approx(0.5, abs=4 * np.std(shares) / 12**0.5)
    assert abs(np.mean(shares) - (1 - 0.5**0.5)) > 4 * np.std(shares) / 12**0.5, "eq. 5.5 as printed"


def test_weights_of_a_squared_error_are_read_off_its_loss():
    targets = torch.tensor([[5.0, 2.0], [5.0, 0.0]]).double()
    wanted, weights = least_squares(TASKS["skills"](), torch.zeros(2, 1).double(), targets)
    assert wanted.flatten().tolist() == [5.0, 0.0]
    assert weights.flatten().tolist() == [2.0, 0.0]


def test_another_loss_is_no_squared_error():
    with pytest.raises(ValueError, match="modular's loss is no squared error"):
        least_squares(TASKS["modular"](p=3), torch.zeros(2, 3).double(), torch.tensor([0, 1]))


def test_a_flow_of_a_dense_net_falls_as_slow_descent_does():
    task = {"name": "step", "train_size": 30, "test_size": 10}
    model = {"name": "mlp", "width": 5, "activation": "tanh"}
    ends = []
    for optimiser, steps in (({"name": "flow", "lr": 0.5}, 20), ({"name": "sgd", "lr": 0.005}, 2000)):
        what, data = training(task, model, optimiser, steps)
        module, _ = train(what, data, None, World())
        ends.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    begun = torch.cat([p.detach().flatten() for p in initialise(what, data, CPU).parameters()])  # pyright: ignore
    assert (ends[0] - ends[1]).norm() < 0.01 * (ends[0] - begun).norm()
