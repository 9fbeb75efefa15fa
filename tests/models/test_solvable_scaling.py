"""Scaling laws of the skill model: Table 4.1, its finite-size correction, and sums against simulations."""

import numpy as np
import pytest

from tangentscope.models.solvable.multilinear import strengths_over_time
from tangentscope.models.solvable.scaling import (
    EXPONENTS,
    endless_frequencies,
    finite_power_law,
    loss_over_compute,
    loss_over_data,
    loss_over_parameters,
    loss_over_time,
    power_law,
    skill_frequencies,
)

SCALE, INITIAL = 5.0, 0.05
DECADE = np.logspace(3, 4, 12)
WIDTHS = np.unique(np.logspace(0.5, 4, 50).astype(int)).tolist()


def losses(bottleneck: str, alpha: float) -> np.ndarray:
    frequencies, withheld = endless_frequencies(alpha, 20_000)
    return {
        "time": lambda: loss_over_time(DECADE, frequencies, SCALE, INITIAL, withheld),
        "data": lambda: loss_over_data(DECADE, frequencies, SCALE, withheld),
        "parameters": lambda: loss_over_parameters(DECADE, alpha, SCALE),
        "compute": lambda: loss_over_compute(DECADE, WIDTHS, alpha, SCALE, INITIAL),
    }[bottleneck]()


@pytest.mark.parametrize("alpha", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("bottleneck", EXPONENTS)
def test_exponents_are_those_of_table_4_1(bottleneck: str, alpha: float):
    slope, _ = np.polyfit(np.log(DECADE), np.log(losses(bottleneck, alpha)), 1)
    assert slope == pytest.approx(EXPONENTS[bottleneck](alpha), abs=0.03)


def test_of_finitely_many_skills_the_corrected_law_holds_and_the_pure_one_does_not():
    """Nam fig. C.1: α = .1, N = 50,000."""
    alpha, skills = 0.1, 50_000
    times = np.logspace(1, 4, 10)
    exact = loss_over_time(times, skill_frequencies(alpha, skills), SCALE, INITIAL)
    through = (times[0], exact[0], alpha)
    corrected = finite_power_law(times, *through, SCALE, skills)
    assert np.abs(np.log(corrected / exact)).max() < 0.05
    assert np.abs(np.log(power_law(times, *through) / exact)).max() > 0.5


def test_loss_over_time_is_the_sum_over_skills():
    frequencies = skill_frequencies(0.6, 7)
    times = np.array([[0.0, 1.0], [10.0, 1e9]])
    strengths = strengths_over_time(times, frequencies, SCALE, INITIAL, 0.5)
    expected = ((SCALE - strengths) ** 2 / 2) @ frequencies
    np.testing.assert_allclose(loss_over_time(times, frequencies, SCALE, INITIAL, gain=0.5), expected, atol=1e-12)
    first = loss_over_time(times, frequencies[:4], SCALE, INITIAL, frequencies[4:].sum(), 0.5)
    np.testing.assert_allclose(first[1, 1], SCALE**2 / 2 * frequencies[4:].sum())


def test_loss_over_data_is_the_mean_over_draws():
    frequencies = skill_frequencies(0.6, 30)
    counts = np.random.default_rng(0).multinomial(40, frequencies, size=4000)
    drawn = SCALE**2 / 2 * ((counts == 0) @ frequencies)
    assert loss_over_data(40, frequencies, SCALE) == pytest.approx(drawn.mean(), abs=5 * drawn.std() / 4000**0.5)
    assert loss_over_data(0, frequencies, SCALE) == pytest.approx(SCALE**2 / 2)


def test_one_skill_that_is_all_there_is():
    assert skill_frequencies(0.6, 1) == pytest.approx([1])
    assert loss_over_data([0, 1], [1.0], SCALE) == pytest.approx([SCALE**2 / 2, 0])


def test_endless_frequencies_leave_the_rest():
    frequencies, withheld = endless_frequencies(0.6, 1000)
    assert frequencies.sum() + withheld == pytest.approx(1, abs=1e-12)
    assert loss_over_parameters(1000, 0.6, SCALE) == pytest.approx(SCALE**2 / 2 * withheld)


@pytest.mark.parametrize("frequencies", [[0.5, 0.4], [0.7, 0.7, -0.4], [np.nan, 1.0]])
def test_frequencies_that_do_not_sum_to_one_are_refused(frequencies: list[float]):
    for call in (
        lambda: loss_over_time(1.0, frequencies, SCALE, INITIAL),
        lambda: loss_over_data(1.0, frequencies, SCALE),
    ):
        with pytest.raises(ValueError, match=r"^skill frequencies .* must be at least 0 and sum to 1, got .*: divide"):
            call()


def test_ten_thousand_skills_over_six_decades_fit_in_memory():
    """A number per skill at a time is what is held: 80 kB, whatever the number of times."""
    import tracemalloc

    frequencies, times = skill_frequencies(0.6, 10_000), np.logspace(0, 6, 60)
    tracemalloc.start()
    try:
        curve = loss_over_time(times, frequencies, SCALE, INITIAL)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (np.diff(curve) < 0).all()
    assert peak < 20 * 8 * 10_000
