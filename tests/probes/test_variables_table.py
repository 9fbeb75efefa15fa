"""What holds for every variable of the table, whatever it measures."""

import inspect
import math
from collections import Counter
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from variable_cases import LAYERS, N, O, assert_same, case

from tangentscope.probes import VARIABLES, Variable, collective_variables, variables
from tangentscope.probes.variables import check_treatment, givens_of
from tangentscope.probes.variables.resolve import GIVENS, NEEDS

# And their lengths; the others have one value per mode.
PROFILES = {"kinetic_energies": N, "eigenvalues_leading": 10, "layer_traces": LAYERS, "kernel_by_class": N * N}
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
    "new_point_step_parameters",
    "new_point_step_outputs",
}
# Powers of c with which a variable grows when all kernels are multiplied by c; those not named do not change.
POWERS = dict.fromkeys(("trace", "trace_per_entry", "largest_eigenvalue", "eigenvalues_leading", "sharpness"), 1)
POWERS |= dict.fromkeys((name for name in VARIABLES if name.startswith("class_") and "block" not in name), 1)
POWERS |= {
    "kernel_by_class": 1,
    "new_point_step_parameters": 0.5,
    "new_point_step_outputs": 1,
    "projection_factors": 1,
    "kinetic_energy": 2,
    "kinetic_energies": 2,
    "kinetic_energy_bound": 2,
}


def defined_for(outputs: str) -> list[str]:
    return [name for name, variable in VARIABLES.items() if outputs in variable.treatments]


def variables_of(module: ModuleType) -> dict[str, Variable]:
    return {value.name: value for value in vars(module).values() if isinstance(value, Variable)}


def test_the_table_is_complete_and_consistent():
    families = [path for path in Path(variables.__file__).parent.glob("*/*.py") if path.parent.name != "features"]
    files = [f"{variables.__name__}.{path.parent.name}.{path.stem}" for path in families if path.stem != "__init__"]
    written = {name: value for file in files for name, value in variables_of(import_module(file)).items()}
    assert written == dict(VARIABLES)
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
    found = collective_variables(
        zero, defined_for(outputs), **given | {"initial_kernel": zero, "layer_parts": torch.zeros(LAYERS)}
    )
    for name, value in found.items():
        zeros = np.zeros(np.shape(value))
        if name == "eigenvalues_leading":
            zeros[len(kernel) :] = np.nan
        is_zero = name in POWERS or name in ("numerical_rank", "layer_traces")
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
    # Within a class points stay in the order in which they were drawn.
    for found in (before, after):
        found["kernel_by_class"] = np.sort(found["kernel_by_class"])
    assert_same(after, before)


@pytest.mark.parametrize("outputs", ["traced", "summed"])
def test_with_one_output_all_treatments_are_full(outputs: str):
    kernel, given = case(width=1)
    np.testing.assert_allclose(kernel, case(outputs, width=1)[0])
    found = collective_variables(kernel, VARIABLES, **given | {"outputs": outputs})
    assert_same(found, collective_variables(kernel, VARIABLES, **given), rel=1e-14)
    undefined = {name for name, value in found.items() if np.isnan(value).all()}
    of_classes = {"new_point_step_parameters", "new_point_step_outputs"}
    assert undefined == {"class_within_other", "class_between_other", "kernel_regression_accuracy", *of_classes}


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
