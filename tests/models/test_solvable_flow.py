"""Simulations against closed forms, and what is conserved on the way."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from solvable_cases import CASES, Case
from torch import nn

from tangentscope.models.solvable.flow import FlowError, gradient_descent, gradient_flow
from tangentscope.models.solvable.linear import least_norm


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def test_gradient_flow_follows_the_solution(case: Case):
    network = case.network()
    times = case.time * np.array([0, 0.3, 0.7, 1, 1.5, 4])
    flow = gradient_flow(network, case.loss(), times)
    simulated = np.array([case.strengths(each) for each in flow.networks()])
    solution = case.model().solution(network, times, case.target, case.variances)
    assert solution.dtype == np.float64
    np.testing.assert_allclose(solution, simulated, rtol=0, atol=1e-6 * np.abs(case.matrix).max())
    assert np.ptp(simulated, axis=0).max() > 0.3 * np.abs(case.matrix).max(), "something was learned"


def test_descent_comes_nearer_as_its_steps_shrink(case: Case):
    network = case.network()
    solution = case.model().solution(network, case.time, case.target, case.variances)
    errors = []
    for steps in (100, 200, 400):
        descent = gradient_descent(network, case.loss(), case.time / steps, steps, every=steps)
        *_, last = descent.networks()
        errors.append(np.abs(case.strengths(last) - solution).max())
    assert errors[0] < 0.1 * np.abs(case.matrix).max()
    assert [coarse / fine for coarse, fine in pairwise(errors)] == pytest.approx([2, 2], rel=0.2)


def pairs(network: nn.Module) -> list[torch.Tensor]:
    a, b = network.parameters()
    return [a**2 - b**2]


def matrices(network: nn.Module) -> list[torch.Tensor]:
    weights = [weight.T for weight in network.parameters()]
    return [first.T @ first - second @ second.T for first, second in pairwise(weights)]


def norms(network: nn.Module) -> list[torch.Tensor]:
    a, b = network.parameters()
    present = torch.zeros(len(a) * 4).double()
    present[: len(b)] = b**2
    return [a**2 - present.view(-1, 4).sum(1)]


CONSERVED = {  # Nam eq. 3.8, A.29, Lemma 3
    "diagonal, any start": pairs,
    "multilinear, slowed": pairs,
    "scalar": pairs,
    "linear net": matrices,
    "linear net of five": matrices,
    "bases, some missing": norms,
}


@pytest.mark.parametrize("name", CONSERVED)
def test_differences_of_layers_are_conserved_by_flow_from_any_start(name: str):
    case = CASES[name]
    network = case.network().double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.2 * torch.randn(parameter.shape)
    flow = gradient_flow(network, case.loss(), [0, case.time])
    before, after = ([part.detach().clone() for part in CONSERVED[name](each)] for each in flow.networks())
    torch.testing.assert_close(after, before, rtol=0, atol=1e-8)
    assert flow.losses[1] < 0.5 * flow.losses[0]


def test_flow_of_a_linear_model_ends_at_the_least_norm():
    """Nam app. A.2: fewer points than features."""
    random = np.random.default_rng(0)
    features, targets = random.normal(size=(4, 9)), random.normal(size=(4, 2))
    network = nn.Linear(9, 2, bias=False).double()
    nn.init.zeros_(network.weight)
    x, y = torch.from_numpy(features), torch.from_numpy(targets)
    flow = gradient_flow(network, lambda net: (net(x) - y).square().sum(1).mean() / 2, [0, 200])
    expected = least_norm(features, targets)
    np.testing.assert_allclose(flow.parameters[-1].reshape(2, 9).T, expected, atol=1e-8)
    np.testing.assert_allclose(features @ expected, targets, atol=1e-12)


def test_of_equal_features_the_least_norm_takes_equal_shares():
    assert least_norm([[1.0, 1.0], [2.0, 2.0]], [2.0, 4.0]) == pytest.approx([1, 1])


def test_a_network_stays_as_it_is():
    case = CASES["diagonal"]
    network = case.network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    gradient_flow(network, case.loss(), [0, 1])
    gradient_descent(network, case.loss(), 0.1, 2)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert next(network.parameters()).dtype == torch.float32


def test_descent_keeps_the_times_asked_for():
    case = CASES["linear"]
    descent = gradient_descent(case.network(), case.loss(), 0.1, 7, every=3)
    assert descent.times == pytest.approx([0, 0.3, 0.6])
    assert (np.diff(descent.losses) < 0).all()
    assert len(descent.parameters) == 3


def refused(**changes) -> str:
    case = CASES["diagonal"]
    arguments = {"network": case.network(), "loss": case.loss(), "times": [0, 10]} | changes
    with pytest.raises((FlowError, ValueError)) as caught:
        gradient_flow(**arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_tolerance_that_float64_cannot_keep_is_refused():
    assert refused(rtol=1e-16) == "rtol 1e-16 is below what float64 can keep: ask for 2.2e-14 or more"


def test_a_tolerance_that_takes_too_many_gradients_is_refused():
    told = refused(max_gradients=50)
    assert told.startswith("rtol 1e-10, atol 1e-12 not met within 50 gradients: reached time")
    assert told.endswith("of 10; loosen them, allow more gradients or take method LSODA")


def test_a_tolerance_that_no_step_meets_is_refused():
    def jumping(network: nn.Module) -> torch.Tensor:
        (weight,) = network.parameters()
        return -weight.sum() * (1 + 1e8 * (weight.detach().sum() > 0.5))

    told = refused(network=nn.Linear(1, 1, bias=False), loss=jumping, times=[0, 1e3], max_gradients=10**6)
    assert told.startswith("rtol 1e-10, atol 1e-12 cannot be met: Required step size is less than spacing")


def test_a_flow_that_breaks_down_is_refused():
    told = refused(loss=lambda network: next(iter(network.parameters())).sum() * float("nan"))
    assert told == "loss nan with a gradient of norm nan at time 0"


@pytest.mark.parametrize("times", [[0], [0, 0], [1, 0]])
def test_times_that_do_not_ascend_are_refused(times):
    assert refused(times=times).startswith("a flow takes two ascending times or more, got [")
