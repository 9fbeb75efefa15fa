import math

import numpy as np
import pytest

from tangentscope.probes.trajectories.adaptation import adaptation_rate, derivatives
from tangentscope.probes.trajectories.curves import (
    generalisation_delay,
    learning_regime,
    learning_time,
    reach,
    trace_ratio,
)

EPOCHS = np.array([0.0, 1, 2, 4, 7, 11, 16, 30, 31, 60])


def test_trace_ratio_is_taken_at_the_least_test_loss():
    assert trace_ratio(np.array([2.0, 3.0, 7.0, 9.0]), np.array([5.0, 4.0, 1.0, 2.0])) == pytest.approx(2.5)
    assert trace_ratio(np.array([2.0, 3.0, 7.0]), np.array([5.0, 1.0, 1.0])) == pytest.approx(0.5)
    assert trace_ratio(np.array([2.0, 3.0]), np.array([1.0, 2.0])) == 0


def test_trace_ratio_is_nan_where_it_is_open():
    assert math.isnan(trace_ratio(np.array([2.0, 3.0, 4.0]), np.array([1.0, 0.5, math.nan])))
    assert math.isnan(trace_ratio(np.array([2.0, math.nan]), np.array([1.0, 0.5])))
    assert math.isnan(trace_ratio(np.array([0.0, 1.0]), np.array([1.0, 0.5])))


def test_reach():
    assert reach(np.array([0.5, 0.1, 0.3])) == 0.1
    assert math.isnan(reach(np.array([0.5, math.nan, 0.3])))


def test_learning_time_is_when_the_last_accuracy_is_nearly_there():
    times, accuracy = [0, 10, 20, 30, 40], [0.1, 0.5, 0.76, 0.7, 0.8]
    assert learning_time(times, accuracy) == 20
    assert learning_time(times, accuracy, share=0.6) == 10
    assert learning_time(times, accuracy, share=1.0) == 40
    assert math.isnan(learning_time(times, [0.1, 0.5, 0.2, 0.1, 0.0]))
    assert math.isnan(learning_time([0, 1], [math.nan, 1]))
    with pytest.raises(ValueError, match=r"times \[2\], accuracy \[1\]: expected one value per step"):
        learning_time([0, 1], [1.0])


def test_generalisation_delay_is_large_where_a_network_groks():
    times = [0, 100, 200, 3000, 4000]
    assert generalisation_delay(times, [0, 1, 1, 1, 1], [0, 0.1, 0.1, 0.99, 1]) == 30
    assert generalisation_delay(times, [0, 0, 1, 1, 1], [0, 0, 0.9, 0.9, 0.9]) == 1
    assert math.isnan(generalisation_delay(times, [1, 1, 1, 1, 1], [0, 0, 1, 1, 1]))
    assert math.isnan(generalisation_delay(times, [0, 1, 1, 1, 1], [0, 0, 0, 0, 0]))


@pytest.mark.parametrize("window", [0.0, 5.0, 20.0])
def test_adaptation_rate_of_a_trace_linear_in_the_log_loss(window: float):
    logs = np.stack([-0.1 * EPOCHS, 1 - 0.3 * np.sqrt(EPOCHS)])
    found = adaptation_rate(EPOCHS, 3 - 7 * logs, np.exp(logs), window)
    np.testing.assert_allclose(found.rate, 7)
    np.testing.assert_allclose(found.stderr, 0, atol=1e-10)
    np.testing.assert_allclose(found.trace, 3 - 7 * found.log_loss)


def test_adaptation_rate_takes_logarithms_before_the_mean_and_averages_a_window():
    losses = np.array([[1.0, 0.5, 0.2, 0.1], [4.0, 1.0, 0.3, 0.05]])
    traces = np.array([[1.0, 2.0, 4.0, 5.0], [2.0, 2.5, 3.0, 6.0]])
    epochs = np.array([0.0, 10.0, 20.0, 30.0])
    found = adaptation_rate(epochs, traces, losses, window=20)
    mean = np.log(losses).mean(0)
    weights = np.array([[2, 2, 0, 0], [1, 2, 1, 0], [0, 1, 2, 1], [0, 0, 2, 2]]) / 4
    expected = weights @ mean
    np.testing.assert_allclose(found.log_loss, expected)
    np.testing.assert_allclose(found.rate[1], -(found.trace[2] - found.trace[0]) / (expected[2] - expected[0]))


def test_the_jackknife_of_a_mean_is_its_standard_error():
    slopes = np.array([1.0, 2.0, 4.0, 7.0])  # one loss for all seeds: the rate is the mean of theirs
    logs = np.tile(-0.2 * EPOCHS, (4, 1))
    found = adaptation_rate(EPOCHS, -slopes[:, None] * logs, np.exp(logs))
    np.testing.assert_allclose(found.rate, slopes.mean())
    np.testing.assert_allclose(found.stderr, slopes.std(ddof=1) / 2)
    assert np.isnan(adaptation_rate(EPOCHS, -logs[:1], np.exp(logs[:1])).stderr).all()


def test_adaptation_rate_is_nan_where_a_value_is_or_the_loss_stands_still():
    logs = -0.2 * EPOCHS[None]
    trace = -logs.copy()
    trace[0, 2] = math.nan
    found = adaptation_rate(EPOCHS, trace, np.exp(logs), window=0)
    np.testing.assert_array_equal(np.isnan(found.rate), [False, True, True, True] + [False] * 6)  # and its neighbours
    assert np.isnan(adaptation_rate(EPOCHS, -logs, np.ones_like(logs)).rate).all()
    assert np.isnan(adaptation_rate(EPOCHS, -logs, np.zeros_like(logs)).rate).all()  # ln 0 is no number


@pytest.mark.parametrize(
    ("entropy", "label"),
    [
        ([4, 3, 2, 2, 2, 2], "compression-only"),
        ([4, 3, 2, 2, 3, 5, 5], "compression-then-formation"),
        ([2, 3, 4, 5], "formation-only"),
        ([3, 3, 3, 3], "flat"),
    ],
)
def test_learning_regimes(entropy: list[float], label: str):
    regime = learning_regime(entropy)
    assert regime is not None
    assert regime.label == label
    assert regime.rebound == pytest.approx(regime.end - regime.minimum)
    assert regime.net == pytest.approx(regime.end - 1.0 * entropy[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: trace_ratio(np.ones(2), np.ones(3)), r"trace \[2\], test_loss \[3\]: expected one value per step"),
        (lambda: reach(np.ones(0)), r"spectral_position \[0\]: expected one value per step"),
        (lambda: adaptation_rate(np.arange(3.0), np.ones((2, 3)), np.ones((2, 4))), "stack the seeds' curves"),
        (lambda: adaptation_rate(np.ones(3), np.ones((2, 3)), np.ones((2, 3))), "epochs must increase"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_errors_say_what_to_do(call, message: str):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_derivatives_of_the_seeds_make_the_ensembles_rate():
    random = np.random.default_rng(0)
    trace, loss = random.uniform(1, 2, (4, 10)), random.uniform(1, 2, (4, 10))
    of_trace, of_logs = derivatives(EPOCHS, trace, loss, 5)
    np.testing.assert_allclose(-of_trace.mean(0) / of_logs.mean(0), adaptation_rate(EPOCHS, trace, loss, 5).rate)
