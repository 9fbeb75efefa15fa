"""What the tables ask of every model, of those with one output; and what solvable models refuse."""

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike
from pydantic import ValidationError
from solvable_cases import CASES, Case
from torch import nn

from tangentscope.models import MODELS, ModelError
from tangentscope.models.solvable.base import Solvable
from tangentscope.probes import kernel_plan, tangent_kernel
from tangentscope.probes.kernels.plan import PER_SAMPLE


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def test_every_solvable_model_has_a_case():
    solvable = {name for name, model in MODELS.items() if issubclass(model, Solvable)}
    assert {case.name for case in CASES.values()} == solvable
    assert all(MODELS[name](name=name, **case.fields).source for name, case in named().items())  # pyright: ignore


def named() -> dict[str, Case]:
    return {case.name: case for case in CASES.values()}


@pytest.mark.parametrize("name", sorted(named()))
def test_a_model_is_known_by_the_name_of_its_line_in_the_table(name: str):
    model = named()[name].model()
    assert MODELS[model.name] is type(model)
    assert isinstance(model.version, int)
    with pytest.raises(ValidationError, match="name"):
        type(model)(**{**model.model_dump(), "name": "another"})


def test_the_global_seed_fixes_every_parameter(case: Case):
    def parameters(seed: int) -> torch.Tensor:
        return torch.cat([parameter.flatten() for parameter in case.network(seed).parameters()])

    drawn = case.fields.get("init") in ("normal", "signs") or case.name in ("linear_net", "scalar_net")
    assert torch.equal(parameters(0), parameters(0))
    assert torch.equal(parameters(0), parameters(1)) is not (drawn or case.fields.get("std", 0) > 0)


def test_sizes_are_known_without_numbers(case: Case):
    with torch.device("meta"):
        empty = case.network()
    shapes = {name: tensor.shape for name, tensor in empty.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in case.network().state_dict().items()}


def disturbed(case: Case) -> nn.Module:
    """At parameters of no symmetry."""
    network = case.network().double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += torch.randn(parameter.shape)
    return network


def analytic_kernel(case: Case, network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Σ_p ∂f/∂θ_p ∂f'/∂θ_p by hand."""
    x = x.flatten(1)
    parameters = list(network.parameters())
    if case.name == "linear":
        return torch.kron(x @ x.T, torch.eye(len(parameters[0])).double())
    if case.name == "linear_net":
        weights = [weight.T for weight in parameters]
        kernel = torch.zeros(())
        for layer in range(len(weights)):
            before, after = x, torch.eye(case.matrix.shape[1]).double()
            for weight in weights[:layer]:
                before = before @ weight
            for weight in reversed(weights[layer + 1 :]):
                after = weight @ after
            kernel = kernel + torch.kron(before @ before.T, after.T @ after)
        return kernel
    a, b = parameters
    if case.name == "scalar_net":
        return x @ x.T * (a @ a + b @ b) / network.normalisation**2  # pyright: ignore
    if case.name == "skill_bases":
        x = x[:, : len(b)]
        skill = torch.arange(len(b)) // 4
        of_a = torch.zeros(len(x), len(a)).double().index_add_(1, skill, x * b)
        return of_a @ of_a.T + x @ torch.diag(a[skill] ** 2) @ x.T
    x = x[:, : len(a)] * getattr(network, "gain", 1.0)
    return x @ torch.diag(a**2 + b**2) @ x.T


def test_the_kernel_is_the_analytic_one(case: Case):
    network = disturbed(case)
    x = torch.randn(3, *case.input_shape, dtype=torch.float64)
    kernel = tangent_kernel(network, x)
    torch.testing.assert_close(kernel, analytic_kernel(case, network, x).detach(), rtol=1e-10, atol=1e-10)
    layers = kernel_plan(network, x).layers
    assert [layer.kind for layer in layers if layer.path == PER_SAMPLE] == []
    assert sum(layer.parameters for layer in layers) == sum(p.numel() for p in network.parameters())


def test_times_may_have_any_shape(case: Case):
    network, model = case.network(), case.model()
    times = np.array([[0.0, 0.5, 1.0], [2.0, 4.0, 8.0]])
    table = model.solution(network, times, case.target, case.variances)
    assert table.shape[:2] == (2, 3)
    at_once = model.solution(network, 4.0, case.target, case.variances)
    np.testing.assert_allclose(table[1, 1], at_once, rtol=1e-14)


@pytest.mark.parametrize("times", [-1.0, [0.0, np.nan], np.inf])
def test_times_before_the_start_are_refused(times: ArrayLike, case: Case):
    with pytest.raises(ValueError, match=r"^times must be finite and at least 0, got "):
        case.model().solution(case.network(), times, case.target, case.variances)


REFUSED = {
    "several outputs": ("diagonal_linear", {}, (3,), 2, "diagonal_linear has one output, got a task with 2"),
    "several outputs, skills": ("multilinear", {}, (3,), 2, "multilinear has one output, got a task with 2"),
    "several outputs, bases": ("skill_bases", {}, (3, 2), 2, "skill_bases has one output, got a task with 2"),
    "several outputs, scalar": ("scalar_net", {"width": 2}, (1,), 2, "scalar_net has one output, got a task with 2"),
    "several inputs": ("scalar_net", {"width": 2}, (3,), 1, r"scalar_net takes one number, got inputs of shape \[3\]"),
    "too few skills": ("multilinear", {"skills": 4}, (3,), 1, "is to have 4 skills, got a task with 3: ask for fewer"),
    "no bases": ("skill_bases", {}, (3,), 1, r"takes basis functions .*, got inputs of shape \[3\]"),
    "too few bases": ("skill_bases", {"functions": 7}, (3, 2), 1, "have 7 basis functions, got 6: ask for fewer"),
    "too narrow": ("linear_net", {"width": 2}, (3,), 5, "of width 2 cannot start with 3 modes: make it wider"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_that_cannot_be_is_refused(name: str):
    model, fields, input_shape, outputs, told = REFUSED[name]
    with pytest.raises(ModelError, match=told) as caught:
        MODELS[model](name=model, **fields).build(input_shape, outputs)
    assert "\n" not in str(caught.value)


def test_a_linear_net_that_is_not_aligned_has_no_solution():
    case = CASES["linear net"]
    with pytest.raises(ValueError, match=r"^a linear net is solved from layers that are balanced and aligned"):
        case.model().solution(disturbed(case), 1.0, case.target)
    other = np.array([[3.0, 1.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]])
    with pytest.raises(ValueError, match="aligned with the target, got others"):
        case.model().solution(case.network(), 1.0, other)
    with pytest.raises(ValueError, match="solved for inputs of variance 1, got 2"):
        case.model().solution(case.network(), 1.0, case.target, 2.0)


def test_basis_functions_that_start_askew_have_no_solution():
    case = CASES["bases"]
    with pytest.raises(ValueError, match=r"^basis functions must start in proportion to the target"):
        case.model().solution(disturbed(case), 1.0, case.target, case.variances)
