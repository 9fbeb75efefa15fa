"""CV's claims about networks of several sizes, activations and trainings, on made-up studies with known numbers."""

import math
from pathlib import Path
from typing import Any

import pytest
from claimed_study import decided, networks, study
from synthetic_study import SCHEDULE, STEPS, Row

WIDTHS = [8, 16, 32, 64]


def width(run: Row) -> float:
    return math.log2(run["varied"].get("model.width", 8))


def depth(run: Row) -> float:
    return math.log2(run["varied"].get("model.depth", 2))


def ends_at(number: Any, start: float = 2.0, least: float = 1.5):
    """Entropy that starts, falls, and ends where `number` says."""

    def entropy(run: Row, step: int) -> float:
        return start if step == 0 else (number(run) if step == STEPS else least)

    return entropy


@pytest.mark.parametrize(("sign", "verdict", "value"), [(1, "held", 1.0), (-1, "failed", -1.0)])
def test_formation_by_width(tmp_path: Path, sign: int, verdict: str, value: float):
    entropy = ends_at(lambda run: 3 + 0.2 * sign * width(run))
    (found,) = decided(study(tmp_path, networks(model__width=WIDTHS), entropy), "formation_grows_with_width")
    assert (found.verdict, found.values) == (verdict, pytest.approx([value] * 5))
    assert [sample.name for sample in found.samples] == [f"seed={seed}" for seed in range(5)]


def test_a_scan_of_one_field_at_a_time_has_one_finding(tmp_path: Path):
    wide = networks(model__width=WIDTHS, model__depth=[3])
    runs = [*wide, *networks(model__width=[16], model__depth=[2, 4])]
    entropy = ends_at(lambda run: 3 + 0.2 * width(run))
    found = decided(study(tmp_path, runs, entropy), "formation_grows_with_width")
    assert ["depth=3" in each.statement for each in found] == [True]


def test_a_seed_of_which_a_width_has_no_number_has_none(tmp_path: Path):
    runs = networks(model__width=WIDTHS)
    states = {run["name"]: "failed" for run in runs if run["seed"] == 2 and run["varied"]["model.width"] == 16}
    storage = study(tmp_path, runs, ends_at(lambda run: 3 + width(run)), states=states)
    (found,) = decided(storage, "formation_grows_with_width")
    assert (found.samples[2].value, found.samples[2].note) == (None, "failed")
    assert found.verdict == "undecided"


def test_widths_that_end_alike_have_no_order(tmp_path: Path):
    storage = study(tmp_path, networks(model__width=WIDTHS), ends_at(lambda run: 3.0))
    (found,) = decided(storage, "formation_grows_with_width")
    assert "two different values" in found.samples[0].note
    assert found.verdict == "undecided"


@pytest.mark.parametrize(("small", "large", "verdicts"), [
    (1.6, 2.6, ["held", "held"]),
    (1.97, 2.03, ["failed", "failed"]),  # within the margin of 2 % of S_0
    (2.5, 1.5, ["failed", "failed"]),
])  # fmt: skip
def test_small_networks_compress_and_large_ones_form(tmp_path: Path, small: float, large: float, verdicts: list[str]):
    entropy = ends_at(lambda run: small if run["varied"]["model.dim"] == 8 else large)
    found = decided(study(tmp_path, networks(model__dim=[8, 64]), entropy), "small_compress_large_form")
    assert [each.verdict for each in found] == verdicts
    assert [each.values[0] for each in found] == pytest.approx([2 - small - 0.04, large - 2 - 0.04])


GRID: dict[str, Any] = {"model__width": [8, 16, 32, 64], "model__depth": [2, 4, 8]}


@pytest.mark.parametrize("sign", [1, -1])
def test_the_planes_at_the_start_are_found(tmp_path: Path, sign: int):
    entropy = lambda run, step: 3 + sign * (0.3 * width(run) - 0.2 * depth(run))  # noqa: E731
    trace = lambda run, step: math.exp(1 + sign * (0.7 * width(run) + 0.4 * depth(run)))  # noqa: E731
    found = decided(study(tmp_path, networks(**GRID), entropy, trace), "fig2_start")
    assert [each.values[0] for each in found] == pytest.approx([0.3 * sign, 0.2 * sign, 0.7 * sign, 0.4 * sign])
    assert {each.verdict for each in found} == {"held" if sign > 0 else "failed"}


def corner(run: Row) -> bool:
    return run["varied"]["model.width"] >= 32 and run["varied"]["model.depth"] >= 8


@pytest.mark.parametrize(("relu", "tanh", "verdicts"), [
    (0.5, 0.1, ["held", "held", "held"]),
    (0.5, 0.6, ["held", "failed", "held"]),
    (0.05, -0.5, ["failed", "held", "held"]),
])  # fmt: skip
def test_the_deep_and_wide_quarter(tmp_path: Path, relu: float, tanh: float, verdicts: list[str]):
    higher = {"relu": relu, "tanh": tanh}

    def entropy(run: Row, step: int) -> float:
        return 2 + higher[run["varied"]["model.activation"]] * corner(run)

    def loss(run: Row, split: str, step: int) -> float:
        return math.exp(-entropy(run, step)) if step == STEPS else 1.0

    runs = networks(**GRID, model__activation=["relu", "tanh"])
    found = decided(study(tmp_path, runs, entropy, loss=loss), "fig2_end")
    assert [each.verdict for each in found] == verdicts
    assert [each.values[0] for each in found] == pytest.approx([relu, relu - tanh, 1.0])


def test_a_hole_in_the_grid_is_named(tmp_path: Path):
    runs = networks(**GRID)
    states = {runs[0]["name"]: "failed"}
    found = decided(study(tmp_path, runs, lambda run, step: 2 + width(run), states=states), "fig2_start")
    assert found[0].samples[0].note == f"{runs[0]['name']}: failed"


def test_loss_trends_and_their_opposites(tmp_path: Path):
    def loss(run: Row, split: str, step: int) -> float:
        base = 3 - 0.2 * width(run) + 0.1 * depth(run) * (1 if split == "train" else -1)
        return math.exp(base - 0.5 * (run["varied"]["model.activation"] == "tanh"))

    runs = networks(**GRID, model__activation=["relu", "tanh"])
    entropy = ends_at(lambda run: 1.5 if width(run) < 4 else 2.5)  # the narrowest only compress
    found = decided(study(tmp_path / "as", runs, entropy, loss=loss), "loss_trends")
    assert {each.verdict for each in found} == {"held"}
    assert len(found) == 2 * 6 + 2 * 8 + 2 * 12 + 1  # of width, depth, activation; and of those that only compress
    inverse = lambda run, split, step: 1 / loss(run, split, step)  # noqa: E731
    found = decided(study(tmp_path / "inverse", runs, entropy, loss=inverse), "loss_trends")
    assert {each.verdict for each in found} == {"failed"}


def test_where_no_network_only_compresses_the_last_trend_is_open(tmp_path: Path):
    storage = study(tmp_path, networks(model__width=WIDTHS), ends_at(lambda run: 2.5))
    *_, last = decided(storage, "loss_trends")
    assert (last.verdict, last.samples[0].note) == ("undecided", "no network only compresses")


TRAININGS = {"optimiser": ["adam", "sgd"], "train__batch_size": [32, 128]}


@pytest.mark.parametrize(("weakest", "verdicts"), [(0.4, ["held", "held"]), (0.0, ["failed", "failed"])])
def test_patterns_persist_if_the_weakest_training_shows_them(tmp_path: Path, weakest: float, verdicts: list[str]):
    def entropy(run: Row, step: int) -> float:
        weak = run["varied"] == {"optimiser": "sgd", "train.batch_size": 32}
        fall = weakest if weak else 0.6
        return 2 - fall if SCHEDULE[2] <= step < 900 else 2.0

    trace = lambda run, step: 100 + step  # noqa: E731
    falls = lambda run, split, step: math.exp(-math.log1p(step) / 4)  # noqa: E731
    found = decided(study(tmp_path, networks(**TRAININGS), entropy, trace, falls), "persistence")
    assert [each.verdict for each in found] == [*verdicts, "held"]
    assert found[0].values == pytest.approx([weakest - 0.04] * 5)
    assert "optimiser=sgd batch_size=32" in found[0].samples[0].note
    assert "3 others are above" in found[0].samples[0].note


def test_a_training_that_failed_leaves_persistence_open(tmp_path: Path):
    runs = networks(**TRAININGS)
    found = decided(study(tmp_path, runs, states={runs[0]["name"]: "failed"}), "persistence")
    assert found[0].samples[0].note == f"{runs[0]['name']}: failed"
    assert found[0].verdict == "undecided"
