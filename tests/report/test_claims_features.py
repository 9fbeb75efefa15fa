"""What claims say of made-up features: held where they are as the thesis says, failed where they are the opposite."""

from pathlib import Path

import numpy as np
import pytest
from features_study import CLASSES, P, falling, run_of, study
from synthetic_study import EPOCH_STEPS, SCHEDULE, STEPS, Row

from tangentscope.pipeline.report.claims import CLAIMS, Finding
from tangentscope.pipeline.report.view import View

SEEDS = range(5)


def verdicts(view: View, claim: str) -> list[str]:
    return [finding.verdict for finding in CLAIMS[claim](view)]


def first(view: View, claim: str) -> Finding:
    return CLAIMS[claim](view)[0]


def wobble(run: Row) -> float:
    return 0.002 * run["seed"]


@pytest.mark.parametrize(("kappa", "dimension", "said"), [(0.05, 1.1, "held"), (0.3, 3.0, "failed")])
def test_minimal_features_are_few_and_nothing_else(kappa: float, dimension: float, said: str, tmp_path: Path):
    numbers = {
        "kappa_cka": lambda run, step: kappa + wobble(run),
        "effective_dimension_intensity": lambda run, step: dimension * CLASSES + wobble(run),
        "effective_dimension_utilisation": lambda run, step: dimension * CLASSES + wobble(run),
    }
    view = study(tmp_path, [run_of(seed) for seed in SEEDS], numbers)
    assert verdicts(view, "mf_regime") == [said] * 3


def test_fixed_features_and_small_targets_are_no_part_of_that_claim(tmp_path: Path):
    kinds = [(1.0, "all", 0.05), (0.01, "all", 0.4), (1.0, "last", 0.6)]
    runs = [run_of(s, task__target_scale=scale, train__trainable=layers) for scale, layers, _ in kinds for s in SEEDS]
    by_kind = {(scale, layers): kappa for scale, layers, kappa in kinds}

    def kappa(run: Row, step: int) -> float:
        return by_kind[run["varied"]["task.target_scale"], run["varied"]["train.trainable"]] + wobble(run)

    numbers = dict.fromkeys(("effective_dimension_intensity", "effective_dimension_utilisation"), lambda run, step: 4.0)
    view = study(tmp_path, runs, {"kappa_cka": kappa, **numbers})
    assert verdicts(view, "mf_regime") == ["held"] * 3
    assert verdicts(view, "ef_of_fixed_features") == ["held"]
    lazy, linear = CLAIMS["kappa_rich_lazy_linear"](view)
    assert (lazy.verdict, linear.verdict) == ("held", "held")
    assert lazy.mean == pytest.approx(0.35)
    assert linear.mean == pytest.approx(0.2)


def test_regression_has_one_feature_and_the_constant(tmp_path: Path):
    for name, dimension, said in (("one", 2.1, "held"), ("two", 3.0, "failed")):
        numbers = {"effective_dimension_intensity": lambda run, step, d=dimension: d + wobble(run)}
        view = study(tmp_path / name, [run_of(seed, outputs=1) for seed in SEEDS], numbers)
        assert verdicts(view, "one_feature_regression") == [said]


def test_the_step_is_learned_by_one_feature(tmp_path: Path):
    names = ("effective_dimension_quality", "effective_dimension_utilisation", "feature_effective_rank")
    ends = dict(zip(names, (1.1, 1.0, 1.6), strict=True))
    view = study(tmp_path, [run_of(s) for s in SEEDS], {name: falling(3, end) for name, end in ends.items()})
    assert verdicts(view, "one_feature_of_the_step") == ["held", "held", "failed"]


def test_the_first_features_hold_all(tmp_path: Path):
    def steep(run: Row, step: int) -> np.ndarray:
        return np.minimum(1, np.arange(1, P + 1) / CLASSES) * (1 - wobble(run))

    def even(run: Row, step: int) -> np.ndarray:
        return np.arange(1, P + 1) / P - wobble(run)

    profiles = {"utilisation_cumulative": steep, "quality_cumulative": even}
    view = study(tmp_path, [run_of(s) for s in SEEDS], {"kappa_cka": falling(1, 0)}, profiles)
    assert verdicts(view, "first_features_are_all") == ["held", "failed"]


SIZES = [100, 200, 400, 800, 1600, 3200, 6400]


def of_sizes(tmp_path: Path, knee: float, late: float) -> View:
    """Losses as n^-0.2 up to a knee, then as n^-late; κ is 0.1 at 800 images."""

    def loss(run: Row, step: int) -> float:
        x = np.log(run["varied"]["task.train_size"] / knee)
        return float(np.exp(-0.2 * min(x, 0) - late * max(x, 0) + wobble(run)))

    def kappa(run: Row, step: int) -> float:
        return 0.1 * (800 / run["varied"]["task.train_size"]) ** 0.5

    runs = [run_of(seed, task__train_size=size) for size in SIZES for seed in SEEDS]
    return study(tmp_path, runs, {"kappa_cka": kappa}, loss=loss)


@pytest.mark.parametrize(
    ("knee", "late", "said"),
    [(900, 0.6, ["held", "held"]), (2600, 0.6, ["held", "failed"]), (900, 0.1, ["failed", "held"])],
)
def test_power_laws_and_their_knee(knee: float, late: float, said: list[str], tmp_path: Path):
    view = of_sizes(tmp_path, knee, late)
    assert verdicts(view, "two_power_laws") == said
    assert first(view, "two_power_laws").mean == pytest.approx(late - 0.2, abs=0.02)


@pytest.mark.parametrize(("sign", "said"), [(1, ["held", "held", "held"]), (-1, ["failed", "failed", "held"])])
def test_weight_decay(sign: int, said: list[str], tmp_path: Path):
    decays = [0.0, 1e-4, 1e-3, 1e-2]

    def rank(run: Row) -> int:
        return decays.index(run["varied"]["optimiser.weight_decay"])

    runs = [run_of(seed, optimiser__weight_decay=decay) for decay in decays for seed in SEEDS]
    view = study(
        tmp_path,
        runs,
        {"kappa_cka": lambda run, step: 0.05 - 0.01 * sign * rank(run)},
        score=lambda run, step: 0.5 + 0.1 * sign * rank(run),
    )
    assert verdicts(view, "weight_decay_tightens") == said


def test_learning_rates_and_batch_norm(tmp_path: Path):
    scores, kappas = {0.001: 0.5, 0.01: 0.9, 0.1: 0.8}, {0.001: 0.3, 0.01: 0.02, 0.1: 0.05}
    runs = [run_of(seed, optimiser__lr=rate) for rate in scores for seed in SEEDS]
    view = study(
        tmp_path / "lr",
        runs,
        {"kappa_cka": lambda run, step: kappas[run["varied"]["optimiser.lr"]]},
        score=lambda run, step: scores[run["varied"]["optimiser.lr"]],
    )
    assert verdicts(view, "learning_rate_regimes") == ["held"] * 3
    view = study(
        tmp_path / "large",
        runs,
        {"kappa_cka": lambda run, step: kappas[run["varied"]["optimiser.lr"]]},
        score=lambda run, step: scores[run["varied"]["optimiser.lr"]] - 0.5 * (run["varied"]["optimiser.lr"] == 0.1),
    )
    assert verdicts(view, "learning_rate_regimes") == ["held", "failed", "held"], "a large rate is worse still"
    runs = [run_of(seed, model__batch_norm=norm) for norm in (True, False) for seed in SEEDS]
    view = study(
        tmp_path / "bn",
        runs,
        {"kappa_cka": lambda run, step: 0.2 - 0.1 * run["varied"]["model.batch_norm"]},
        score=lambda run, step: 0.6 - 0.1 * run["varied"]["model.batch_norm"],
    )
    assert verdicts(view, "batch_norm_tightens") == ["held", "failed"]


def test_regimes_in_time(tmp_path: Path):
    kinds = {"resnet18": ("cifar10", 0.05), "mlp": ("cifar10", 0.3)}
    runs = [run_of(seed, model__name=model, task__name=task) for model, (task, _) in kinds.items() for seed in SEEDS]
    runs += [run_of(seed, model__name="mlp", task__name="mnist") for seed in SEEDS]

    def kappa(run: Row, step: int) -> float:
        net, task = run["varied"]["model.name"], run["varied"]["task.name"]
        if net == "mlp" and task == "cifar10":
            return 0.1 if 0 < step <= 10 * EPOCH_STEPS else 0.3
        if net == "resnet18" and step > 5 * EPOCH_STEPS:
            return 0.3  # of which the claim says nothing
        return 0.5 if step < EPOCH_STEPS else 0.05

    assert verdicts(study(tmp_path, runs, {"kappa_cka": kappa}), "regime_in_time") == ["held"] * 3


def test_strong_features_are_good(tmp_path: Path):
    falls = 1.0 / np.arange(1, P + 1)
    constant = np.where(np.arange(P) == 0, 0.0, falls)  # the first is nearly constant, and of no use
    profiles = {
        "intensities": lambda run, step: falls**2,
        "quality": lambda run, step: constant,
        "utilisation": lambda run, step: falls[::-1].copy(),
    }
    view = study(tmp_path, [run_of(seed) for seed in SEEDS], {"kappa_cka": falling(1, 0)}, profiles)
    assert verdicts(view, "strong_features_are_good") == ["held", "failed"]


@pytest.mark.parametrize(("late", "said"), [(0, "held"), (5, "failed")])
def test_formation_beside_minimum_features(late: int, said: str, tmp_path: Path):
    turn = SCHEDULE.index(next(step for step in SCHEDULE if step > 100))
    below = SCHEDULE[turn + late]
    view = study(
        tmp_path,
        [run_of(seed) for seed in SEEDS],
        {
            "kappa_cka": lambda run, step: 0.5 if step < below else 0.05,
            "effective_dimension_intensity": lambda run, step: 9.0 - (step == SCHEDULE[turn]),
        },
        entropy=lambda run, step: 2 + 0.2 * abs(SCHEDULE.index(step) - turn),
    )
    assert verdicts(view, "formation_meets_minimum_features") == [said, "held"]


def test_features_that_are_minimal_from_the_start_become_so_at_the_first_step(tmp_path: Path):
    numbers = {"kappa_cka": lambda run, step: 0.05, "effective_dimension_intensity": falling(9, 4)}
    turning = lambda run, step: 2 + abs(np.log1p(step) - 4) / 4  # noqa: E731
    view = study(tmp_path, [run_of(seed) for seed in SEEDS], numbers, entropy=turning)
    finding = first(view, "formation_meets_minimum_features")
    assert finding.samples[0].note.endswith("κ < 0.1 from step 1")
    assert np.isfinite(finding.values).all()


def test_kappa_is_read_when_train_accuracy_is_there_and_at_the_end(tmp_path: Path):
    trained, general = SCHEDULE[len(SCHEDULE) // 3], SCHEDULE[2 * len(SCHEDULE) // 3]

    def kappa(run: Row, step: int) -> float:
        return 0.9 if step < trained else 0.4 + wobble(run) if step == trained else 0.05

    view = study(
        tmp_path,
        [run_of(seed) for seed in SEEDS],
        {"kappa_cka": kappa},
        score=lambda run, step: 0.1 + 0.9 * (step >= general),
        train_score=lambda run, step: 0.1 + 0.9 * (step >= trained),
    )
    before, after = CLAIMS["grokking_kappa"](view)
    assert (before.verdict, after.verdict) == ("held", "held")
    assert before.mean == pytest.approx(0.404)
    assert after.mean == pytest.approx(0.05)


def test_a_run_without_its_last_value_has_no_number(tmp_path: Path):
    numbers = {"effective_dimension_intensity": lambda run, step: float("nan") if step == STEPS else 2.0}
    view = study(tmp_path, [run_of(seed, outputs=1) for seed in SEEDS], numbers)
    finding = first(view, "one_feature_regression")
    assert finding.verdict == "undecided"
    assert finding.values == []
