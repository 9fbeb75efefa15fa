"""What data or networks do not define is NaN with its reason or refused, and never a number that looks right."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tangentscope import probes
from tangentscope.probes import FEATURE_VARIABLES, FeatureMetrics, feature_metrics
from tangentscope.probes.variables.resolve import GIVENS, NEEDS

C, P = 3, 8


def network(outputs: int = C) -> nn.Module:
    return nn.Sequential(nn.Linear(4, P), nn.Tanh(), nn.Linear(P, outputs))


def points(n: int) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 4), torch.arange(n) % C


def assert_nan(metrics: FeatureMetrics, names: set[str], reason: str) -> None:
    """These alone are NaN, all for this reason."""
    assert set(metrics.reasons) == names
    for name in names:
        assert np.isnan(metrics[name]).all()
        assert reason in metrics.reasons[name]
        assert "\n" not in metrics.reasons[name]
    for name in {*metrics.values, *metrics.profiles} - names:
        assert not np.isnan(metrics[name]).all(), name


HELD_OUT = {"quality", "quality_cumulative", "utilisation", "utilisation_cumulative", "kappa_cka"}
HELD_OUT |= {"effective_dimension_quality", "effective_dimension_utilisation", "feature_constant_overlap"}
HELD_OUT |= {"task_alignment", "task_alignment_centred"}
TASK = {name for name in HELD_OUT if "quality" in name or "task" in name}
COLLAPSE = {name for name in FEATURE_VARIABLES if name.startswith("nc")}
DIMENSIONS = {"effective_dimension_quality", "effective_dimension_utilisation"}


def test_too_few_points_to_learn_from_cut_off_the_last_features():
    metrics = feature_metrics(network(), points(6), points(200), learned_points=3)
    assert_nan(metrics, DIMENSIONS | {"learnability"}, f"6 of {P}")
    for name in ("intensities", "quality", "quality_cumulative", "utilisation", "utilisation_cumulative"):
        assert np.isnan(metrics[name]).tolist() == [False] * 6 + [True] * (P - 6)
        assert "only the first 6 are known" in metrics.notes[name]
    for name in ("feature_effective_rank", "effective_dimension_intensity"):
        assert 1 <= metrics[name] <= 6
        assert "only the first 6 are known" in metrics.notes[name]
    assert not {"feature_trace", "kappa_cka", "nc1_trace"} & metrics.notes.keys()


def test_too_few_held_out_points_cut_off_the_last_features():
    metrics = feature_metrics(network(), points(100), points(6), learned_points=3)
    assert_nan(metrics, DIMENSIONS, f"6 of {P}")
    for name in ("quality", "quality_cumulative", "utilisation", "utilisation_cumulative"):
        assert np.isnan(metrics[name]).tolist() == [False] * 6 + [True] * (P - 6)
        assert "only the first 6 are measured" in metrics.notes[name]
    assert not np.isnan(metrics["intensities"]).any()


def test_few_held_out_points_are_noted_with_what_chance_expresses():
    metrics = feature_metrics(network(), points(100), points(40))
    assert f"any {P} features express 20%" in metrics.notes["quality_cumulative"]
    assert not feature_metrics(network(), points(100), points(400)).notes


@pytest.mark.parametrize("absent", [0, 2])
def test_a_class_without_points(absent: int):
    x, y = points(90)
    some = y != absent
    assert_nan(feature_metrics(network(), (x[some], y[some]), (x, y)), COLLAPSE, f"of class {absent} (of 3)")
    assert_nan(feature_metrics(network(), (x, y), (x[some], y[some])), TASK, f"of class {absent} (of 3)")


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_constant_outputs(weight: float):
    """Of a last layer that is zero, or whose features are constant."""
    net = network()
    with torch.no_grad():
        net[2 if not weight else 0].weight.zero_()
    metrics = feature_metrics(net, points(90), points(60))
    learned = {"utilisation", "utilisation_cumulative", "effective_dimension_utilisation", "kappa_cka"}
    assert learned <= metrics.reasons.keys()
    assert all("the outputs are the same" in metrics.reasons[name] for name in learned - {"kappa_cka"})
    if weight:
        assert "same mean features" in metrics.reasons["nc1_trace"]
        assert "features are the same" in metrics.reasons["task_alignment_centred"]
    else:
        assert_nan(metrics, learned | {"nc3"}, "")
        assert "weight of a class is 0" in metrics.reasons["nc3"]


@pytest.mark.parametrize("split", ["training", "held-out"])
def test_features_that_are_not_finite(split: str):
    train, test = points(90), points(60)
    (train if split == "training" else test)[0][[7, 9]] = torch.inf
    metrics = feature_metrics(nn.Sequential(nn.Linear(4, C)), train, test)
    spoilt = {*FEATURE_VARIABLES} - {"learnability"}
    spoilt -= {"kappa_cka", "task_alignment", "task_alignment_centred"} if split == "training" else set()
    spoilt &= HELD_OUT if split == "held-out" else spoilt
    assert_nan(metrics, spoilt, f"2 of {90 if split == 'training' else 60} {split} data points are not finite, point 7")


def test_dead_features():
    net = nn.Sequential(nn.Linear(4, P), nn.ReLU(), nn.Linear(P, C))
    with torch.no_grad():
        net[0].bias.fill_(-1e3)
    metrics = feature_metrics(net, points(90), points(60))
    assert metrics["feature_trace"] == 0
    assert "all features are 0" in metrics.reasons["quality"]
    assert {*metrics.values} - {"feature_trace"} == metrics.reasons.keys() & metrics.values.keys()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda y: y.index_fill(0, torch.tensor([3]), torch.nan), "targets are not finite"),
        (torch.zeros_like, "all held-out targets are 0"),
    ],
)
def test_targets_of_a_regression(change: Callable[[Tensor], Tensor], reason: str):
    x = torch.randn(60, 4)
    metrics = feature_metrics(network(1), (x, None), (x, change(x[:, 0])))
    assert_nan(metrics, TASK, reason)


def test_learnability_needs_fewer_points_than_features():
    metrics = feature_metrics(network(), points(90), learned_points=P)
    assert_nan(metrics, {"learnability"}, f"learned_points is {P}, expected 1 … {P - 1}")
    with pytest.raises(ValueError, match="learned_points is 0"):
        probes.learnability(np.ones(3), 0)


def regression(outputs: int = C) -> dict[str, Any]:
    return {"test": (torch.randn(9, 4), torch.randn(9, outputs))}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown name": ({"names": ["kapa_cka"]}, "did you mean 'kappa_cka'"),
    "no held-out points": ({"test": None, "names": ["kappa_cka"]}, r"needs test inputs: pass test=\(inputs, targets\)"),
    "no targets": ({"train": (torch.randn(9, 4), None), "names": ["nc1_trace"]}, "needs train classes"),
    "no number of points": ({"names": ["learnability"]}, "needs learned points: pass learned_points="),
    "no pair": ({"train": torch.randn(9, 4)}, r"train is a Tensor, expected \(inputs, targets\)"),
    "too few targets": ({"train": (torch.randn(9, 4), torch.zeros(8))}, r"targets of shape \[8\] for 9 inputs"),
    "too large a class": ({"train": (torch.randn(9, 4), torch.arange(9))}, "classes 0 … 8 for 3 outputs"),
    "no class": ({"test": (torch.randn(2, 4), torch.tensor([-100, 1]))}, "classes -100 … 1 for 3 outputs"),
    "other shapes": ({"train": (torch.randn(9, 4), torch.randn(9, 2))}, r"targets of shape \[9, 2\] for 3 outputs"),
    "booleans": ({"train": (torch.randn(9, 4), torch.ones(9) > 0)}, "torch.bool targets"),
    "neural collapse of a regression": (regression() | {"train": regression()["test"], "names": "nc2"}, "needs train"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_calls_that_cannot_be_meant_are_refused(name: str, unchecked: None):
    changes, message = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match=message) as refusal:
        feature_metrics(network(), **({"train": points(9), "test": points(9)} | changes))
    assert "\n" not in str(refusal.value)


def test_classes_of_one_output_are_refused():
    x = torch.randn(9, 4)
    with pytest.raises(ValueError, match="classes 0 … 1 for 1 outputs"):
        feature_metrics(network(1), (x, torch.arange(9) % 2))


def test_a_network_without_a_last_layer_is_refused():
    with pytest.raises(ValueError, match="come of softmax"):
        feature_metrics(nn.Sequential(network(), nn.Softmax(1)), points(9), points(9))


@pytest.mark.parametrize("broken", [False, True])
def test_each_point_passes_once(broken: bool):
    """Beside the few that show what the network does; also where what comes of it is of no use."""
    net, (x, y) = network(), points(90)
    passed: list[int] = []
    net.register_forward_pre_hook(lambda _, inputs: passed.append(len(inputs[0])))
    x[5] = torch.nan if broken else x[5]
    feature_metrics(net, (x, y), points(60))
    assert sorted(count for count in passed if count > 2) == [60, 90]
    passed.clear()
    feature_metrics(net, (x, y), points(60), ["nc1_trace"])
    assert sorted(count for count in passed if count > 2) == [90]


def test_the_table_is_consistent():
    for name, variable in FEATURE_VARIABLES.items():
        assert variable.name == name
        assert variable.version >= 1
        assert variable.source
        assert (variable.compute.__doc__ or "").partition("\n")[0].endswith(".")
        assert name not in probes.VARIABLES
    assert not set(FEATURE_VARIABLES) & {*NEEDS, *GIVENS}
    with pytest.raises(KeyError, match="was not measured, only feature_trace"):
        feature_metrics(network(), points(9), names="feature_trace")["nc4"]
    assert math.isfinite(feature_metrics(network(), points(9), names="feature_trace")["feature_trace"])
