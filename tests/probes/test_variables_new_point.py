"""The step on a new point at equal loss, against a step that is really taken on it."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tangentscope.probes import collective_variables, draw_indices, measure
from tangentscope.probes.variables.quantities import new_point_residual

NAMES = ("new_point_step_parameters", "new_point_step_outputs")
POINTS, CLASSES, RATE = 6, 4, 1e-6


def network(scale: float) -> nn.Sequential:
    """A network whose probabilities are the more certain the larger `scale` is."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, CLASSES)).double()
    with torch.no_grad():
        model[2].weight.mul_(scale)
    return model


def inputs() -> Tensor:
    return torch.randn(POINTS, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


def target(outputs: Tensor) -> Tensor:
    """By bisection: the mixture of the likeliest and the least likely class at which the cross-entropy is ln C."""
    ends = [F.one_hot(outputs.argmax(), CLASSES).double(), F.one_hot(outputs.argmin(), CLASSES).double()]
    low, high = 0.0, 1.0
    for _ in range(80):
        share = (low + high) / 2
        mixed = (1 - share) * ends[0] + share * ends[1]
        low, high = (share, high) if F.cross_entropy(outputs, mixed) < math.log(CLASSES) else (low, share)
    return (1 - low) * ends[0] + low * ends[1]


def step(scale: float, point: Tensor) -> tuple[float, float]:
    """‖Δθ‖/η and ‖Δf‖/η of a step of SGD at one point."""
    model = network(scale)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    outputs = model(point)
    chosen = target(outputs.detach())
    loss = F.cross_entropy(outputs, chosen)
    assert float(loss.detach()) == pytest.approx(math.log(CLASSES))
    loss.backward()
    torch.optim.SGD(model.parameters(), lr=RATE).step()
    moved = sum(float((a - b).detach().square().sum()) for a, b in zip(model.parameters(), before, strict=True))
    return math.sqrt(moved) / RATE, float((model(point) - outputs).norm().detach()) / RATE


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_it_is_what_a_step_on_the_point_does(scale: float):
    x = inputs()
    expected = np.mean([step(scale, point) for point in x], axis=0)
    classes = torch.arange(POINTS) % CLASSES
    found = measure(
        network(scale), x, draw_indices(POINTS, 1, POINTS, 0), variables=NAMES,
        targets=classes, loss=lambda f, y: F.cross_entropy(f, y, reduction="sum"),
    )  # fmt: skip
    assert not found.reasons
    np.testing.assert_allclose([found.mean(name) for name in NAMES], expected, rtol=1e-4)


@pytest.mark.parametrize("logits", [[0.0, 0.0, 0.0], [40.0, 0.0, -5.0], [5.0, 5.0, -300.0], [0.0, 1e-9, 0.0]])
def test_the_loss_is_ln_c_for_every_prediction_and_every_class(logits: list[float]):
    p = torch.tensor([logits], dtype=torch.float64).softmax(1)
    for own in range(3):
        q = p - new_point_residual(p - F.one_hot(torch.tensor([own]), 3), torch.tensor([own]))
        assert (q >= -1e-15).all()
        assert float(q.sum()) == pytest.approx(1.0)
        if p[0, own] > 2.0**-40:  # what is less is lost in the residual
            assert float(-(q * p.log()).sum()) == pytest.approx(math.log(3))


def test_it_does_not_depend_on_the_points_own_classes():
    model, x = network(2.0), inputs()
    values = [
        measure(
            model, x, draw_indices(POINTS, 1, POINTS, 0), variables=NAMES,
            targets=(torch.arange(POINTS) + shift) % CLASSES, loss=lambda f, y: F.cross_entropy(f, y, reduction="sum"),
        ).mean(NAMES[0])
        for shift in (0, 1)
    ]  # fmt: skip
    assert values[0] == pytest.approx(values[1], rel=1e-6)


def test_other_losses_are_refused_and_nan_stays():
    kernel = torch.eye(6, dtype=torch.float64)
    with pytest.raises(ValueError, match="cross-entropy of classes"):
        collective_variables(kernel, NAMES, residual=torch.ones(2, 3).double(), classes=torch.tensor([0, 1]))
    nothing = torch.full((2, 3), math.nan).double()
    found = collective_variables(kernel, NAMES, residual=nothing, classes=torch.tensor([0, 1]))
    assert all(math.isnan(float(value)) for value in found.values())
