"""What holds for every variable of the table, whatever it measures."""

import inspect
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import probes.variables
from probes import VARIABLES, collective_variables, spectrum
from probes.variables import Variable, check_treatment, evaluate, givens_of
from probes.variables.needs import GIVENS, NEEDS, known_from

N, O, P = 6, 3, 40  # noqa: E741
PROFILES = {"kinetic_energies": N, "eigenvalues_leading": 10}  # and their lengths; the others have one value per mode
FULL_ONLY = {
    "kinetic_energy",
    "kinetic_energy_bound",
    "kinetic_energies",
    "projection_factors",
    "loss_rate_shares",
    "mode_coupling",
    "spectral_position",
    "sharpness",
    "class_within_other",
    "class_between_other",
}
# Powers of c with which a variable grows when all kernels are multiplied by c; those not named do not change.
POWERS = dict.fromkeys(("trace", "trace_per_entry", "largest_eigenvalue", "eigenvalues_leading", "sharpness"), 1)
POWERS |= dict.fromkeys((name for name in VARIABLES if name.startswith("class_") and "block" not in name), 1)
POWERS |= {"projection_factors": 1, "kinetic_energy": 2, "kinetic_energies": 2, "kinetic_energy_bound": 2}


def case(outputs: str = "full", points: int = N, width: int = O, seed: int = 0) -> tuple[Tensor, dict[str, Any]]:
    """The kernel of a made-up Jacobian, and all that can be given with it."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    J = normal(points, width, P) + 0.5
    kernels = [as_treated(J + drift * normal(*J.shape), outputs) for drift in (0.0, 0.1, 0.5)]
    classes = torch.arange(points) % max(width, 2)
    labels = torch.nn.functional.one_hot(classes, width).double() if width > 1 else normal(points, 1)
    p = normal(points, width).softmax(-1)
    residual = p - labels if width > 1 else normal(points, 1)
    hessian = torch.diag_embed(p) - p[:, :, None] * p[:, None, :] if width > 1 else torch.ones(points, 1, 1).double()
    return kernels[0], {
        "outputs": outputs,
        "labels": labels,
        "classes": classes,
        "residual": residual,
        "output_hessian": hessian,
        "previous_kernel": kernels[1],
        "initial_kernel": kernels[2],
        "step": 8,
        "previous_step": 4,
    }


def as_treated(J: Tensor, outputs: str) -> Tensor:
    if outputs == "full":
        J = J.flatten(0, 1)
    elif outputs == "summed":
        J = J.sum(1) / math.sqrt(J.shape[1])
    else:
        J = J.flatten(1) / math.sqrt(J.shape[1])
    return J @ J.T


def defined_for(outputs: str) -> list[str]:
    return [name for name, variable in VARIABLES.items() if outputs in variable.treatments]


def assert_same(found: dict[str, Any], expected: dict[str, Any], rel: float = 1e-7) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=rel, atol=rel, err_msg=name)


def test_the_table_is_complete_and_consistent():
    files = {path.stem for path in Path(probes.variables.__file__).parent.glob("*.py")}
    assert files == {*VARIABLES, "__init__", "formulas", "needs", "quantities", "variable"}
    for name, variable in VARIABLES.items():
        assert variable.name == name
        assert variable.version >= 1
        assert variable.source
        assert set(variable.needs) <= {"kernel", *NEEDS, *GIVENS}
        assert (inspect.getdoc(variable.compute) or "").partition("\n")[0].endswith(".")  # what `ls` shows is whole
        assert set(variable.treatments) <= {"full", "traced", "summed"}
    assert {name for name, variable in VARIABLES.items() if variable.treatments == ("full",)} == FULL_ONLY
    assert {name for name, variable in VARIABLES.items() if variable.kind == "profile"} == {
        *PROFILES,
        *("projection_factors", "loss_rate_shares", "mode_coupling"),
    }


def test_needs_lead_to_the_kernel_and_the_givens():
    for name, function in NEEDS.items():
        assert function.__doc__
        assert set(inspect.signature(function).parameters) <= {"kernel", *NEEDS, *GIVENS}, name


@pytest.mark.parametrize("outputs", ["full", "traced", "summed"])
def test_everything_is_finite_and_float64(outputs: str):
    kernel, given = case(outputs)
    found = collective_variables(kernel, defined_for(outputs), **given)
    assert len(found) == len(VARIABLES) - (0 if outputs == "full" else len(FULL_ONLY))
    for name, value in found.items():
        if VARIABLES[name].kind == "profile":
            assert isinstance(value, np.ndarray), name
            assert value.dtype == np.float64, name
            assert value.shape == (PROFILES.get(name, len(kernel)),), name
        else:
            assert type(value) is float, name
        expected = 6 if name == "eigenvalues_leading" and outputs != "full" else np.size(value)
        assert np.isfinite(value).sum() == expected, name


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.parametrize("entry", [(0, 0), (0, 2)])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_kernels_give_nan(name: str, entry: tuple[int, int], bad: float):
    kernel, given = case()
    kernel[entry] = kernel[entry[::-1]] = bad
    value = collective_variables(kernel, [name], **given)[name]
    assert np.isnan(value).all()
    assert np.shape(value) == np.shape(collective_variables(case()[0], [name], **given)[name])


@pytest.mark.parametrize("which", ["initial_kernel", "previous_kernel", "residual", "labels", "output_hessian"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_non_finite_givens_give_nan_to_those_who_need_them(which: str, bad: float):
    kernel, given = case()
    given[which] = given[which].clone()
    given[which].flatten()[0] = bad
    assert not bool(torch.isfinite(given[which]).all())
    with np.errstate(invalid="ignore"):
        found = collective_variables(kernel, VARIABLES, **given)
    who = {name for name in VARIABLES if which in givens_of(name)}
    assert who
    for name, value in found.items():
        if name == "kinetic_energies" and which == "residual" and bad == math.inf:
            assert not np.isfinite(value).any()  # an infinite residual moves every output infinitely
        elif name in who and name in ("kinetic_energy", "kinetic_energy_bound") and bad == math.inf:
            assert not np.isfinite(value)
        elif name in who and name in ("projection_factors", "loss_rate_shares", "mode_coupling"):
            assert not np.isfinite(value).all()
        else:
            assert np.isnan(value).any() == (name in who), name


@pytest.mark.parametrize("outputs", ["full", "traced", "summed"])
def test_the_zero_kernel_gives_zero_or_nan(outputs: str):
    kernel, given = case(outputs)
    zero = torch.zeros_like(kernel)
    found = collective_variables(zero, defined_for(outputs), **given | {"initial_kernel": zero})
    for name, value in found.items():
        zeros = np.zeros(np.shape(value))
        if name == "eigenvalues_leading":
            zeros[len(kernel) :] = np.nan
        is_zero = name in POWERS or name == "numerical_rank"
        if name == "mode_coupling":  # the null space is all there is
            zeros, is_zero = np.arange(1, len(kernel) + 1) / len(kernel), True
        np.testing.assert_allclose(value, zeros if is_zero else zeros * np.nan, err_msg=name)


@pytest.mark.parametrize("scale", [1e-60, 1e-3, 7.0, 1e60])
@pytest.mark.parametrize("outputs", ["full", "traced"])
def test_scale(scale: float, outputs: str):
    kernel, given = case(outputs)
    names = defined_for(outputs)
    before = collective_variables(kernel, names, **given)
    kernels = {name: scale * given[name] for name in ("initial_kernel", "previous_kernel")}
    after = collective_variables(scale * kernel, names, **given | kernels)
    assert_same({name: value / scale ** POWERS.get(name, 0) for name, value in after.items()}, before)


@pytest.mark.parametrize("outputs", ["full", "traced", "summed"])
@pytest.mark.parametrize("seed", range(3))
def test_order_of_points(outputs: str, seed: int):
    kernel, given = case(outputs, seed=seed)
    order = torch.randperm(N)
    assert order.tolist() != list(range(N))
    rows = (order[:, None] * O + torch.arange(O)).flatten() if outputs == "full" else order
    shuffled: dict[str, Any] = dict(given)
    for name in ("labels", "classes", "residual", "output_hessian"):
        shuffled[name] = given[name][order]
    for name in ("initial_kernel", "previous_kernel"):
        shuffled[name] = given[name][rows][:, rows]
    names = defined_for(outputs)
    before = collective_variables(kernel, names, **given)
    after = collective_variables(kernel[rows][:, rows], names, **shuffled)
    if outputs == "full":
        energies = before["kinetic_energies"]
        assert isinstance(energies, np.ndarray)
        before["kinetic_energies"] = energies[order.numpy()]
    assert_same(after, before)


@pytest.mark.parametrize("outputs", ["traced", "summed"])
def test_with_one_output_all_treatments_are_full(outputs: str):
    kernel, given = case(width=1)
    np.testing.assert_allclose(kernel, case(outputs, width=1)[0])
    found = collective_variables(kernel, VARIABLES, **given | {"outputs": outputs})
    assert_same(found, collective_variables(kernel, VARIABLES, **given), rel=1e-14)
    undefined = {name for name, value in found.items() if np.isnan(value).all()}
    assert undefined == {"class_within_other", "class_between_other", "kernel_regression_accuracy"}


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


@pytest.mark.parametrize("outputs", ["traced", "summed"])
@pytest.mark.parametrize("name", sorted(FULL_ONLY))
def test_treatments_are_refused(name: str, outputs: str):
    kernel, given = case(outputs)
    with pytest.raises(ValueError, match=f"^{name} is defined for outputs=full, got {outputs}: ") as caught:
        check_treatment(["trace", name], outputs)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=f"^{name} is defined for outputs=full, got {outputs}: "):
        collective_variables(kernel, [name], **given)
    check_treatment(VARIABLES, "full")


def test_each_need_is_computed_once(monkeypatch: pytest.MonkeyPatch):
    calls: Counter[str] = Counter()

    def counted(name: str, function: Any) -> Any:
        def wrapper(**arguments: Any) -> Any:
            calls[name] += 1
            return function(**arguments)

        wrapper.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
        return wrapper

    for name, function in NEEDS.items():
        monkeypatch.setitem(NEEDS, name, counted(name, function))
    kernel, given = case()
    collective_variables(kernel, VARIABLES, **given)
    # The spectrum comes from the eigensystem, in place of a solution of its own.
    assert calls == dict.fromkeys(NEEDS.keys() - {"spectrum"}, 1)
    calls.clear()
    collective_variables(kernel, ("entropy", "largest_share"))
    assert calls == {"spectrum": 1, "eigenvalues": 1}


def test_a_variable_does_not_depend_on_who_else_is_asked_for():
    kernel, given = case()
    together = collective_variables(kernel, VARIABLES, **given)
    alone = {name: collective_variables(kernel, [name], **given)[name] for name in VARIABLES}
    assert_same(alone, together, rel=1e-10)


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
