"""Where Nam's thesis prints a formula that simulations contradict: the right one holds, the printed one does not."""

import numpy as np
import pytest
from solvable_cases import CASES, Case

from tangentscope.models.solvable.diagonal_linear import (
    diagonal_strengths,
    emergent_times,
    printed_stage_overlap,
    saturation_times,
    stage_overlap,
)
from tangentscope.models.solvable.flow import gradient_flow
from tangentscope.models.solvable.linear import least_norm
from tangentscope.models.solvable.multilinear import TIME_GAIN, strengths_over_time
from tangentscope.models.solvable.scalar_net import printed_scalar_log_growth, scalar_log_growth
from tangentscope.models.solvable.skill_bases import (
    DATA_SHOTS,
    WIDTH_NODES,
    loss_over_data,
    printed_strengths_over_data,
    strengths_over_data,
    strengths_over_width,
)


@pytest.mark.parametrize("initial", [1e-2, 1e-6])
def test_equation_3_13_stage_like_training(initial: float):
    """At ε, a mode saturates just when the next one emerges; printed, the order of the variances is turned round."""
    scale, faster, slower = 5.0, 1.0, 0.2
    level = stage_overlap(scale, initial, faster, slower)
    first, second = (emergent_times(level, scale, variance, initial) for variance in (faster, slower))
    assert saturation_times(level, scale, faster) == pytest.approx(second - first)
    modes = diagonal_strengths([first, second], scale, [faster, slower], initial) / scale
    np.testing.assert_allclose([modes[0, 0], modes[1, 0], modes[1, 1]], [level, 1 - level, level], rtol=1e-9)
    printed = printed_stage_overlap(scale, initial, faster, slower)
    assert printed == pytest.approx(1 - level)
    assert printed > 0.9


def test_training_is_the_more_stage_like_the_smaller_it_starts():
    overlaps = stage_overlap(1.0, np.array([1e-2, 1e-4, 1e-8]), 2.0, 1.0)
    assert (np.diff(overlaps) < 0).all()
    printed = printed_stage_overlap(1.0, np.array([1e-2, 1e-4, 1e-8]), 2.0, 1.0)
    assert (np.diff(printed) > 0).all()
    with pytest.raises(ValueError, match=r"^expected a faster mode and a slower one, got variances 1.0 and 2.0"):
        stage_overlap(1.0, 1e-4, 1.0, 2.0)


def test_equation_5_2_gain_of_the_rate():
    """A constant B before a_k b_k (eq. 5.1) makes the rate B times as large; eq. 5.2 prints B²."""
    gain, scale, times = 0.25, 5.0, np.array([0.0, 4.0, 8.0])
    case = CASES["multilinear"]._replace(fields={"size": 0.3, "gain": gain})
    flow = gradient_flow(case.network(), case.loss(), times)
    simulated = np.array([case.strengths(network) for network in flow.networks()])
    frequencies, initial = case.variances, gain * 0.3**2
    right = strengths_over_time(times, frequencies, scale, initial, gain)
    printed = strengths_over_time(times, frequencies, scale, initial, gain**2)
    np.testing.assert_allclose(simulated, right, atol=1e-6)
    assert np.abs(simulated - printed).max() > 0.5 * scale


def simulated_shots(samples: int, shots: int, draws: int) -> tuple[float, float]:
    """Mean strength and loss of a skill, in units of S, of the least-norm solution on random basis functions."""
    random = np.random.default_rng(0)
    target = np.full(shots, shots**-0.5)
    features = random.normal(size=(draws, samples, shots))
    learned = np.array([least_norm(phi, phi @ target) for phi in features])
    return (learned @ target).mean(), (np.square(learned - target).sum(1) / 2).mean()


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_equation_5_5_emergence_over_data(share: float):
    """B.42 is the loss; the strength is d_k/D_c, from which eq. 5.5 is far."""
    shots = 40
    samples = round(share * shots)
    strength, loss = simulated_shots(samples, shots, draws=400)
    assert strength == pytest.approx(strengths_over_data(samples, 1.0, shots), abs=0.02)
    assert loss == pytest.approx(loss_over_data(samples, 1.0, shots), abs=0.01)
    printed = printed_strengths_over_data(samples, 1.0, shots)
    assert printed == pytest.approx(1 - np.sqrt(1 - share))
    assert strength - printed > 0.1
    assert (1 - printed) ** 2 / 2 == pytest.approx(loss_over_data(samples, 1.0, shots)), "eq. 5.5 comes from eq. 4.10"


def test_equation_6_12_exponent_of_the_scalar_net():
    """−2 √(Σ0² − S0² + S²) t/Z; −4 is printed."""
    case: Case = CASES["scalar, other normalisation"]._replace(variances=1.0)
    network = case.network()
    a, b = (parameter.detach().double().numpy() for parameter in network.parameters())
    times, normalisation, (target,) = np.array([0.0, 0.3, 0.6]), case.fields["normalisation"], case.target
    flow = gradient_flow(network, case.loss(), times)
    sums = np.array([[p.detach().numpy() for p in each.parameters()] for each in flow.networks()]).sum(1)
    grown = 2 * np.log(sums[:, a + b != 0][:, 0] / (a + b)[a + b != 0][0])
    np.testing.assert_allclose(grown, scalar_log_growth(times, a, b, target, normalisation), atol=1e-8)
    printed = printed_scalar_log_growth(times, a, b, target, normalisation)
    assert np.abs(printed - grown).max() > 0.1


def test_calibration_on_a_single_skill():
    """Nam fig. 5.2: B² = 1/22, D_c = 800, N_c = 4, and what they predict of five skills of scale 5."""
    assert (TIME_GAIN, DATA_SHOTS, WIDTH_NODES) == (1 / 22, 800, 4)
    np.testing.assert_allclose(strengths_over_data([0, 400, 800, 900], 5.0), [0, 2.5, 5, 5])
    np.testing.assert_allclose(strengths_over_width([4, 10, 20, 99], 5, 5.0), [
        [5, 0, 0, 0, 0], [5, 5, 2.5, 0, 0], [5, 5, 5, 5, 5], [5, 5, 5, 5, 5]
    ])  # fmt: skip
    once = strengths_over_time(100.0, 1.0, 5.0, 1e-3)
    assert strengths_over_time(2200.0, 1.0, 5.0, 1e-3, TIME_GAIN) == pytest.approx(once)


@pytest.mark.parametrize("functions", [3, 4, 7, 12])
def test_equation_5_9_emergence_over_width(functions: int):
    case = CASES["bases"]._replace(fields={"size": 0.3, "functions": functions})
    (*_, last) = gradient_flow(case.network(), case.loss(), [0, 20]).networks()
    predicted = strengths_over_width(functions, 3, 5.0, nodes=4)
    learned = case.strengths(last)
    np.testing.assert_allclose(learned, predicted[: len(learned)], atol=1e-6)
    assert not predicted[len(learned) :].any()
