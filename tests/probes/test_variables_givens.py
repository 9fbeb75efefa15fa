"""What variables need beside the kernel, and what is said where it is missing or does not fit."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from variable_cases import N, assert_same, case

from tangentscope.probes import VARIABLES, collective_variables, measure, spectrum
from tangentscope.probes.givens import givens_at
from tangentscope.probes.variables import Variable, evaluate, givens_of
from tangentscope.probes.variables.resolve import known_from


@pytest.mark.parametrize("name", [name for name in VARIABLES if givens_of(name)])
def test_a_missing_given_is_named(name: str):
    kernel, given = case()
    given |= {"points": N}
    needed = givens_of(name)
    collective_variables(kernel, [name], **{g: given[g] for g in needed})  # and they are enough
    for missing in needed:
        rest = {g: None if g == missing else value for g, value in given.items()}
        if missing == "points":  # what else is given would tell
            rest = {}
        with pytest.raises(ValueError, match=rf"^{name} needs {missing}: pass [a-z_]+=") as caught:
            collective_variables(kernel, [name], **rest)
        assert "\n" not in str(caught.value)


def test_givens_of():
    assert givens_of("trace") == frozenset()
    assert givens_of("label_alignment") == {"labels"}
    assert givens_of("kernel_velocity") == {"previous_kernel", "step", "previous_step"}
    assert givens_of("misalignment_subspace") == {"initial_kernel"}
    assert givens_of("misalignment_rank") == frozenset()
    assert givens_of("kinetic_energy_bound") == {"residual"}
    assert givens_of("sharpness") == {"output_hessian"}
    assert givens_of("kernel_regression_accuracy") == {"labels", "classes"}
    assert givens_of("entropy_centred") == {"points"}


def test_the_message_of_a_missing_given():
    with pytest.raises(ValueError, match=r"^label_alignment needs labels: pass targets=") as caught:
        collective_variables(torch.eye(4), ["trace", "label_alignment"])
    assert "\n" not in str(caught.value)


def test_needs_can_be_given():
    kernel, given = case()
    seeded = spectrum(2 * kernel)  # another one, to see that it is used
    names = ("largest_eigenvalue", "projection_factors", "constant_overlap")
    found = collective_variables(kernel, names, **given, spectrum=seeded)
    plain = collective_variables(kernel, names, **given)
    assert found["largest_eigenvalue"] == seeded.eigenvalues[0]
    np.testing.assert_allclose(found["projection_factors"], 2 * plain["projection_factors"], rtol=1e-10)
    assert found["constant_overlap"] == plain["constant_overlap"]
    start = collective_variables(
        kernel, "misalignment_subspace", initial_eigenvectors=np.eye(len(kernel)), misalignment_rank=float(len(kernel))
    )
    assert start["misalignment_subspace"] == pytest.approx(0, abs=1e-12)


def test_missing_labels_count_as_none():
    """Binary labels, some of them not measured, against the definitions one point and one output at a time."""
    torch.manual_seed(0)
    model, inputs = nn.Linear(3, 4).double(), torch.randn(5, 3, dtype=torch.float64)
    labels = torch.randint(2, (5, 4)).float()
    missing = torch.rand(5, 4) < 0.5
    missing[2] = True

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        known = torch.where(targets.isnan(), 0.0, targets)
        return (F.binary_cross_entropy_with_logits(outputs, known, reduction="none") * ~targets.isnan()).sum(1)

    targets = labels.masked_fill(missing, float("nan"))
    found = givens_at(model, inputs, targets, loss, ["labels", "residual", "output_hessian"])
    probabilities = model(inputs).detach().sigmoid()
    for n in range(5):
        for a in range(4):
            here, p = not missing[n, a], probabilities[n, a].item()
            assert found["labels"][n, a] == (labels[n, a] if here else 0)
            assert found["residual"][n, a].item() == (pytest.approx(p - labels[n, a].item()) if here else 0)
            curvature = torch.zeros(4, dtype=torch.float64)
            curvature[a] = p * (1 - p) if here else 0
            torch.testing.assert_close(found["output_hessian"][n, a], curvature)
    assert found["residual"][2].eq(0).all()
    assert found["output_hessian"][2].eq(0).all()
    names = [
        name for name in VARIABLES if givens_of(name) and givens_of(name) <= {"labels", "residual", "output_hessian"}
    ]
    draws = torch.tensor([[0, 1, 3], [4, 1, 2]])
    measured = measure(model, inputs, draws, "full", names, targets=targets, loss=loss)
    assert all(np.isfinite(np.asarray(values)).all() for values in measured.values.values())


def test_a_variable_of_unknown_needs_is_told_so(monkeypatch: pytest.MonkeyPatch):
    def gap(eigenvalue: float) -> float:
        return eigenvalue

    monkeypatch.setitem(VARIABLES, "gap", Variable("gap", version=1, source="test", compute=gap))  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"^gap needs eigenvalue: expected one of kernel, .*eigenvalues.*labels"
    ) as caught:
        evaluate(["gap"], known_from(torch.eye(2)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [np.asarray, lambda given: given.float().requires_grad_()])
def test_givens_of_other_kinds(kind: Any):
    kernel, given = case()
    others = {name: kind(given[name]) for name in ("residual", "labels", "output_hessian", "initial_kernel")}
    found = collective_variables(kernel, VARIABLES, **given | others)
    assert_same(found, collective_variables(kernel, VARIABLES, **given), rel=1e-4)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"targets": torch.eye(6)}, TypeError, "'targets' cannot be given with a kernel, only outputs, points, labels"),
        ({"outputs": "mean"}, ValueError, "outputs='mean' is not an output treatment: use one of full, traced, summed"),
        ({"points": 4}, ValueError, "a kernel of side 6 is not of 4 points"),
        ({"points": 3, "labels": torch.ones(6, 1)}, ValueError, "numbers of points that differ: points 3, labels 6:"),
        ({"outputs": "traced", "points": 3}, ValueError, "numbers of points that differ: points 3, kernel 6:"),
        ({"residual": torch.ones(3, 1)}, ValueError, "outputs per point that differ: residual 1, kernel 2:"),
        ({"residual": torch.ones(6)}, ValueError, r"residual: shape \[6\], expected \[points, outputs\]: reshape"),
        ({"classes": torch.ones(6, 1)}, ValueError, r"classes: shape \[6, 1\], expected \[points\]"),
        ({"initial_kernel": torch.eye(3)}, ValueError, r"initial_kernel has shape \[3, 3\], the kernel \[6, 6\]:"),
        ({"previous_kernel": torch.ones(6, 2)}, ValueError, r"shape \[6, 2\], expected a square"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_givens_that_do_not_fit(given: dict[str, Any], error: type[Exception], message: str):
    with pytest.raises(error, match=message) as caught:
        collective_variables(torch.eye(6), "trace", **given)
    assert "\n" not in str(caught.value)
