"""Networks that take gradients inside, or that are compiled in part, can be planned and measured as all others."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kernel_brute_force import TREATMENTS, block
from test_wild import CASES
from torch import Tensor
from wild_case import Wild
from wild_functions import FUNCTIONS
from wild_gradients import GRADIENTS

from tangentscope.probes import collective_variables, eigenvalues, kernel_plan, measure

NEW = [*GRADIENTS, *(case for case in FUNCTIONS if not case.slow)]
MEASURED = [case for case in NEW if not callable(case.inputs) and case.inputs[0] > 1]
SOME = [
    "forces of an energy", "forces of a conv net", "heat equation", "continuous normalising flow", "no prompts",
    "weights adapted to each point", "forces through ReLU and average pooling", "torch.func.grad inside",
    "torch.func.jvp inside", "compiled function of rows and a bias",
]  # fmt: skip


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=() if case in NEW[::2] or case.name in SOME else (pytest.mark.slow,))
        for case in CASES
    ],
)
def test_has_a_plan(case: Wild):
    with case.around():
        model, inputs = case.make(torch.float32)
        plan = kernel_plan(model, inputs)
        assert plan.multiply_adds == plan.passes + sum(layer.multiply_adds for layer in plan.layers)
        assert {layer.name for layer in plan.layers} <= set(case.layers())
        assert plan.passes > 0
        assert str(plan)


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.name, marks=() if case.name in SOME else (pytest.mark.slow,)) for case in MEASURED],
)
def test_is_measured_in_every_treatment(case: Wild):
    names = ("trace", "entropy")
    for outputs in TREATMENTS:
        model, inputs = case.make(torch.float64)
        draws = torch.tensor([[0, 1], [1, len(inputs) - 1]])
        measured = measure(model, inputs, draws, outputs, names)
        for d, draw in enumerate(draws.tolist()):
            kernel = block(case.kernel(outputs), len(inputs), draw, draw)
            expected = collective_variables(kernel, names)
            for name in names:
                np.testing.assert_allclose(measured.values[name][d], expected[name], rtol=1e-6)
            np.testing.assert_allclose(measured.eigenvalues[d], eigenvalues(kernel), atol=1e-8 * float(kernel.trace()))


def square_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().sum() / 2


@pytest.mark.parametrize("name", SOME)
def test_is_measured_against_targets(name: str):
    """What needs the outputs themselves: labels, residuals and curvatures of the loss."""
    case = next(case for case in MEASURED if case.name == name)
    model, inputs = case.make(torch.float64)
    outputs = torch.stack([case.values(n)[1].detach() for n in range(len(inputs))])
    targets = torch.randn(outputs.shape, dtype=torch.float64)
    draws = torch.arange(len(inputs))[None]
    names = ("label_alignment", "kinetic_energy_bound", "sharpness")
    measured = measure(model, inputs, draws, "full", names, targets=targets, loss=square_loss)
    kernel = case.kernel("full")
    labels, largest = targets.flatten(), float(eigenvalues(kernel)[0])
    alignment = float(labels @ kernel @ labels / (kernel.norm() * labels.square().sum()))
    assert float(measured.values["label_alignment"][0]) == pytest.approx(alignment, rel=1e-8)
    assert float(measured.values["sharpness"][0]) == pytest.approx(largest / len(inputs), rel=1e-8)
    assert np.isfinite(measured.values["kinetic_energy_bound"]).all()


def test_classes_are_read_off_outputs_that_are_gradients():
    case = next(case for case in GRADIENTS if case.name == "forces of an energy")
    model, inputs = case.make(torch.float64)
    classes = torch.tensor([0, 2, 1, 0])
    names = ("label_alignment", "class_within", "kinetic_energy_bound")

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets)

    measured = measure(model, inputs, torch.arange(4)[None], "full", names, targets=classes, loss=loss)
    labels = F.one_hot(classes, 3).double().flatten()
    kernel = case.kernel("full")
    alignment = float(labels @ kernel @ labels / (kernel.norm() * labels.square().sum()))
    assert float(measured.values["label_alignment"][0]) == pytest.approx(alignment, rel=1e-8)
