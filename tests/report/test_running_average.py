"""CV fig. 3's manner: every value faint, a running average strong, a row a network."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_study import SCHEDULE, a_run, probe, write_study

from tangentscope.pipeline.report.figures.running_average import running_average, window
from tangentscope.pipeline.report.view import View
from tangentscope.probes.trajectories.curves import running_average as averaged

VALUES = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40).map(np.array)
WINDOWS = st.integers(0, 9).map(lambda half: 2 * half + 1)


@given(VALUES, WINDOWS)
def test_an_average_is_of_as_many_values_on_either_side(values, wide):
    smooth = averaged(values, wide)
    for place in range(len(values)):
        reach = min(wide // 2, place, len(values) - 1 - place)
        assert smooth[place] == pytest.approx(sum(values[place - reach : place + reach + 1]) / (2 * reach + 1))


@given(st.floats(-5, 5), st.floats(-5, 5), st.integers(1, 30), WINDOWS)
def test_a_straight_line_stays_itself(start, slope, count, wide):
    line = start + slope * np.arange(count)
    np.testing.assert_allclose(averaged(line, wide), line, atol=1e-9)


def test_what_is_not_finite_is_a_gap_and_enters_no_mean():
    values = np.array([1.0, 2.0, np.nan, 4.0, np.inf, 6.0, 7.0])
    np.testing.assert_allclose(averaged(values, 3), [1, 1.5, np.nan, 4, np.nan, 6.5, 7])


@pytest.mark.parametrize("wide", [0, -1, 4])
def test_a_window_without_a_middle_is_refused(wide):
    with pytest.raises(ValueError, match=rf"window is {wide}, expected 1, 3, 5"):
        averaged(np.ones(5), wide)


def test_the_window_is_about_a_tenth_of_the_values():
    assert [window(count) for count in (2, 20, 40, 100, 200)] == [3, 3, 5, 11, 21]


def test_a_row_is_a_network_and_holds_entropy_trace_and_loss_of_both_splits(tmp_path):
    runs = [a_run(seed, **{"model.activation": name}) for name in ("relu", "tanh") for seed in range(3)]
    [drawing] = running_average(View(write_study(tmp_path, runs)))
    titles = [panel.get_title(loc="left") for panel in drawing.figure.axes]
    assert titles == ["(a) activation = relu", "Trace", "Loss", "(b) activation = tanh", "Trace", "Loss"]
    for panel in drawing.figure.axes:
        faint = [line for line in panel.lines if line.get_alpha()]
        strong = [line for line in panel.lines if not line.get_alpha()]
        assert (len(faint), len(strong)) == (6, 2), "each seed of train and test, and the two means"
        for k, line in enumerate(strong):
            seeds = np.array([raw.get_ydata() for raw in faint[3 * k : 3 * k + 3]], dtype=float)
            expected = averaged(seeds.mean(0), window(len(SCHEDULE)))
            np.testing.assert_allclose(np.asarray(line.get_ydata(), dtype=float), expected)
    assert [text.get_text() for text in drawing.figure.legends[0].get_texts()] == ["test", "train"]
    assert "3 seeds" in drawing.caption


def test_one_network_needs_no_name_and_what_is_drawn_is_what_was_measured(tmp_path):
    view = View(write_study(tmp_path, [a_run()], probes=[probe("train")]))
    [drawing] = running_average(view)
    entropy, trace, loss = drawing.figure.axes
    assert entropy.get_title(loc="left") == "(a) Entropy"
    assert (len(entropy.lines), len(trace.lines), len(loss.lines)) == (2, 2, 4), "no kernel of test data"
    raw = np.asarray(entropy.lines[0].get_ydata(), dtype=float)
    measured = view.curve(view.runs[0], "train", "entropy", view.kernels("entropy")[0])["value"]
    np.testing.assert_array_equal(raw, np.asarray(measured))


def test_without_a_loss_the_score_stands_in_its_place(tmp_path):
    view = View(write_study(tmp_path, [a_run()]))
    view.history = view.history.loc[view.history["variable"] != "loss"]
    [drawing] = running_average(view)
    assert drawing.figure.axes[2].get_title(loc="left") == "Accuracy"
    assert "the accuracy, after CV fig. 3" in drawing.caption


def test_more_networks_than_fit_are_counted(tmp_path):
    runs = [a_run(**{"model.width": 2**k}) for k in range(11)]
    [drawing] = running_average(View(write_study(tmp_path, runs)))
    assert len(drawing.figure.axes) == 8 * 3
    assert "first 8 of 11 networks" in drawing.caption


def test_nothing_is_drawn_of_nothing(tmp_path):
    run = a_run()
    assert running_average(View(write_study(tmp_path, [run], until={run["name"]: -1}))) == []
