"""Curves of single modes: against arithmetic of fifty digits, and where float64 would overflow or cancel."""

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tangentscope.models.solvable.diagonal_linear import diagonal_layers, diagonal_strengths
from tangentscope.models.solvable.linear import linear_strengths
from tangentscope.models.solvable.linear_net import linear_net_strengths, linear_net_times
from tangentscope.models.solvable.modes import grown, log_growth
from tangentscope.models.solvable.multilinear import strengths_over_time
from tangentscope.models.solvable.scalar_net import final_growth, scalar_layers, scalar_log_growth

pytestmark = pytest.mark.filterwarnings("error")
SIZES = st.floats(1e-250, 1e3) | st.just(0.0)


def growth_of_many_digits(p: float, q: float, S: float, t: float) -> float:
    """ln γ by Nam eq. 6.12, with Σ0 + S0 = 2p, Σ0 − S0 = 2q and the right exponent."""
    with mpmath.workdps(800):
        p, q, S, t = map(mpmath.mpf, (p, q, S, t))
        root = mpmath.sqrt(S**2 + 4 * p * q)
        if root == 0:
            return float(mpmath.log((1 + 2 * q * t) / (1 + 2 * p * t)))
        decay = mpmath.exp(-2 * root * t)
        above = 2 * q + S + root + (-2 * q - S + root) * decay
        below = 2 * p - S + root + (-2 * p + S + root) * decay
        return float(mpmath.log(above / below))


@given(SIZES, SIZES, st.floats(-1e2, 1e2), st.floats(0, 1e3) | st.floats(1e-9, 1e-3))
def test_growth_is_exact_from_any_start(p: float, q: float, S: float, t: float):
    if abs(S) < 1e-150:
        S = 0.0  # its square underflows
    assert float(log_growth(p, q, S, np.array(t))) == pytest.approx(
        growth_of_many_digits(p, q, S, t), rel=1e-9, abs=1e-9
    )


@pytest.mark.parametrize("initial", [1e-300, 1e-30, 1e-3, 0.999999, 1.0])
def test_sigmoids_are_exact_from_any_start_at_any_time(initial: float):
    times = np.array([0, 1e-12, 0.3, 10, 300, 345.4, 400, 1e6, 1e300])
    computed = diagonal_strengths(times, 1.0, 1.0, initial)
    with mpmath.workdps(400):
        start = 1 / mpmath.mpf(initial) - 1
        exact = [1 / (1 + start * mpmath.exp(-2 * mpmath.mpf(min(time, 1e6)))) for time in times]
    np.testing.assert_allclose(computed, np.array(exact, float), rtol=1e-12)


def test_layers_that_start_equal_follow_the_sigmoid():
    times = np.logspace(-3, 3, 20)
    scales, variances, sizes = np.array([1.0, 5.0, 0.2]), np.array([1.0, 0.1, 3.0]), np.array([0.3, 1e-8, 1e-100])
    a, b = diagonal_layers(times, sizes, sizes, scales, variances)
    np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(a * b, diagonal_strengths(times, scales, variances, sizes**2), rtol=1e-10)
    a, b = diagonal_layers(times, sizes, -sizes, -scales, variances)
    np.testing.assert_allclose(-a * b, diagonal_strengths(times, scales, variances, sizes**2), rtol=1e-10)


def test_layers_that_start_opposed_die():
    """The saddle at 0, which gradient flow from a = −b never leaves."""
    a, b = diagonal_layers([0.0, 1.0, 1e6], 1.0, -1.0, 2.0, 1.0)
    np.testing.assert_array_equal(a, -b)
    assert a[1] == pytest.approx(1 / np.sqrt(((1 + 2) * np.exp(4) - 1) / 2))  # 1/θ grows by e^2St
    assert a[2] == 0


@given(st.floats(-5, 5), st.floats(0.1, 9), st.integers(0, 99))
def test_the_scalar_net_conserves_and_ends_at_its_target(target: float, normalisation: float, seed: int):
    a, b = np.random.default_rng(seed).normal(size=(2, 7))
    later = scalar_layers([0.0, 0.5, 1e4], a, b, target, normalisation)
    np.testing.assert_allclose(later[0] ** 2 - later[1] ** 2, np.tile(a**2 - b**2, (3, 1)), atol=1e-9)
    np.testing.assert_allclose([part[0] for part in later], [a, b], rtol=1e-12)
    assert (later[0] * later[1])[2].sum() / normalisation == pytest.approx(target, abs=1e-9)
    growth = scalar_log_growth([0, 0.1, 1, 10, 1e4], a, b, target, normalisation)
    started = (a * b).sum() / normalisation
    assert (np.diff(growth) * np.sign(target - started) >= -1e-12).all()
    assert np.exp(growth[-1]) == pytest.approx(final_growth(a, b, target, normalisation))
    if target >= started > 0:
        assert final_growth(a, b, target, normalisation) >= target / ((a**2 + b**2).sum() / 2 / normalisation) * 0.999


def test_final_growth_tells_lazy_from_rich():
    a = np.array([1.0, -1.0, 1.0, 1.0])
    b = np.array([1.0, 1.0, 1.0, -1.0])  # starts at the zero function
    assert final_growth(a, b, 1e-6) == pytest.approx(1, abs=1e-6)
    assert final_growth(a / 100, b / 100, 1.0) > 1e3
    assert final_growth([1.0], [-1.0], 1.0) == np.inf


@pytest.mark.parametrize("depth", [2, 3, 4, 7, 16])
@pytest.mark.parametrize("start", [1e-6, 0.3])
def test_strengths_of_deep_nets_are_reached_when_their_times_say(depth: int, start: float):
    values, initial = np.array([2.0, 0.5]), start * np.array([2.0, 0.5])
    shares = np.array([[0.5], [0.9], [1 - 1e-9]])
    times = linear_net_times(shares * values, values, initial, depth)
    strengths = [linear_net_strengths(row, values, initial, depth).diagonal() for row in times]
    np.testing.assert_allclose(strengths, shares * values, rtol=1e-10)
    with mpmath.workdps(30):
        exact = mpmath.quad(
            lambda z: z ** (mpmath.mpf(2) / depth - 2) / (1 - z) / depth, [start, min(0.4, 2 * start), 0.5]
        )
    assert times[0, 1] == pytest.approx(float(exact) * 0.5 ** (2 / depth - 2), rel=1e-9)
    np.testing.assert_allclose(linear_net_strengths([0, 1e9], values, initial, depth), [initial, values], rtol=1e-12)
    np.testing.assert_array_equal(linear_net_strengths([0, 1.0], values, values, depth), [values, values])


@pytest.mark.parametrize("initial", [0.0, -1.0, 1.1])
def test_a_start_without_a_sigmoid_is_refused(initial: float):
    told = r"^a sigmoidal mode starts above 0 and not beyond its limit, got starts from .* and limits from 1 to 1$"
    with pytest.raises(ValueError, match=told):
        diagonal_strengths(1.0, 1.0, 1.0, initial)
    with pytest.raises(ValueError, match=told):
        strengths_over_time(1.0, [0.5, 0.5], 1.0, initial)
    with pytest.raises(ValueError, match=told):
        linear_net_strengths(1.0, 1.0, initial, 3)


def test_linear_modes_are_exact_where_they_have_hardly_moved():
    assert linear_strengths(1e-20, 3.0, 2.0) == pytest.approx(6e-20, rel=1e-12)
    np.testing.assert_array_equal(linear_strengths([0, 1e300], [1.0, 2.0], 1.0, 5.0), [[5, 5], [1, 2]])


def test_nothing_grown_is_nothing():
    assert grown(0.0, np.array(1e6)) == 0
