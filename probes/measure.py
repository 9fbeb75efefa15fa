"""Subsampled measurement: kernels of several small draws of points, and their variables with error bars.

The draws are a pure function of their arguments, so that a run measures the same points at every step and a curve
shows the network's change and not the sampling's.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn

from tangentscope.probes.givens import OF_POINTS, Loss, givens_at, outputs_of
from tangentscope.probes.kernels import OutputTreatment, draw_kernels, draw_kernels_and_traces
from tangentscope.probes.kernels.treatment import check_treatment as check_known
from tangentscope.probes.network.batch import checked_draws
from tangentscope.probes.network.checks import Chosen
from tangentscope.probes.network.function import Function
from tangentscope.probes.network.output import Output
from tangentscope.probes.spectra.exact import spectra
from tangentscope.probes.variables import VARIABLES, check_names, check_treatment, evaluate, givens_of
from tangentscope.probes.variables.resolve import GIVENS, defined, known_of


@dataclass(frozen=True)
class Measurement:
    """Variables of the kernels of several draws of points, draw by draw.

    outputs: the output treatment of the kernels.
    values: by variable, one value per draw; NaN where a draw's kernel is not finite or the variable is undefined.
    profiles: by variable that is a profile, its numbers for each draw.
    eigenvalues: descending in each draw, clipped to ≥ 0.
    clipped_mass: by draw, see ``Spectrum``.
    reasons: by variable that could not be computed, why, in the first draw that it failed in; its values are NaN where
        it failed, and a profile that failed in all draws has a length of 1.
    """

    outputs: OutputTreatment
    values: dict[str, Float64[np.ndarray, " draws"]]
    profiles: dict[str, Float64[np.ndarray, "draws length"]]
    eigenvalues: Float64[np.ndarray, "draws side"]
    clipped_mass: Float64[np.ndarray, " draws"]
    reasons: dict[str, str] = field(default_factory=dict)

    def mean(self, name: str) -> float:
        """Mean over the draws; NaN if any draw is, since leaving draws out would hide a broken network."""
        return float(np.mean(self._values(name)))

    def stderr(self, name: str) -> float:
        """Standard error of the mean, sd (ddof = 1) / √draws; NaN with one draw, which cannot tell, or any NaN draw.

        It describes the sampling of points of one network, not the spread between networks.
        """
        values = self._values(name)
        return float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan

    def _values(self, name: str) -> Float64[np.ndarray, " draws"]:
        if name not in self.values:
            raise ValueError(f"{name!r} was not measured, only {', '.join(self.values)}: ask measure() for it")
        return self.values[name]


def draw_indices(population: int, draws: int, size: int, seed: int) -> Int64[np.ndarray, "draws size"]:
    """Indices of ``draws`` samples of ``size`` different points each out of ``population``, in random order.

    A pure function of its arguments (numpy's PCG64); fewer draws with the same seed are the first rows of more.

    Raises:
        ValueError: size > population, or draws or size < 1, or seed < 0.
    """
    if draws < 1 or size < 1:
        raise ValueError(f"draws={draws}, size={size}, expected both at least 1: a measurement needs points")
    if size > population:
        raise ValueError(f"size={size} points cannot be drawn out of {population} without repetition: lower size")
    if seed < 0:
        raise ValueError(f"seed={seed} is negative, expected ≥ 0: choose another")
    generator = np.random.Generator(np.random.PCG64(seed))
    return np.stack([generator.choice(population, size, replace=False) for _ in range(draws)]).astype(np.int64)


def measure(
    model: nn.Module,
    inputs: Any,
    draws: Int64[np.ndarray, "draws size"] | Int64[Tensor, "draws size"],
    outputs: OutputTreatment = "full",
    variables: Iterable[str] = ("trace", "entropy", "effective_rank"),
    *,
    targets: Tensor | None = None,
    loss: Loss | None = None,
    initial: nn.Module | None = None,
    previous: nn.Module | None = None,
    step: int | None = None,
    previous_step: int | None = None,
    output: Output = None,
    parameters: Chosen = None,
    memory_bytes: int | None = None,
) -> Measurement:
    """Variables of the tangent kernel of each draw of points (CV: 200 draws of 20 points).

    A variable that cannot be computed is NaN and leaves the others as they are, see ``Measurement.reasons``.

    Args:
        model: as for ``tangent_kernel``; left as it was.
        inputs: M data points as for ``tangent_kernel``, of which only those that are drawn are looked at.
        draws: indices of points, see ``draw_indices``.
        outputs: output treatment, as for ``tangent_kernel``.
        variables: names out of ``VARIABLES``. Some need what follows, see ``givens_of``.
        targets: of all M points: classes, or numbers of the outputs' shape.
        loss: loss of outputs [n, ...] and targets [n, ...]; called with one point at a time.
        initial: the network at step 0.
        previous: the network at ``previous_step``, the step measured before. With ``previous_step`` None there was
            none, and variables that compare with it are NaN.
        step: of ``model``.
        output, parameters, memory_bytes: as for ``tangent_kernel``, the first two of all networks that are given.

    Raises:
        ValueError: unknown variable, one that is not defined for ``outputs`` or needs what is not given; draws that are
            none of these points; targets that do not fit the outputs; networks of different outputs; whatever
            ``tangent_kernel`` raises.
        TypeError: whatever ``tangent_kernel`` raises.
    """
    names = check_names(variables)
    check_known(outputs)
    needed = frozenset().union(*(givens_of(name) for name in names))
    targets = None if targets is None else torch.as_tensor(targets)
    _check_given(names, targets, loss, initial, step)
    function = Function(model, output, parameters)
    function.anatomy()
    batch = function.batch(inputs)
    index = checked_draws(draws, len(batch))
    if targets is not None and len(targets) != len(batch):
        raise ValueError(f"{len(targets)} targets for {len(batch)} inputs: pass one for each")
    chosen, place = torch.unique(index, return_inverse=True)
    points = batch.take(chosen).data
    given = {"initial": initial, "previous": previous}
    compared = {role: network for role, network in given.items() if network is not None and f"{role}_kernel" in needed}
    if outputs != "full" or compared:
        widths = {role: outputs_of(network, points, output) for role, network in compared.items()}
        _check_outputs(names, outputs, outputs_of(model, points, output), widths)
    beside: dict[str, Tensor] = {}
    if targets is not None and needed & OF_POINTS:
        of_chosen = targets[chosen.to(targets.device)]
        found = givens_at(model, points, of_chosen, loss, needed, output=output, memory_bytes=memory_bytes)
        beside |= {name: values[place.to(values.device)] for name, values in found.items()}
    how: dict[str, Any] = {"output": output, "parameters": parameters, "memory_bytes": memory_bytes}
    if "layer_parts" in needed:
        present, parts = draw_kernels_and_traces(model, points, place, outputs, **how)
        beside["layer_parts"] = torch.stack([*parts.values()], 1)
    else:
        present = draw_kernels(model, points, place, outputs, **how)
    for role, network in compared.items():
        beside[f"{role}_kernel"] = draw_kernels(network, points, place, outputs, **how)
    if "previous_kernel" in needed and previous is None:
        beside["previous_kernel"] = torch.full_like(present, torch.nan)
    about = {"outputs": outputs, "points": place.shape[1], "step": step, "previous_step": previous_step or 0}
    matrices = [defined(kernel) for kernel in present]
    solved = spectra(matrices)
    reasons: dict[str, str] = {}
    drawn = []
    for draw, (matrix, spectrum) in enumerate(zip(matrices, solved, strict=True)):
        here: dict[str, str] = {}
        of_draw = {name: values[draw] for name, values in beside.items()}
        drawn.append(evaluate(names, known_of(matrix, spectrum=spectrum, **about, **of_draw), here))
        reasons = here | reasons
    columns = {name: _column([values[name] for values in drawn]) for name in names}
    return Measurement(
        outputs=outputs,
        values={name: column for name, column in columns.items() if VARIABLES[name].kind == "number"},
        profiles={
            name: column.reshape(len(column), -1)
            for name, column in columns.items()
            if VARIABLES[name].kind == "profile"
        },
        eigenvalues=np.stack([spectrum.eigenvalues for spectrum in solved]),
        clipped_mass=np.array([spectrum.clipped_mass for spectrum in solved], dtype=np.float64),
        reasons=reasons,
    )


def _column(values: list[float | np.ndarray]) -> Float64[np.ndarray, "..."]:
    """The values of all draws; where one failed it is NaN as long as the others are."""
    return np.array(np.broadcast_arrays(*values), dtype=np.float64)


def _check_outputs(names: Iterable[str], outputs: OutputTreatment, width: int, others: dict[str, int]) -> None:
    """ValueError if O outputs a point, ``width`` and those of other networks, do not do for this treatment."""
    if outputs != "full" and width > 1:
        check_treatment(names, outputs)
    for role, other in others.items():
        if outputs == "full" and other != width:
            raise ValueError(
                f"the network {role}= has {other} outputs a point and the model {width}, expected as many: "
                "pass an earlier state of the same network"
            )


def _check_given(
    names: Iterable[str], targets: Tensor | None, loss: Loss | None, initial: nn.Module | None, step: int | None
) -> None:
    given = {"outputs", "points", "previous_kernel", "previous_step", "layer_parts"}
    if targets is not None:
        given |= {"labels"} if targets.is_floating_point() or targets.dim() != 1 else {"labels", "classes"}
        given |= set() if loss is None else {"residual", "output_hessian"}
    given |= set() if initial is None else {"initial_kernel"}
    given |= set() if step is None else {"step"}
    for name in names:
        if missing := sorted(givens_of(name) - given):
            raise ValueError(f"{name} needs {missing[0]}: {GIVENS[missing[0]]}")
