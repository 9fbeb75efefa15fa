"""Onsets of curves whose onset is known, and curves that have none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tangentscope.pipeline.report.onsets import Onset, onset

STEPS = np.arange(1500.0)
LOG = np.unique(np.geomspace(1, 1500, 60).round())


def at(x: np.ndarray, values: np.ndarray) -> float:
    found = onset(x, values)
    assert found is not None
    return found.at


def like_pong(seed: int, start: float, length: float) -> np.ndarray:
    """−20.5, then up to 17.5 within `length`, with a louder noise while rising, cut off at −21."""
    rng = np.random.default_rng(seed)
    up = np.clip((STEPS - start) / length, 0, 1)
    return np.maximum(-21, -20.5 + 38 * up + rng.normal(size=len(STEPS)) * np.where(up > 0, 3, 0.7))


@pytest.mark.parametrize("seed", range(5))
def test_a_jump_is_found_to_the_step_and_the_beginning_of_a_slow_rise_within_some(seed: int):
    assert at(STEPS, like_pong(seed, 600, 1)) == pytest.approx(600, abs=1)
    assert at(STEPS, like_pong(seed, 600, 500)) == pytest.approx(600, abs=15)


def test_gaps_hide_nothing_and_cost_no_more_than_what_they_hide():
    values = like_pong(0, 600, 500)
    values[np.random.default_rng(1).random(len(values)) < 0.4] = np.nan
    assert at(STEPS, values) == pytest.approx(600, abs=20)
    jump = np.where(STEPS > 600, 1.0, 0.0)
    jump[595:630] = np.inf
    assert onset(STEPS, jump) == Onset(594, 630)


def test_on_steps_far_apart_the_onset_is_between_two_of_them():
    values = 1.8 - 0.7 * (1 - np.exp(-LOG / 10)) + 0.6 * (LOG > 600)
    values += 0.02 * np.random.default_rng(0).normal(size=len(LOG))
    before, after = LOG[LOG <= 600].max(), LOG[LOG > 600].min()
    assert onset(LOG, values) == Onset(before, after)


def test_neither_a_fall_before_nor_what_follows_the_rise_moves_it():
    noise = 0.05 * np.random.default_rng(0).normal(size=400)
    x = np.arange(400.0)
    rise = np.clip((x - 150) / 50, 0, 1)
    alone = at(x, rise + noise)
    assert alone == pytest.approx(150, abs=4)
    assert at(x, rise + noise + 3 * np.exp(-x / 5)) == pytest.approx(alone, abs=2)
    assert at(x, rise + noise - np.clip((x - 300) / 50, 0, 0.8)) == pytest.approx(alone, abs=2)


def test_of_two_rises_the_greater_counts():
    x = np.arange(300.0)
    noise = 0.05 * np.random.default_rng(0).normal(size=300)
    late = 1.0 * (x > 50) + 3.0 * (x > 200)
    assert at(x, late + noise) == pytest.approx(200, abs=2)
    assert at(x, 3.0 * (x > 50) - 3.5 * (x > 150) + 1.0 * (x > 200) + noise) == pytest.approx(50, abs=2)


def test_flat_noise_has_no_onset_but_rarely():
    for count, most in [(10, 0.15), (60, 0.06), (400, 0.02)]:
        x = np.arange(float(count))
        found = [onset(x, np.random.default_rng(seed).normal(size=count)) for seed in range(200)]
        assert np.mean([one is not None for one in found]) <= most, count


def test_returns_that_stay_low_have_none_though_some_games_go_better():
    scores = np.random.default_rng(0).choice([-21, -20, -19, -16], p=[0.5, 0.35, 0.14, 0.01], size=1500)
    assert onset(STEPS, scores.astype(float)) is None


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(5, 1, 100) + 0.1 * np.random.default_rng(0).normal(size=100),
        np.where(np.arange(100) < 50, 1.0, 0.0) + 0.1 * np.random.default_rng(0).normal(size=100),
        np.ones(100),
        np.full(100, np.nan),
        np.array([]),
        np.array([0.0, 0.0, 0.0, 1.0, 1.0]),
    ],
    ids=["falls", "drops", "constant", "gaps alone", "nothing", "five values"],
)
def test_what_does_not_rise_or_is_too_short_has_none(values: np.ndarray):
    assert onset(np.arange(float(len(values))), values) is None


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 20),
    start=st.integers(10, 90),
    shift=st.sampled_from([-4096.0, 0.0, 64.0, 8192.0]),
    stretch=st.sampled_from([0.125, 1.0, 4.0]),
    lift=st.sampled_from([-1024.0, 0.0, 512.0]),
    scale=st.sampled_from([2.0**-20, 1.0, 2.0**20]),
)
def test_the_onset_moves_with_x_and_stays_as_values_are_scaled(
    seed: int, start: int, shift: float, stretch: float, lift: float, scale: float
):
    x = np.arange(120.0)
    values = np.clip((x - start) / 10, 0, 1) + 0.1 * np.random.default_rng(seed).normal(size=120)
    plain = at(x, values)
    assert at(stretch * x + shift, scale * (values + lift)) == stretch * plain + shift


@pytest.mark.parametrize("x", [np.arange(5.0), np.zeros(6)])
def test_curves_that_are_none_are_refused(x: np.ndarray):
    with pytest.raises(ValueError, match="expected one value per increasing position"):
        onset(x, np.zeros(6))
