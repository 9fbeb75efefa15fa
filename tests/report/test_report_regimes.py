"""Regimes told from hand-made entropy curves: each label, and what must not earn one."""

import numpy as np
import pytest

from tangentscope.probes.trajectories.curves import (
    COMPRESSION,
    COMPRESSION_THEN_FORMATION,
    FLAT,
    FORMATION,
    learning_regime,
    running_mean,
)

FALL = np.linspace(4.0, 2.0, 10)
RISE = np.linspace(2.0, 5.0, 10)

CURVES = {
    "falls and stays low": ([*FALL, *[2.0] * 10], COMPRESSION),
    "falls and rises beyond the prior": ([*FALL, *RISE], COMPRESSION_THEN_FORMATION),
    "falls and rises, short of the prior": ([*FALL, *np.linspace(2.0, 3.0, 10)], COMPRESSION_THEN_FORMATION),
    "rises from the start": (list(RISE), FORMATION),
    "dips within the margin, then rises": ([2.0, 1.98, 1.97, *RISE], FORMATION),
    "stays": ([3.0] * 12, FLAT),
    "rises and comes back": ([*np.linspace(3, 4, 8), *np.linspace(4, 3.01, 8), 3.0, 3.0], FLAT),
    "rises, then falls below the prior": ([*np.linspace(3, 4, 8), *np.linspace(4, 2, 8)], COMPRESSION),
}


@pytest.mark.parametrize(("entropy", "label"), CURVES.values(), ids=CURVES.keys())
def test_a_curve_of_each_kind_gets_its_label(entropy, label):
    regime = learning_regime(entropy)
    assert regime is not None
    assert regime.label == label


def test_noise_within_two_percent_is_flat_and_beyond_it_is_not():
    rng = np.random.default_rng(0)
    noise = rng.uniform(-1, 1, 60)
    noise[0] = 0.0
    quiet, loud = learning_regime(3.0 * (1 + 0.019 * noise)), learning_regime(3.0 * (1 + 0.3 * noise))
    assert quiet is not None
    assert loud is not None
    assert quiet.label == FLAT
    assert loud.label != FLAT


def test_a_large_standard_error_widens_the_margin():
    entropy = [3.0] * 4 + [2.8] * 8
    sure, unsure = learning_regime(entropy, [0.01] * 12), learning_regime(entropy, [0.15] * 12)
    assert sure is not None
    assert unsure is not None
    assert (sure.label, sure.margin) == (COMPRESSION, pytest.approx(0.06))
    assert (unsure.label, unsure.margin) == (FLAT, pytest.approx(0.3))


def test_landmarks_are_those_of_the_smoothed_curve():
    regime = learning_regime([4.0, 1.0, 2.5, 4.0, 5.0, 6.0])
    assert regime is not None
    assert (regime.start, regime.minimum, regime.end) == pytest.approx((4.0, 2.5, 5.5))
    assert (regime.rebound, regime.net) == pytest.approx((3.0, 1.5))


def test_running_mean_keeps_the_prior_and_averages_the_rest():
    assert running_mean(np.array([1.0, 4.0, 7.0, 1.0])) == pytest.approx([1.0, 4.0, 4.0, 4.0])


@pytest.mark.parametrize("last", [np.nan, np.inf])
def test_one_that_diverged_is_in_no_regime(last):
    """The last finite value would look like the end of a curve that has none."""
    assert learning_regime([*FALL, *RISE]) is not None
    assert learning_regime([*FALL, *RISE, last]) is None


def test_values_that_are_not_finite_are_passed_over():
    entropy = [*FALL, *RISE]
    holed = [*FALL, np.nan, np.inf, *RISE]
    assert learning_regime(holed) == learning_regime(entropy)


@pytest.mark.parametrize("entropy", [[], [1.0, 2.0], [np.nan, 1.0, 2.0, 3.0], [np.nan] * 5])
def test_no_prior_or_too_few_values_have_no_regime(entropy):
    assert learning_regime(entropy) is None
