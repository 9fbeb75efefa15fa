import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tangentscope.probes import (
    VARIABLES,
    collective_variables,
    draw_indices,
    draw_kernels,
    eigenvalues,
    layer_names,
    layer_traces,
    measure,
    tangent_kernel,
)
from tangentscope.probes.givens import givens_at


def network(outputs: int = 2) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, outputs)).double()


def points(count: int = 9) -> Tensor:
    return torch.randn(count, 4, dtype=torch.float64)


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets, reduction="none")


@pytest.mark.parametrize(("outputs", "side"), [("full", 10), ("traced", 5), ("summed", 5)])
@pytest.mark.parametrize("population", [7, 200])
def test_each_draw_is_the_kernel_of_its_points(outputs: str, side: int, population: int):
    """Also where draws share most of their points, whose kernels are then cut out of one."""
    model, inputs = network(), points(population)
    draws = draw_indices(population, draws=8, size=5, seed=0)
    names = ("trace", "entropy", "entropy_cosine", "eigenvalues_leading")
    measured = measure(model, inputs, draws, outputs, names)
    assert measured.outputs == outputs
    assert [*measured.values] == [name for name in names if VARIABLES[name].kind == "number"]
    assert [*measured.profiles] == ["eigenvalues_leading"]
    assert measured.eigenvalues.shape == (8, side)
    assert measured.clipped_mass.shape == (8,)
    for d, draw in enumerate(draws):
        kernel = tangent_kernel(model, inputs[draw], outputs)
        expected = collective_variables(kernel, names)
        for name, found in {**measured.values, **measured.profiles}.items():
            np.testing.assert_allclose(found[d], expected[name], rtol=1e-9)
        np.testing.assert_allclose(measured.eigenvalues[d], eigenvalues(kernel), rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("outputs", ["full", "traced", "summed"])
def test_layer_traces_of_a_draw_are_those_of_its_points_and_add_up(outputs: str):
    model, inputs = network(), points(30)
    draws = draw_indices(30, draws=3, size=4, seed=1)
    measured = measure(model, inputs, draws, outputs, ("trace", "layer_traces"))
    found = measured.profiles["layer_traces"]
    for d, draw in enumerate(draws):
        expected = layer_traces(model, inputs[draw], outputs)
        assert layer_names(model) == tuple(expected)
        np.testing.assert_allclose(found[d], [*expected.values()], rtol=1e-9)
    np.testing.assert_allclose(found.sum(1), measured.values["trace"], rtol=1e-9)


def test_layer_traces_stand_beside_everything_else():
    """Labels, residuals and earlier networks, each as if it were asked for alone."""
    model, inputs, draws = network(), points(9), draw_indices(9, draws=3, size=4, seed=1)
    given: dict[str, Any] = {"targets": torch.arange(9) % 2, "loss": loss, "initial": network(), "previous": network()}
    given |= {"step": 4, "previous_step": 2}
    wanted = ("layer_traces", "label_alignment", "entropy_gap", "kinetic_energies", "sharpness", "kernel_distance",
              "kernel_velocity")  # fmt: skip
    found = measure(model, inputs, draws, "full", wanted, **given)
    assert found.reasons == {}
    for name in wanted:
        alone = measure(model, inputs, draws, "full", (name,), **given)
        for one, other in ((found.values, alone.values), (found.profiles, alone.profiles)):
            if name in other:
                np.testing.assert_allclose(one[name], other[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_draws_may_be_a_tensor_and_leave_points_out():
    model, inputs = network(), points(30)
    inputs[20:] = math.nan  # nobody looks at those
    draws = draw_indices(20, draws=3, size=4, seed=1)
    one, other = (measure(model, inputs, which) for which in (draws, torch.as_tensor(draws)))
    for name, values in one.values.items():
        assert np.isfinite(values).all()
        np.testing.assert_array_equal(values, other.values[name])


GIVENS = (
    "label_alignment", "entropy_gap", "kinetic_energy", "sharpness", "kernel_distance", "kernel_velocity",
    "kernel_velocity_log", "projection_factors", "kinetic_energies",
)  # fmt: skip


def test_what_is_given_belongs_to_the_drawn_points():
    """Labels, residuals and curvatures written down by hand, draw by draw."""
    model, initial, previous = network(3), network(3), network(3)
    inputs, classes = points(12), torch.arange(12) % 3
    draws = draw_indices(12, draws=4, size=6, seed=2)
    found = measure(
        model, inputs, draws, "full", GIVENS,
        targets=classes, loss=loss, initial=initial, previous=previous, step=7, previous_step=3,
    )  # fmt: skip
    for d, draw in enumerate(torch.as_tensor(draws)):
        x, y = inputs[draw], classes[draw]
        shares = model(x).detach().softmax(1)
        curvature = torch.diag_embed(shares) - shares[:, :, None] * shares[:, None, :]
        labels = F.one_hot(y, 3).double()
        expected = collective_variables(
            tangent_kernel(model, x), GIVENS, labels=labels, classes=y, residual=shares - labels,
            output_hessian=curvature, initial_kernel=tangent_kernel(initial, x),
            previous_kernel=tangent_kernel(previous, x), step=7, previous_step=3,
        )  # fmt: skip
        for name, values in {**found.values, **found.profiles}.items():
            np.testing.assert_allclose(values[d], expected[name], rtol=1e-7, atol=1e-12, err_msg=name)


def test_a_loss_that_is_a_mean_is_that_of_each_point():
    inputs, targets = points(), torch.randn(9, 2, dtype=torch.float64)
    draws = draw_indices(9, draws=2, size=4, seed=0)
    model, losses = network(), (lambda f, y: (f - y).square().sum(1), lambda f, y: (f - y).square().sum(1).mean())
    found = [
        measure(model, inputs, draws, "full", ("kinetic_energy",), targets=targets, loss=each).values["kinetic_energy"]
        for each in losses
    ]
    np.testing.assert_allclose(*found, rtol=1e-12)


def test_negative_classes_count_as_none():
    """Padding of a sequence: the position has no label."""
    model, inputs = nn.Sequential(nn.Linear(4, 6), nn.Unflatten(1, (3, 2))), torch.randn(2, 4)
    labels = givens_at(model, inputs, torch.tensor([[0, 1, -100], [-1, -1, 1]]), None, {"labels"})["labels"]
    assert labels.tolist() == [[1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1]]


def test_with_nothing_before_it_a_comparison_with_it_is_nan():
    model, draws = network(), draw_indices(9, draws=2, size=4, seed=0)
    found = measure(model, points(), draws, "full", ("trace", "kernel_velocity"), step=0)
    assert np.isnan(found.values["kernel_velocity"]).all()
    assert np.isfinite(found.values["trace"]).all()


def test_a_network_and_its_twin_are_at_no_distance():
    model, draws = network(), draw_indices(9, draws=2, size=4, seed=0)
    found = measure(model, points(), draws, "full", ("kernel_distance",), initial=model)
    np.testing.assert_allclose(found.values["kernel_distance"], 0, atol=1e-12)


def test_networks_and_inputs_are_left_as_they_were():
    model, initial = nn.Sequential(network(), nn.BatchNorm1d(2).double()), nn.Sequential(network())
    inputs = points().requires_grad_()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    draws = draw_indices(9, draws=3, size=4, seed=0)
    found = measure(
        model.eval(), inputs, draws, "full", ("kernel_distance", "kinetic_energy"),
        targets=torch.arange(9) % 2, loss=loss, initial=initial.train(),
    )  # fmt: skip
    assert all(type(values) is np.ndarray for values in found.values.values())
    assert (model.training, initial.training) == (False, True)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert inputs.grad is None
    assert all(p.grad is None and p.requires_grad for m in (model, initial) for p in m.parameters())


def test_kernels_of_one_set_of_points_are_computed_once(monkeypatch: pytest.MonkeyPatch):
    calls: list[nn.Module] = []

    def counted(model: nn.Module, *arguments: Any, **options: Any) -> Tensor:
        calls.append(model)
        return draw_kernels(model, *arguments, **options)

    monkeypatch.setattr(sys.modules["tangentscope.probes.measure"], "draw_kernels", counted)
    model, initial, previous = network(), network(), network()
    given = {"initial": initial, "previous": previous, "step": 2, "previous_step": 1}
    draws = draw_indices(9, draws=3, size=4, seed=0)
    measure(model, points(), draws, "full", ("trace", "entropy"), **given)
    assert calls == [model], "what no variable asks for is not computed"
    measure(model, points(), draws, "full", ("kernel_distance", "kernel_velocity", "trace_ratio"), **given)
    assert calls[1:] == [model, initial, previous]


def test_mean_and_standard_error():
    measured = measure(network(), points(), draw_indices(9, 4, 5, seed=0), variables=("trace",))
    traces = measured.values["trace"]
    mean = sum(traces) / 4
    assert measured.mean("trace") == pytest.approx(mean)
    assert measured.stderr("trace") == pytest.approx(math.sqrt(sum((traces - mean) ** 2) / 3 / 4))


def test_one_draw_has_no_standard_error():
    measured = measure(network(), points(), draw_indices(9, 1, 5, seed=0))
    assert math.isfinite(measured.mean("entropy"))
    assert math.isnan(measured.stderr("entropy"))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_broken_draw_is_never_averaged_away(bad: float):
    inputs, draws = points(), np.array([[0, 1, 2], [3, 4, 5], [2, 1, 6]])
    inputs[4, 0] = bad
    measured = measure(network(), inputs, draws, variables=("trace", "entropy", "eigenvalues_leading"))
    for name, values in measured.values.items():
        assert np.isnan(values).tolist() == [False, True, False], name
        assert math.isnan(measured.mean(name))
        assert math.isnan(measured.stderr(name))
    for numbers in (measured.eigenvalues, measured.profiles["eigenvalues_leading"]):
        assert np.isnan(numbers[1]).all()
        assert np.isfinite(numbers[[0, 2], :6]).all()  # the side; shorter kernels fill a profile up with NaN
    assert np.isnan(measured.clipped_mass).tolist() == [False, True, False]


TRIES: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no draws": ({"draws": np.zeros((0, 3), dtype=np.int64)}, ValueError, "draws"),
    "draws of nothing": ({"draws": np.zeros((2, 0), dtype=np.int64)}, ValueError, "draws"),
    "one draw as a list": ({"draws": np.arange(3)}, ValueError, r"\[3\], expected"),
    "beyond the points": ({"draws": np.array([[0, 9]])}, ValueError, "9"),
    "before the points": ({"draws": np.array([[0, -1]])}, ValueError, "-1"),
    "inputs of another kind": ({"inputs": np.zeros((9, 4))}, TypeError, "inputs are a ndarray"),
    "no inputs": ({"inputs": torch.zeros(0, 4)}, ValueError, "no data points"),
    "unknown": ({"variables": ("tracee",)}, ValueError, "did you mean 'trace'"),
    "treatment": ({"variables": ("kinetic_energy",), "outputs": "summed", "targets": torch.zeros(9, 2), "loss": loss},
                  ValueError, "kinetic_energy is defined for outputs=full, got summed"),
    "no targets": ({"variables": ("label_alignment",)}, ValueError, "label_alignment needs labels: pass targets="),
    "few targets": ({"variables": ("label_alignment",), "targets": torch.zeros(3, 2)}, ValueError,
                    "3 targets for 9 inputs: pass one for each"),
    "no such class": ({"variables": ("label_alignment",), "targets": torch.full((9,), 2)}, ValueError,
                      "target 2 is no class of 2: classes begin at 0"),
    "no classes": ({"variables": ("entropy_gap",), "targets": torch.zeros(9, 2)}, ValueError,
                   "entropy_gap needs classes: pass targets= of a classification"),
    "no loss": ({"variables": ("kinetic_energy",), "targets": torch.zeros(9, 2)}, ValueError,
                "kinetic_energy needs residual: pass targets= and loss="),
    "no initial network": ({"variables": ("kernel_distance",)}, ValueError, "needs initial_kernel: pass initial="),
    "no step": ({"variables": ("kernel_velocity",), "previous": network()}, ValueError, "needs step: pass step="),
    "an initial network of more outputs": ({"variables": ("kernel_distance",), "initial": network(3)}, ValueError,
                                           "network initial= has 3 outputs a point and the model 2"),
    "little memory": ({"memory_bytes": 100}, ValueError, "memory_bytes=100 is too little"),
}  # fmt: skip


@pytest.mark.parametrize("name", TRIES)
@pytest.mark.usefixtures("unchecked")
def test_errors_say_what_to_do(name: str):
    changes, error, message = TRIES[name]
    arguments = {"inputs": points(), "draws": np.array([[0, 1], [2, 3]]), "variables": ("trace",)} | changes
    with pytest.raises(error, match=message) as caught:
        measure(network(), arguments.pop("inputs"), arguments.pop("draws"), **arguments)
    assert "\n" not in str(caught.value)


def test_with_one_output_every_variable_is_defined_for_every_treatment():
    inputs, targets = points(), torch.randn(9, 1, dtype=torch.float64)
    draws, model = draw_indices(9, draws=2, size=4, seed=0), network(1)
    given = {"targets": targets, "loss": lambda f, y: (f - y).square().sum(1)}
    full, summed = (
        measure(model, inputs, draws, how, ("kinetic_energy", "mode_coupling"), **given) for how in ("full", "summed")
    )
    np.testing.assert_allclose(full.values["kinetic_energy"], summed.values["kinetic_energy"])
    np.testing.assert_allclose(full.profiles["mode_coupling"], summed.profiles["mode_coupling"])


def test_asking_for_what_was_not_measured():
    measured = measure(network(), points(), draw_indices(9, 2, 5, seed=0), variables=("trace", "eigenvalues_leading"))
    for name in ("entropy", "eigenvalues_leading"):  # a profile has no mean
        with pytest.raises(ValueError, match=f"'{name}' was not measured, only trace"):
            measured.mean(name)


def test_works_alone_in_a_notebook():
    """No pipeline, models, tasks, Ray, MLflow or test tools behind the import, and the docstring's example runs."""
    script = """
import doctest, sys
from tangentscope import probes
ours = {f"tangentscope.{name}" for name in ("pipeline", "models", "tasks")}
unwanted = {*ours, "ray", "mlflow", "beartype"} & set(sys.modules)
assert not unwanted, unwanted
assert set(probes.__all__) <= set(dir(probes))
result = doctest.testmod(probes)
assert result.attempted >= 4 and result.failed == 0, result
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
