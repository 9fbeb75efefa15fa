"""Power laws and their breaks, on made-up ensembles whose exponents and break points are known."""

import math

import numpy as np
import pytest
from scipy.optimize import curve_fit

from tangentscope.probes.trajectories.at_loss import against_log_loss
from tangentscope.probes.trajectories.break_point import BrokenPowerLaw, break_point, break_ratio
from tangentscope.probes.trajectories.broken_line import broken_line
from tangentscope.probes.trajectories.power_law import exponents, power_law
from tangentscope.probes.trajectories.resampling import Estimate, NoFitError, bootstrap, jackknife, without_each

WIDTHS = 2.0 ** np.arange(2, 13)  # 4 … 4096
SEEDS = 20


def noisy(law: np.ndarray, seed: int, noise: float = 0.1, seeds: int = SEEDS) -> np.ndarray:
    """An ensemble [seeds, sizes] around a law."""
    return law * np.exp(noise * np.random.default_rng(seed).normal(size=(seeds, len(law))))


def broken(place: float, before: float, after: float, smoothness: float = 0.2) -> np.ndarray:
    law = BrokenPowerLaw(Estimate(place), Estimate(before), Estimate(after), 0.7, smoothness)
    return law(WIDTHS)


def within(estimate: Estimate, truth: float) -> bool:
    return estimate.low <= truth <= estimate.high


@pytest.mark.parametrize("exponent", [-0.5, pytest.param(0.7, marks=pytest.mark.slow)])
@pytest.mark.parametrize("seeds", [5, SEEDS])
def test_exponents_are_recovered_within_their_intervals(exponent: float, seeds: int):
    laws = [power_law(WIDTHS, noisy(3 * WIDTHS**exponent, draw, seeds=seeds)) for draw in range(200)]
    assert np.mean([within(law.exponent, exponent) for law in laws]) >= 0.9
    widths = [law.exponent.high - law.exponent.low for law in laws]
    assert np.median(widths) < 0.1, "an interval that holds everything would hold the truth too"


@pytest.mark.parametrize("draws", [25, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("place", "before", "after"), [(300.0, 0.5, 0.0), (120.0, 0.0, -0.7)])
def test_break_points_are_recovered_within_their_intervals(place: float, before: float, after: float, draws: int):
    law = broken(place, before, after)
    fits = [break_point(WIDTHS, noisy(law, draw), resamples=99) for draw in range(draws)]
    for truth, found in ((place, "place"), (before, "before"), (after, "after")):
        assert np.mean([within(getattr(fit, found), truth) for fit in fits]) >= 0.9, found
    assert np.median([fit.place.high / fit.place.low for fit in fits]) < 3


@pytest.mark.parametrize("draws", [15, pytest.param(200, marks=pytest.mark.slow)])
def test_the_ratio_of_two_breaks_is_recovered(draws: int):
    rank, ratio = broken(128.0, 0.5, 0.0), broken(512.0, 0.1, -0.8)
    found = [break_ratio(WIDTHS, noisy(rank, draw), noisy(ratio, 10_000 + draw), resamples=99) for draw in range(draws)]
    assert np.mean([within(each, -2) for each in found]) >= 0.9


@pytest.mark.parametrize("draws", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_of_a_pure_power_law_no_break_is_found(draws: int):
    found = 0
    for draw in range(draws):
        try:
            break_point(WIDTHS, noisy(WIDTHS**0.5, draw), resamples=1)
            found += 1
        except NoFitError:
            pass
    assert found <= 0.05 * draws


def test_a_break_without_noise_is_where_scipy_has_it():
    law = broken(237.0, 0.6, -0.1)
    fit = break_point(WIDTHS, law[None])

    def line(x: np.ndarray, place: float, before: float, bend: float, level: float) -> np.ndarray:
        return level + before * (x - place) + bend * 0.2 * np.logaddexp(0, (x - place) / 0.2)

    there, _ = curve_fit(line, np.log(WIDTHS), np.log(law), p0=[5, 0.5, -0.5, 0.5])
    assert fit.place.value == pytest.approx(math.exp(there[0]), rel=0.02)
    assert fit.before.value == pytest.approx(there[1], abs=0.01)
    assert fit.after.value == pytest.approx(there[1] + there[2], abs=0.01)
    np.testing.assert_allclose(fit(WIDTHS), law, rtol=0.01)


def test_the_fitted_range_leaves_out_what_bends_away():
    law = np.where(WIDTHS < 32, 3.0, 3 * (WIDTHS / 32) ** -0.5)
    found = power_law(WIDTHS, noisy(law, 0, noise=0.01))
    assert (found.first, found.last) == (32, 4096)
    assert found.exponent.value == pytest.approx(-0.5, abs=0.01)
    assert found(WIDTHS[5:]) == pytest.approx(law[5:], rel=0.02)
    everywhere = power_law(WIDTHS, noisy(law, 0, noise=0.01), within=(4, 4096))
    assert everywhere.exponent.value == pytest.approx(np.polyfit(np.log(WIDTHS), np.log(law), 1)[0], abs=0.01)


def test_own_exponents_have_the_mean_of_the_ensembles():
    values = noisy(WIDTHS**-0.4, 3)
    own = exponents(WIDTHS, values, (4, 4096))
    assert own.mean() == pytest.approx(power_law(WIDTHS, values, (4, 4096)).exponent.value)
    values[4, 2] = math.nan
    assert np.isnan(exponents(WIDTHS, values, (4, 4096))).nonzero()[0].tolist() == [4]


def test_what_is_no_number_is_left_out_and_said():
    values = noisy(WIDTHS**-0.4, 1)
    values[:11, 0], values[:3, 5], values[7, 8] = math.nan, -1.0, math.inf
    found = power_law(WIDTHS, values)
    assert found.left_out == (4.0,)
    assert found.first == 8
    assert within(found.exponent, -0.4)


@pytest.mark.parametrize(
    ("fit", "sizes", "values", "message"),
    [
        (power_law, WIDTHS[:3], np.ones((5, 3)), "3 sizes with numbers, a power law takes 4: measure more"),
        (power_law, WIDTHS, np.full((5, 11), math.nan), "none of 55 numbers is positive and finite; all runs diverged"),
        (break_point, WIDTHS[:5], np.ones((5, 5)), "5 sizes with numbers, a broken power law takes 6"),
        (break_point, WIDTHS, np.full((5, 11), math.nan), "all runs diverged"),
        (break_point, WIDTHS, noisy(WIDTHS**0.5, 0), "no break: "),
        (break_point, WIDTHS, noisy(broken(300.0, -0.5, 0.5), 0, 0.01), "no break: "),
        (break_point, WIDTHS, broken(300.0, -0.5, 0.5)[None], "no break: growth never slows down"),
        (break_point, WIDTHS, broken(5.0, 0.5, -0.5)[None], "no break: the best one lies at the border of 8 … 2048"),
        (break_point, WIDTHS, noisy(WIDTHS**0.5, 8), "before and .* after are no nearer to the means than one"),
    ],
)
def test_what_cannot_be_fitted_says_why(fit, sizes: np.ndarray, values: np.ndarray, message: str):
    with pytest.raises(NoFitError, match=message) as caught:
        fit(sizes, values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("sizes", "values", "message"),
    [
        (WIDTHS, np.ones(11), r"sizes \[11\], values \[11\]: expected \[sizes\] and \[seeds, sizes\]"),
        (WIDTHS[::-1], np.ones((2, 11)), "positive and ascending"),
        (WIDTHS - 4, np.ones((2, 11)), "positive and ascending"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_shapes_that_do_not_fit(sizes: np.ndarray, values: np.ndarray, message: str):
    with pytest.raises(ValueError, match=message):
        power_law(sizes, values)


def test_an_interval_of_few_seeds_is_as_wide_as_students():
    values = np.array([1.0, 2, 4, 5, 8])
    found = bootstrap(lambda draws: values[draws].mean(1), 5, resamples=20_000)
    half = 2.776 * values.std(ddof=1) / math.sqrt(5)
    assert found.value == 4
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.15)
    assert math.isnan(bootstrap(lambda draws: values[draws].mean(1), 1).low)


def test_the_jackknife_of_means_is_their_standard_error():
    values = np.array([[1.0, 2], [2, 2], [6, 5]])
    without = values[without_each(3)].mean(1)
    assert without[:, 0].tolist() == [4, 3.5, 1.5]
    assert jackknife(without).tolist() == pytest.approx((values.std(0, ddof=1) / math.sqrt(3)).tolist())
    assert without_each(1).shape == (1, 0)
    assert np.isnan(jackknife(np.zeros((1, 2)))).all()


def test_curves_are_compared_at_the_same_loss():
    slow = against_log_loss(np.array([2.0, 1, 0, -1]), np.array([0.0, 10, 20, 30]), np.array([1.5, 0.0, -0.5]))
    fast = against_log_loss(np.array([2.0, -1]), np.array([0.0, 30]), np.array([1.5, 0.0, -0.5]))
    assert slow.tolist() == pytest.approx([5, 20, 25])
    assert fast.tolist() == pytest.approx(slow.tolist()), "the same way through the losses, at another pace"


def test_levels_count_where_they_are_first_reached():
    found = against_log_loss(
        np.array([2.0, 1, 1.5, 0]), np.array([0.0, 10, 20, 30]), np.array([3.0, 1.2, 0.5, 0.0, -0.1])
    )
    assert np.isnan(found).tolist() == [True, False, False, False, True]
    assert found[1:4].tolist() == pytest.approx([8, 20 + 10 * 2 / 3, 30])


@pytest.mark.usefixtures("unchecked")
def test_curves_without_a_loss_are_refused():
    with pytest.raises(ValueError, match=r"log_loss \[2\], values \[3\]"):
        against_log_loss(np.ones(2), np.ones(3), np.ones(1))
    with pytest.raises(ValueError, match="log_loss has NaN"):
        against_log_loss(np.array([1.0, math.nan]), np.ones(2), np.ones(1))


@pytest.mark.parametrize("after", [-2.0, -0.1])
def test_a_broken_line_is_found_again_whichever_part_is_the_steeper(after: float):
    x = np.linspace(0, 5, 12)
    found = broken_line(x, 3 - 0.5 * np.minimum(x - 2, 0) + after * np.maximum(x - 2, 0))
    assert found == pytest.approx((2, -0.5, after), abs=0.02)
    with pytest.raises(ValueError, match="got 4 points, expected 5"):
        broken_line(x[:4], x[:4])
