"""The table of derived quantities, on made-up studies with known answers."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from claimed_study import networks, study
from synthetic_study import EPOCH_STEPS, SCHEDULE, STEPS, Row

from tangentscope import pipeline
from tangentscope.probes.trajectories.adaptation import adaptation_rate

BEST = SCHEDULE[-4]  # where the test loss is least


def loss(run: Row, split: str, step: int) -> float:
    return math.exp(-math.log1p(step)) if split == "train" else 1 + abs(math.log((1 + step) / (1 + BEST)))


def trace(run: Row, step: int) -> float:
    return (100.0 + run["seed"]) * (1 + math.log1p(step))


def turning(run: Row, step: int) -> float:
    """Least at step 100 or so, later by seed; wide networks rise again."""
    size = run["varied"].get("model.width", 64)
    turn = 5 + 0.2 * run["seed"]
    t = math.log1p(step)
    return 2 - 0.1 * t if t < turn else 2 - 0.1 * turn + (0.1 * (t - turn) if size >= 32 else 0.0)


def quantities(frame: pd.DataFrame, quantity: str) -> pd.DataFrame:
    return frame.loc[frame["quantity"] == quantity].reset_index(drop=True)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    root = tmp_path_factory.mktemp("derived")
    study(root, networks(seeds=3, model__width=[8, 32, 128]), turning, trace, loss)
    return pipeline.load(root, "derived")


def test_values_at_the_least_test_loss(table: pd.DataFrame):
    at = quantities(table, "trace_at_least_test_loss")
    of_runs, of_networks = at[at["run"].notna()], at[at["run"].isna()]
    assert (of_runs["step"] == BEST).all()
    assert of_runs["epoch"].tolist() == pytest.approx([BEST / EPOCH_STEPS] * 9)
    expected = [trace({"seed": seed}, BEST) for seed in range(3)]
    assert of_runs["value"].tolist()[:3] == pytest.approx(expected)
    assert of_networks["network"].tolist() == ["width=8", "width=32", "width=128"]
    assert of_networks["value"].tolist() == pytest.approx([np.mean(expected)] * 3)
    assert of_networks["spread"].tolist() == pytest.approx([np.std(expected, ddof=1)] * 3)
    assert of_networks["stderr"].tolist() == pytest.approx([np.std(expected, ddof=1) / math.sqrt(3)] * 3)
    assert quantities(table, "test_loss_least")["value"].tolist() == pytest.approx([1.0] * 12)


def test_the_trace_ratio_is_bscs(table: pd.DataFrame):
    assert quantities(table, "trace_ratio")["value"].tolist() == pytest.approx([math.log1p(BEST)] * 12)


def test_regimes_and_the_spread_of_the_turning_epoch(table: pd.DataFrame):
    regimes = quantities(table, "regime")
    assert regimes[regimes["run"].isna()]["text"].tolist() == [
        "compression-only", "compression-then-formation", "compression-then-formation",
    ]  # fmt: skip
    turns = quantities(table, "turning_epoch")
    own = turns[turns["run"].notna() & (turns["network"] == "width=32")]["value"].tolist()
    steps = [value * EPOCH_STEPS for value in own]
    # Smoothed over three steps: within one step of the schedule of where the curve turns.
    for seed, step in enumerate(steps):
        true = math.expm1(5 + 0.2 * seed)
        near = [s for s in SCHEDULE if abs(SCHEDULE.index(s) - np.searchsorted(SCHEDULE, true)) <= 1]
        assert step in near
    mean = turns[turns["run"].isna() & (turns["network"] == "width=32")]
    assert mean["spread"].tolist() == pytest.approx([np.std(own, ddof=1)])


def test_the_adaptation_rate_is_that_of_the_seeds_together(table: pd.DataFrame):
    epochs = np.array(SCHEDULE) / EPOCH_STEPS
    traces = np.array([[trace({"seed": seed}, step) for step in SCHEDULE] for seed in range(3)])
    losses = np.array([[loss({}, "train", step) for step in SCHEDULE]] * 3)
    expected = adaptation_rate(epochs, traces, losses, 20)
    ours = quantities(table, "adaptation_rate")
    ours = ours[ours["network"] == "width=8"]
    np.testing.assert_allclose(ours["value"], expected.rate)
    np.testing.assert_allclose(ours["stderr"], expected.stderr)
    at = quantities(table, "adaptation_rate_at_least_test_loss")
    assert at["value"].tolist() == pytest.approx([expected.rate[SCHEDULE.index(BEST)]] * 3)


def test_the_least_width_with_formation(table: pd.DataFrame):
    (row,) = quantities(table, "least_width_with_formation").to_dict("records")
    assert (row["value"], row["seeds"]) == (32.0, 3)


def test_where_nothing_forms_it_says_so(tmp_path: Path):
    study(tmp_path, networks(seeds=2, model__width=[8, 16], model__depth=[2, 3]), turning, trace, loss)
    found = quantities(pipeline.load(tmp_path, "derived"), "least_width_with_formation")
    assert found["network"].tolist() == ["depth=2", "depth=3"]
    assert found["value"].isna().all()
    assert found["text"].tolist() == ["none of 8, 16"] * 2


def test_what_is_nan_or_unfinished_is_not_averaged_away(tmp_path: Path):
    runs = networks(seeds=3)
    broken = lambda run, split, step: math.nan if run["seed"] == 1 and step == 40 else loss(run, split, step)  # noqa: E731
    schedule = [run | {"schedule": [0, 10, 40, 200, STEPS]} for run in runs]
    study(tmp_path, schedule, turning, trace, broken, states={runs[2]["name"]: None})
    table = pipeline.load(tmp_path, "derived")
    at = quantities(table, "trace_at_least_test_loss")
    assert at["seeds"].tolist() == [1, 1, 2]
    assert np.isnan(at["value"]).tolist() == [False, True, True]
    assert at["text"].tolist() == ["", "a test loss is not finite", "a test loss is not finite"]


def test_a_study_without_kernels_has_no_rows(tmp_path: Path):
    study(tmp_path, networks(seeds=1), variables=())
    table = pipeline.load(tmp_path, "derived")
    assert len(table) == 0
    assert "quantity" in table
