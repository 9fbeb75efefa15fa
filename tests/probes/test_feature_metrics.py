"""Feature variables against their definitions, in worked examples, and by what must hold of them."""

import math

import numpy as np
import pytest
import torch
from feature_brute_force import (
    cka,
    effective_dimension,
    eigenfunctions,
    expressed,
    neural_collapse,
    overlaps,
    projection,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from turns import tried

from tangentscope import probes
from tangentscope.probes import FEATURE_VARIABLES, FeatureMetrics, feature_metrics
from tangentscope.probes.features import sample

C = 3
NC = ("nc1_norm", "nc1_trace", "nc2", "nc3", "nc4")


def linear(p: int, outputs: int, bias: bool = True, dtype: torch.dtype = torch.float64) -> nn.Linear:
    """A network whose features are its inputs."""
    return nn.Linear(p, outputs, bias=bias, dtype=dtype)


def drawn(n: int, p: int, seed: int) -> tuple[Tensor, Tensor]:
    """Features with classes in turn, which move their means and leave the constant among them."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.arange(n) % C
    centres = torch.randn(C, p, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    return torch.randn(n, p, generator=generator, dtype=torch.float64) + 2 * centres[classes] + 1, classes


def assert_defined(metrics: FeatureMetrics, values: dict[str, float | np.ndarray]) -> None:
    for name, value in values.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-7, atol=1e-10, err_msg=name)


@pytest.mark.parametrize(("n", "m", "p"), [(40, 30, 5), (40, 30, 2), (60, 40, 12)])
@pytest.mark.parametrize("task", ["classes", "scalar", "vector"])
def test_everything_is_as_defined(n: int, m: int, p: int, task: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sample, "LEAST_ROWS", 7)  # several blocks
    (φ, y), (φ_te, y_te) = drawn(n, p, 1), drawn(m, p, 2)
    outputs = 1 if task == "scalar" else C
    network = linear(p, outputs)
    if task != "classes":
        y, y_te = (
            torch.sin(one[:, : min(outputs, p)].sum(1, keepdim=True) * torch.arange(1, outputs + 1))
            for one in (φ, φ_te)
        )
    metrics = feature_metrics(network, (φ, y), (φ_te, y_te))
    ρ, e = eigenfunctions(φ.numpy(), φ_te.numpy())
    f = network(φ_te).detach().numpy()
    targets = np.eye(C)[y_te.numpy()] if task == "classes" else y_te.numpy()
    P_target, P_learned = projection(targets), projection(f)
    C_target, C_learned = targets.shape[1], np.linalg.matrix_rank(f)
    quality, utilisation = overlaps(e, P_target, C_target), overlaps(e, P_learned, C_learned)
    T = φ_te.numpy() @ φ_te.numpy().T / m
    assert_defined(
        metrics,
        {
            "intensities": ρ,
            "quality": quality,
            "utilisation": utilisation,
            "quality_cumulative": expressed(e, P_target, C_target),
            "utilisation_cumulative": expressed(e, P_learned, C_learned),
            "effective_dimension_intensity": 1 + effective_dimension(ρ[1:]),
            "feature_effective_rank": effective_dimension(ρ),
            "effective_dimension_quality": effective_dimension(quality),
            "effective_dimension_utilisation": effective_dimension(utilisation),
            "feature_trace": np.trace(φ.numpy() @ φ.numpy().T) / n,
            "kappa_cka": 1 - cka(T, P_learned),
            "feature_constant_overlap": abs(e[:, 0].sum()) / math.sqrt(m) / np.linalg.norm(e[:, 0]),
            "task_alignment": np.trace(T @ P_target) / np.linalg.norm(T) / np.linalg.norm(P_target),
            "task_alignment_centred": cka(T, P_target),
        },
    )
    if task == "scalar":
        target, first = targets[:, 0], e[:, 0]
        assert metrics["quality"][0] == pytest.approx((first @ target) ** 2 / (first @ first) / (target @ target))
    if task == "classes":
        W = network.weight.detach().numpy()
        assert_defined(metrics, neural_collapse(φ.numpy(), y.numpy(), W, network(φ).detach().numpy()))
    assert set(metrics.values) | set(metrics.profiles) == set(FEATURE_VARIABLES) - {"learnability"} - (
        set() if task == "classes" else set(NC)
    )
    assert metrics.points == (n, m)
    assert not metrics.reasons


def test_the_hidden_layer_of_a_network_is_what_is_measured():
    network = nn.Sequential(nn.Linear(4, 20), nn.Tanh(), nn.Linear(20, 6), nn.ReLU(), nn.Linear(6, C)).double()
    (x, y), (x_te, y_te) = drawn(90, 4, 1), drawn(60, 4, 2)
    φ, φ_te = network[:4](x).detach(), network[:4](x_te).detach()
    of_network = feature_metrics(network, (x, y), (x_te, y_te), learned_points=3)
    of_features = feature_metrics(network[4], (φ, y), (φ_te, y_te), learned_points=3)
    assert_defined(of_network, of_features.values | of_features.profiles)


sizes = st.tuples(st.integers(12, 40), st.integers(12, 40), st.integers(1, 9), st.integers(0, 2**16))


@settings(max_examples=20, deadline=None)
@given(sizes, st.booleans(), st.booleans())
def test_what_holds_for_all_features(size: tuple[int, int, int, int], dead: bool, near: bool):
    """Shares are in [0, 1], the features express the learned function, and a rotation changes nothing."""
    n, m, p, seed = size
    (φ, y), (φ_te, y_te) = drawn(n, p, seed), drawn(m, p, seed + 1)
    if dead:  # a feature that is never active
        φ, φ_te = (torch.cat([one, torch.zeros(len(one), 1, dtype=one.dtype)], 1) for one in (φ, φ_te))
    if near:  # two that hardly differ
        φ, φ_te = (torch.cat([one, one[:, :1] + 1e-6 * one[:, :1].sin()], 1) for one in (φ, φ_te))
    torch.manual_seed(seed)
    network = linear(φ.shape[1], C, bias=False)
    metrics = feature_metrics(network, (φ, y), (φ_te, y_te))
    for name in ("quality_cumulative", "utilisation_cumulative"):
        assert (np.diff(metrics[name]) >= -1e-12).all()
        assert metrics[name].min() >= 0
        assert metrics[name].max() <= 1
    if p < m - 2:
        assert metrics["utilisation_cumulative"][-1] == pytest.approx(1, abs=1e-6)
    assert (metrics["quality"] >= 0).all()
    assert (metrics["quality"] <= 1 / C + 1e-12).all()
    for name in ("kappa_cka", "feature_constant_overlap", "task_alignment", "task_alignment_centred", "nc4"):
        assert 0 <= metrics[name] <= 1
    rotation = torch.linalg.qr(torch.randn(len(network.weight.T), len(network.weight.T), dtype=torch.float64))[0]
    turned = linear(len(rotation), C, bias=False)
    with torch.no_grad():
        turned.weight.copy_(network.weight @ rotation)
    of_turned = feature_metrics(turned, (φ @ rotation, y), (φ_te @ rotation, y_te))
    for name, value in metrics.values.items():
        assert of_turned[name] == pytest.approx(value, rel=1e-5, abs=1e-5), name
    np.testing.assert_allclose(of_turned["intensities"], metrics["intensities"], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(of_turned["quality_cumulative"], metrics["quality_cumulative"], atol=1e-4)


@settings(max_examples=10, deadline=None)
@given(st.integers(4, 12), st.integers(0, 2**16))
def test_on_the_sample_that_features_come_of_cumulative_shares_are_sums(p: int, seed: int):
    """There eigenfunctions are orthonormal: Π*(k) = Σ Q*_j, Π̂(k) = Σ Q̂_j, Π̂(p) = 1."""
    φ, y = drawn(40, p, seed)
    metrics = feature_metrics(linear(p, C, bias=False), (φ, y), (φ, y))
    for name in ("quality", "utilisation"):
        np.testing.assert_allclose(metrics[f"{name}_cumulative"], metrics[name].cumsum(), atol=1e-9)
    assert metrics["utilisation_cumulative"][-1] == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("equal", [2, 3, 10])
def test_so_many_equal_features_have_that_dimension(equal: int):
    φ = torch.eye(equal, dtype=torch.float64).repeat(8, 1)
    metrics = feature_metrics(linear(equal, equal), (φ, torch.arange(8 * equal) % equal))
    assert metrics["feature_effective_rank"] == pytest.approx(equal)
    assert metrics["effective_dimension_intensity"] == pytest.approx(equal)


def test_the_example_of_two_gaussian_features():
    """Nam §1.5.3: covariance (1.5, 0.5; 0.5, 1.5) has intensities 2 and 1."""
    white = torch.randn(4000, 2, dtype=torch.float64)
    white = white @ torch.linalg.inv(torch.linalg.cholesky(white.T @ white / 4000)).T  # exactly so on the sample
    φ = white @ torch.linalg.cholesky(torch.tensor([[1.5, 0.5], [0.5, 1.5]], dtype=torch.float64)).T
    np.testing.assert_allclose(feature_metrics(linear(2, 1), (φ, None))["intensities"], [2, 1], rtol=1e-10)


def collapsed(points: int, p: int) -> tuple[nn.Linear, Tensor, Tensor]:
    """Features that are one vector a class, orthogonal ones, and a last layer of their simplex."""
    classes = torch.arange(points * C) % C
    means = torch.linalg.qr(torch.randn(p, C, dtype=torch.float64))[0].T
    network = linear(p, C)
    with torch.no_grad():
        network.weight.copy_(means - means.mean(0))
        network.bias.zero_()
    return network, means[classes], classes


def test_collapsed_features_are_in_the_minimum_feature_regime():
    """An MP-operator: κ = 0 and NC1 to NC4 hold (Nam Prop. 2.5.1-2.5.2); the first eigenfunction is in the span."""
    torch.manual_seed(1)  # of which the outputs have a third direction, of two units in the last place
    network, φ, y = collapsed(20, 7)
    metrics = feature_metrics(network, (φ, y), (φ, y))
    for name in ("kappa_cka", *NC):
        assert metrics[name] == pytest.approx(0, abs=1e-7), name
    assert metrics.regime == "minimum feature"
    assert metrics["quality_cumulative"][C - 1] == pytest.approx(1)
    assert metrics["effective_dimension_utilisation"] == pytest.approx(C, rel=0.5)


def test_random_features_are_in_the_extended_feature_regime():
    φ, y = drawn(300, 40, 3)
    metrics = feature_metrics(linear(40, C), (φ, y), drawn(300, 40, 4), ["kappa_cka"])
    assert metrics.regime == "extended feature"
    assert feature_metrics(linear(40, C), (φ, y), names=["nc2"]).regime is None


def test_learnability_of_the_example_in_which_it_is_not_one():
    """Nam eq. 1.36 takes L ≈ 1 for d = 5 strong features; with its own tail κ ≈ 0.98 and L ≈ 0.51."""
    ρ = np.array([1.0] * 5 + [100 / 1995] * 1995)
    L = probes.learnability(ρ, 100)
    assert L.sum() == pytest.approx(100, rel=1e-10)
    assert L[0] == pytest.approx(0.5058, abs=1e-3)


@tried(st.lists(st.floats(1e-12, 1e3), min_size=2, max_size=30), st.data(), few=6, many=60)
def test_learnability_sums_to_the_points(intensities: list[float], data: st.DataObject):
    ρ = np.sort(np.array(intensities))[::-1]
    points = data.draw(st.integers(1, len(ρ) - 1))
    L = probes.learnability(ρ, points)
    assert L.sum() == pytest.approx(points, rel=1e-8)
    assert (np.diff(L) <= 1e-15).all()  # equal but for rounding where intensities are
    assert ((L > 0) & (L < 1)).all()


def test_single_precision_tells_features_from_rounding():
    """Of rank three by construction: what is beyond is rounding, and no feature."""
    φ = (torch.randn(200, 3) @ torch.randn(3, 8)).float()
    metrics = feature_metrics(linear(8, 2, dtype=torch.float32), (φ, None), (φ, None))
    assert (metrics["intensities"] > 0).sum() == 3
    assert metrics["utilisation_cumulative"][2] == pytest.approx(metrics["utilisation_cumulative"][-1])


class Largest(TorchDispatchMode):
    """Remembers how many numbers the largest tensor had that was made inside."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return made


def test_no_tensor_grows_faster_than_the_features():
    """In particular none has a number for each pair of points."""
    p, largest = 6, []
    for n in (1000, 8000):
        with Largest() as mode:
            feature_metrics(linear(p, C), drawn(n, p, 1), drawn(n, p, 2))
        largest.append(mode.numbers)
    assert largest[1] <= 8 * largest[0]
    assert largest[1] <= 2 * 8000 * p
