"""A variable that cannot be computed leaves the others as they are; mistakes of the caller are told before any work."""

import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tangentscope.probes import VARIABLES, Variable, collective_variables, draw_indices, measure
from tangentscope.probes.givens import givens_at
from tangentscope.probes.spectra import eigensolvers
from tangentscope.probes.variables import evaluate
from tangentscope.probes.variables.resolve import known_from

DRAWS = draw_indices(9, draws=3, size=4, seed=0)
GIVEN: dict[str, Any] = {"targets": torch.arange(9) % 2, "loss": nn.CrossEntropyLoss(reduction="none")}


def network(outputs: int = 2) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, outputs)).double()


def points() -> Tensor:
    return torch.randn(9, 4, dtype=torch.float64)


class Failing:
    """Computes a trace, or a profile of three, but in the draws that it fails in."""

    def __init__(self, draws: set[int], error: type[Exception] = ArithmeticError, profile: bool = False):
        self.draws, self.error, self.profile, self.calls = draws, error, profile, -1

    def __call__(self, kernel: Tensor) -> float | np.ndarray:
        self.calls += 1
        if self.calls in self.draws:
            raise self.error(f"no luck\nin draw {self.calls}")
        return np.full(3, float(kernel.trace())) if self.profile else float(kernel.trace())


def put(monkeypatch: pytest.MonkeyPatch, failing: Failing) -> None:
    def compute(kernel: Tensor) -> float | np.ndarray:
        return failing(kernel)

    kind = "profile" if failing.profile else "number"
    monkeypatch.setitem(VARIABLES, "odd", Variable("odd", version=1, source="here", compute=compute, kind=kind))  # type: ignore


@pytest.mark.parametrize("draws", [{1}, {0, 2}, {0, 1, 2}])
def test_it_is_nan_where_it_fails_and_says_why(draws: set[int], monkeypatch: pytest.MonkeyPatch):
    model, inputs = network(), points()
    expected = measure(model, inputs, DRAWS, "full", ("trace", "entropy", "eigenvalues_leading"))
    put(monkeypatch, Failing(draws))
    found = measure(model, inputs, DRAWS, "full", ("trace", "odd", "entropy", "eigenvalues_leading"))
    assert found.reasons == {"odd": f"ArithmeticError: no luck in draw {min(draws)}"}
    traces = np.where([draw in draws for draw in range(3)], math.nan, expected.values["trace"])
    np.testing.assert_allclose(found.values["odd"], traces, rtol=1e-12)
    assert math.isnan(found.mean("odd"))
    for name in ("trace", "entropy"):
        np.testing.assert_array_equal(found.values[name], expected.values[name])
    np.testing.assert_array_equal(found.profiles["eigenvalues_leading"], expected.profiles["eigenvalues_leading"])
    np.testing.assert_array_equal(found.eigenvalues, expected.eigenvalues)


@pytest.mark.parametrize(("draws", "length"), [({1}, 3), ({0, 1, 2}, 1)])
def test_a_profile_is_nan_where_it_fails(draws: set[int], length: int, monkeypatch: pytest.MonkeyPatch):
    put(monkeypatch, Failing(draws, profile=True))
    found = measure(network(), points(), DRAWS, "full", ("odd", "trace"))
    expected = np.repeat(found.values["trace"][:, None], length, 1)
    expected[list(draws)] = math.nan
    np.testing.assert_allclose(found.profiles["odd"], expected, rtol=1e-12)
    assert list(found.reasons) == ["odd"]


def test_without_eigenvectors_there_is_still_a_trace(monkeypatch: pytest.MonkeyPatch):
    """Solvers do give up; what needs no eigenvectors is as it would have been."""

    def give_up(kernel: Tensor) -> Any:
        raise np.linalg.LinAlgError("Eigenvalues did not converge")

    model, inputs = network(), points()
    expected = measure(model, inputs, DRAWS, "full", ("trace", "entropy", "kinetic_energy"), **GIVEN)
    monkeypatch.setattr(eigensolvers, "eigensystem", give_up)
    wanted = ("trace", "projection_factors", "entropy", "kinetic_energy", "mode_coupling")
    found = measure(model, inputs, DRAWS, "full", wanted, **GIVEN)
    assert found.reasons == dict.fromkeys(
        ("projection_factors", "mode_coupling"), "LinAlgError: Eigenvalues did not converge"
    )
    assert all(np.isnan(profile).all() for profile in found.profiles.values())
    for name, values in expected.values.items():
        np.testing.assert_allclose(found.values[name], values, rtol=1e-9)


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
def test_a_machine_out_of_memory_is_no_property_of_the_kernel(error: type[Exception], monkeypatch: pytest.MonkeyPatch):
    put(monkeypatch, Failing({1}, error))
    with pytest.raises(error, match="no luck"):
        measure(network(), points(), DRAWS, "full", ("trace", "odd"))


def test_of_a_kernel_at_hand_it_is_an_error(monkeypatch: pytest.MonkeyPatch):
    put(monkeypatch, Failing({0, 1}))
    with pytest.raises(ArithmeticError, match="no luck"):
        collective_variables(torch.eye(3), ("trace", "odd"))
    reasons: dict[str, str] = {}
    found = evaluate(("odd", "trace"), known_from(torch.eye(3)), reasons)
    assert (math.isnan(float(found["odd"])), found["trace"], list(reasons)) == (True, 3.0, ["odd"])
    with pytest.raises(ValueError, match="label_alignment needs labels"):
        evaluate(("trace", "label_alignment"), known_from(torch.eye(3)), reasons)


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "targets of another shape": ({"variables": ("label_alignment",), "targets": torch.zeros(9, 3)}, "do not fit"),
    "targets that are no class": ({"variables": ("label_alignment",), "targets": torch.full((9,), 2)}, "is no class"),
    "another network": ({"variables": ("kernel_distance",), "initial": network(3)}, "has 3 outputs a point"),
    "an output that is not there": ({"output": 0}, "leave output out"),
    "no treatment": ({"outputs": "trace"}, "outputs='trace'"),
}


@pytest.mark.parametrize("name", MISTAKES)
@pytest.mark.usefixtures("unchecked")
def test_mistakes_are_told_before_any_kernel_is_computed(name: str, monkeypatch: pytest.MonkeyPatch):
    changes, message = MISTAKES[name]
    computed: list[object] = []
    block = sys.modules["tangentscope.probes.kernels.computation"].add_block
    monkeypatch.setattr(
        sys.modules["tangentscope.probes.kernels.computation"],
        "add_block",
        lambda *args: (computed.append(args), block(*args)),
    )
    with pytest.raises((TypeError, ValueError), match=message):
        measure(network(), points(), DRAWS, **changes)
    assert computed == []
    measure(network(), points(), DRAWS)
    assert computed


class Force(nn.Module):
    """Gradients of a network's energy at its inputs, taken inside forward."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.energy = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        x = x.requires_grad_()
        energy = self.energy(x).square().sum()
        return torch.autograd.grad(energy, x, create_graph=True)[0].flatten(1)[:, :3]


def force() -> tuple[nn.Module, Tensor]:
    model = Force(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 1, 1)).double()
    return model, torch.randn(5, 1, 6, 6, dtype=torch.float64)


@pytest.mark.parametrize("outputs", ["full", "traced", "summed"])
def test_networks_that_take_gradients_themselves_are_measured(outputs: str):
    model, inputs = force()
    targets = torch.randn(5, 3, dtype=torch.float64)
    how: dict[str, Any] = {"targets": targets, "loss": lambda f, y: (f - y).square().sum(1) / 2}
    with torch.no_grad():
        found = measure(model, inputs, np.array([[0, 1, 4]]), outputs, ("trace", "label_alignment"), **how)
        residual = givens_at(model, inputs, targets, how["loss"], {"residual"})["residual"]
    assert found.reasons == {}
    assert np.isfinite(found.values["label_alignment"]).all()
    torch.testing.assert_close(residual, model(inputs).detach() - targets)
    assert not residual.requires_grad


def test_what_is_wrong_with_a_network_that_takes_gradients_is_told():
    model, inputs = force()
    model.register_forward_hook(lambda module, args, found: found.sum(0))
    with pytest.raises(ValueError, match=r"outputs have shape \[3\] for 5 inputs"):
        measure(model, inputs, np.array([[0, 1, 4, 2, 3]]))


def test_givens_take_as_many_points_at_a_time_as_there_is_memory_for():
    """Their graphs would hold all layers' values of all points otherwise."""
    passed: list[int] = []
    model = nn.Sequential(nn.Linear(4, 500), nn.Tanh(), nn.Linear(500, 3)).double()
    model.register_forward_pre_hook(lambda module, args: passed.append(len(args[0])))
    inputs, targets = torch.randn(40, 4, dtype=torch.float64), torch.arange(40) % 3
    given = (inputs, targets, lambda f, y: F.cross_entropy(f, y, reduction="none"), {"residual", "labels"})
    whole = givens_at(model, *given)
    assert passed[1:] == [40]
    passed.clear()
    parts = givens_at(model, *given, memory_bytes=60_000)
    assert sum(passed[1:]) == 40
    assert 1 < max(passed[1:]) < 20
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)
