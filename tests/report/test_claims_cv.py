"""CV's claims about single networks, on made-up studies with known numbers: held, failed, undecided, NaN, missing."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from claimed_study import decided, falling, networks, study
from synthetic_study import EPOCH_STEPS, SCHEDULE, STEPS, Row

from tangentscope.pipeline.report.claims.cv_entropy import cv_grid, drop
from tangentscope.pipeline.report.claims.readings import Series

# The first step of the schedule at which half of the fall of ln L is over.
HALF = next(step for step in SCHEDULE if math.log(falling({}, "train", step)) <= 0)


def own(run: Row) -> float:
    """A little that sets seeds apart."""
    return 0.001 * run["seed"]


def dented(depth: float, until: int = HALF, end: float = 3.0):
    """Entropy that is lower by `depth` from step 4 to a step, and ends elsewhere."""

    def entropy(run: Row, step: int) -> float:
        return 2.0 - depth - own(run) if 4 <= step <= until else (end if step > 200 else 2.0)

    return entropy


@pytest.mark.parametrize(
    ("depth", "verdict", "value"),
    [(0.5, "held", 0.5 - 0.04), (0.03, "failed", 0.03 - 0.04), (-0.2, "failed", -0.04)],
)
def test_compression_is_a_fall_of_entropy_beyond_the_margin(tmp_path: Path, depth: float, verdict: str, value: float):
    (found,) = decided(study(tmp_path, networks(), dented(depth)), "compression")
    assert found.verdict == verdict
    expected = [value + own({"seed": seed}) * (depth > 0) for seed in range(5)]
    assert found.values == pytest.approx(expected)


def test_a_fall_that_comes_after_half_of_the_losses_is_no_compression(tmp_path: Path):
    late = lambda run, step: 1.0 if step > HALF else 2.0  # noqa: E731
    (found,) = decided(study(tmp_path, networks(), late), "compression")
    assert (found.verdict, found.values) == ("failed", pytest.approx([-0.04] * 5))
    assert f"window to step {HALF}" in found.samples[0].note


def test_the_margin_is_twice_the_error_where_that_is_more(tmp_path: Path):
    (found,) = decided(study(tmp_path, networks(), dented(0.5), stderr=0.1), "compression")
    assert found.values[0] == pytest.approx(0.5 - 0.2)


def test_four_seeds_leave_it_undecided(tmp_path: Path):
    (found,) = decided(study(tmp_path, networks(seeds=4), dented(0.5)), "compression")
    assert (found.verdict, len(found.values)) == ("undecided", 4)


def test_a_value_that_is_missing_or_no_number_leaves_a_seed_without(tmp_path: Path):
    def entropy(run: Row, step: int) -> float | None:
        if step == SCHEDULE[5] and run["seed"] in (1, 2):
            return None if run["seed"] == 1 else math.nan
        return dented(0.5)(run, step)

    (found,) = decided(study(tmp_path, networks(seeds=6), entropy), "compression")
    assert [sample.value is None for sample in found.samples] == [False, True, True, False, False, False]
    assert f"at step {SCHEDULE[5]}" in found.samples[1].note
    assert f"at step {SCHEDULE[5]}" in found.samples[2].note
    assert found.verdict == "undecided"


def test_runs_that_have_not_finished_have_no_number(tmp_path: Path):
    runs = networks()
    states = {runs[0]["name"]: None, runs[1]["name"]: "failed"}
    (found,) = decided(study(tmp_path, runs, dented(0.5), states=states), "compression")
    assert [sample.note for sample in found.samples[:2]] == ["under way", "failed"]
    assert found.verdict == "undecided"


def test_each_network_has_a_finding_of_its_own(tmp_path: Path):
    runs = networks(model__width=[8, 512])
    wide = lambda run, step: dented(0.5 if run["varied"]["model.width"] == 512 else 0)(run, step)  # noqa: E731
    narrow, broad = decided(study(tmp_path, runs, wide), "compression")
    assert ("width=8" in narrow.statement, narrow.verdict) == (True, "failed")
    assert ("width=512" in broad.statement, broad.verdict) == (True, "held")


@pytest.mark.parametrize(("end", "least", "verdicts"), [
    (2.5, 2.0, ["held", "held"]),
    (2.1, 2.0, ["failed", "held"]),  # within two standard errors
    (2.5, 1.5, ["held", "failed"]),
    (1.5, 1.5, ["failed", "failed"]),
])  # fmt: skip
def test_no_compression_takes_a_rise_and_no_fall(tmp_path: Path, end: float, least: float, verdicts: list[str]):
    entropy = lambda run, step: end + own(run) if step > 400 else (least if step > 5 else 2.0)  # noqa: E731
    found = decided(study(tmp_path, networks(), entropy, stderr=0.06), "fig3_no_compression")
    assert [each.verdict for each in found] == verdicts
    assert found[0].values[0] == pytest.approx(end - 2.0 - 0.12)
    assert found[1].values[0] == pytest.approx(min(least, end, 2.0) - 2.0 + 0.12)


def test_a_log_grid_sees_what_cvs_grid_steps_over(tmp_path: Path):
    fine, coarse, apart = decided(study(tmp_path, networks(), dented(0.5)), "resolution")
    assert (fine.values, fine.verdict) == ([1.0] * 5, "held")
    assert (coarse.values, coarse.verdict) == ([0.0] * 5, "failed")
    assert (apart.values, apart.verdict) == ([1.0] * 5, "held")


def test_a_compression_that_lasts_is_seen_on_both_grids(tmp_path: Path):
    slow = lambda run, split, step: math.exp(-step / STEPS)  # noqa: E731
    storage = study(tmp_path, networks(), dented(0.5, until=900), loss=slow)
    fine, coarse, apart = decided(storage, "resolution")
    assert (fine.verdict, coarse.verdict) == ("held", "held")
    assert (apart.values, apart.verdict) == ([0.0] * 5, "failed")


def test_shares_are_over_a_seeds_runs(tmp_path: Path):
    runs = networks(model__width=[8, 16, 32])
    entropy = lambda run, step: dented(0.5 if run["varied"]["model.width"] > 8 else 0)(run, step)  # noqa: E731
    fine, _, apart = decided(study(tmp_path, runs, entropy), "resolution")
    assert fine.values == pytest.approx([2 / 3] * 5)
    assert (apart.values, apart.verdict) == (pytest.approx([2 / 3] * 5), "held")


def test_runs_of_whole_epochs_have_no_log_grid(tmp_path: Path):
    runs = [run | {"schedule": list(range(0, STEPS + 1, EPOCH_STEPS))} for run in networks()]
    fine, _, apart = decided(study(tmp_path, runs, dented(0.5)), "resolution")
    assert fine.values == apart.values == []
    assert "1 steps measured within the first epoch" in fine.samples[0].note
    assert apart.verdict == "undecided"


def test_cvs_grid_is_ten_epochs_apart():
    run = SimpleNamespace(epoch_steps=10)
    steps = np.array([0, 1, 50, 99, 100, 150, 199, 201, 300, 305])
    assert cv_grid(None, run, steps).tolist() == [0, 100, 201, 305]  # pyright: ignore[reportArgumentType]
    with pytest.raises(Exception, match="no second step"):
        cv_grid(None, run, np.array([0, 50, 99]))  # pyright: ignore[reportArgumentType]


def test_the_window_is_up_to_the_first_step_past_half_of_the_fall():
    steps = np.arange(5)
    losses = Series(steps, np.array([4.0, 3.0, 2.1, 1.9, 0.0]), np.zeros(5))
    for place, inside in enumerate([True, True, True, False]):
        values = np.full(5, 2.0)
        values[place + 1] = 1.0
        entropy = Series(steps, values, np.zeros(5))
        assert (drop(entropy, losses)[0] > 0) == inside


GROWING = lambda run, step: 100 * (1 + math.log1p(step)) + own(run)  # noqa: E731


@pytest.mark.parametrize(
    ("trace", "verdicts"),
    [
        (GROWING, ["held", "held"]),
        (lambda run, step: 1e4 / GROWING(run, step), ["failed", "failed"]),
        (lambda run, step: GROWING(run, step) if step < 700 else 600.0 - step / 10, ["held", "failed"]),
    ],
    ids=["grows", "falls", "falls late"],
)
def test_a_trace_that_follows_the_loss(tmp_path: Path, trace, verdicts: list[str]):
    falls = lambda run, split, step: math.exp(-math.log1p(step) / 4)  # noqa: E731
    found = decided(study(tmp_path, networks(), trace=trace, loss=falls), "trace_follows_loss")
    assert [each.verdict for each in found] == verdicts
    if verdicts == ["held", "held"]:
        assert found[0].values == pytest.approx([1.0] * 5)


def test_the_late_slope_is_that_of_ln_trace_over_the_whole_training(tmp_path: Path):
    trace = lambda run, step: math.exp(3 * step / STEPS)  # noqa: E731
    _, late = decided(study(tmp_path, networks(), trace=trace), "trace_follows_loss")
    assert late.values == pytest.approx([3.0] * 5)


@pytest.mark.parametrize(("least", "end", "verdicts"), [
    (50.0, 200.0, ["held", "held"]),
    (95.0, 200.0, ["failed", "held"]),  # within three standard errors
    (50.0, 80.0, ["held", "failed"]),
    (110.0, 110.0, ["failed", "held"]),
])  # fmt: skip
def test_a_dip_is_beyond_three_errors_and_recovers(tmp_path: Path, least: float, end: float, verdicts: list[str]):
    trace = lambda run, step: 100.0 if step == 0 else (least - own(run) if step < STEPS / 10 else end)  # noqa: E731
    found = decided(study(tmp_path, networks(), trace=trace, stderr=2.0), "fig3_dip")
    assert [each.verdict for each in found] == verdicts
    assert found[0].values[0] == pytest.approx((100 - least - 6) / 100)
    assert found[1].values[0] == pytest.approx(math.log(end / 100))


def test_a_dip_after_the_first_tenth_is_none(tmp_path: Path):
    trace = lambda run, step: 50.0 if 200 < step < 900 else 100.0 + step  # noqa: E731
    dips, _ = decided(study(tmp_path, networks(), trace=trace), "fig3_dip")
    assert dips.verdict == "failed"


@pytest.mark.parametrize(("fall", "verdict", "value"), [(0.0, "held", 0.02), (0.3, "failed", 0.02 - 0.3)])
def test_a_monotone_trace_never_falls(tmp_path: Path, fall: float, verdict: str, value: float):
    trace = lambda run, step: 100.0 * (1 - fall) if step == SCHEDULE[9] else 100.0 + (step > 500)  # noqa: E731
    (found,) = decided(study(tmp_path, networks(), trace=trace), "monotone_trace")
    assert (found.verdict, found.values) == (verdict, pytest.approx([value] * 5))


@pytest.mark.parametrize(("factor", "verdict"), [(3.0, "held"), (0.5, "failed"), (None, "undecided")])
def test_late_data(tmp_path: Path, factor: float | None, verdict: str):
    names = ("new_point_step_parameters", "new_point_step_outputs")
    steps = lambda run, step: None if factor is None and step == STEPS else (factor or 1) ** (step / STEPS)  # noqa: E731
    others = dict.fromkeys(names, steps)
    storage = study(tmp_path, networks(), variables=("entropy", "trace", *names), others=others)
    found = decided(storage, "late_data")
    assert [each.verdict for each in found] == [verdict] * 2
    if factor:
        assert found[0].values == pytest.approx([math.log(factor)] * 5)
