"""What variables can ask for, each computed once per kernel however many variables ask.

A need is a function of other needs, named by its arguments; ``kernel`` and what is given with it (``GIVENS``) are
where the chain starts. To add one, write the function in ``quantities`` and one line in ``NEEDS``.
"""

import inspect
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from tangentscope.probes.spectra.exact import float64_kernel, is_finite
from tangentscope.probes.variables import quantities as q

GIVENS: dict[str, str] = {
    "outputs": "pass outputs=",
    "points": "pass points=",
    "labels": "pass targets=",
    "classes": "pass targets= of a classification",
    "residual": "pass targets= and loss=",
    "output_hessian": "pass targets= and loss=",
    "initial_kernel": "pass initial=",
    "previous_kernel": "pass previous=",
    "layer_parts": "pass model= to measure()",
    "step": "pass step=",
    "previous_step": "pass previous_step=",
}
"""What may be given with a kernel, and how ``measure`` is told to supply it."""

NEEDS: dict[str, Callable[..., Any]] = {
    "spectrum": q.spectrum,
    "eigensystem": q.eigensystem,
    "eigenvalues": q.eigenvalues,
    "eigenvectors": q.eigenvectors,
    "initial_eigenvectors": q.initial_eigenvectors,
    "previous_eigenvectors": q.previous_eigenvectors,
    "diagonal": q.diagonal,
    "cosine_kernel": q.cosine_kernel,
    "cosine_eigenvalues": q.cosine_eigenvalues,
    "unit_kernel": q.unit_kernel,
    "previous_distance": q.previous_distance,
    "misalignment_rank": q.misalignment_rank,
    "block_kernel": q.block_kernel,
    "point_blocks": q.point_blocks,
    "point_kernel": q.point_kernel,
    "centred_kernel": q.centred_kernel,
    "centred_eigenvalues": q.centred_eigenvalues,
    "label_vectors": q.label_vectors,
    "centred_label_vectors": q.centred_label_vectors,
    "projections": q.projections,
    "mode_weights": q.mode_weights,
    "motion": q.motion,
    "loss_rate": q.loss_rate,
    "class_means": q.class_means,
    "new_point_residual": q.new_point_residual,
}

TREATMENTS = ("full", "traced", "summed")
_DIMENSIONS = {"labels": 2, "classes": 1, "residual": 2, "output_hessian": 3}  # of those with a row per point


def known_from(kernel: Tensor | np.ndarray, **given: Any) -> dict[str, Any]:
    """Start of the chain: `known_of` a kernel as it comes.

    Raises:
        TypeError, ValueError: as `defined` and `known_of`.
    """
    return known_of(defined(kernel), **given)


def known_of(matrix: Float64[Tensor, "side side"], **given: Any) -> dict[str, Any]:
    """Start of the chain.

    Args:
        matrix: a kernel that ``defined`` made, side = N·O with a point's outputs in successive rows (full) or N
            (traced, summed).
        given: what else is known, each may be left out or None:

            outputs: the kernel's treatment, "full" by default.
            points: N; else it is told from what follows, and is the side of a kernel that is not full.
            labels: [N, O], one-hot rows for classes, plain targets for regression.
            classes: [N] whole numbers, for classification only.
            residual: [N, O], r = ∂L/∂f of the loss L, a sum over points.
            output_hessian: [N, O, O], ∂²L_n/∂f∂f of each point's loss.
            initial_kernel, previous_kernel: of the same points and treatment, at step 0 and at the step measured
                before; all NaN if not finite.
            layer_parts: [layers], the trace of each layer's part of the kernel, see ``probes.layer_traces``.
            step, previous_step: the steps of the kernel and of the previous one.

            Any need (``NEEDS``) can be given too, such as a ``spectrum`` that was solved in a batch.

    Raises:
        TypeError: something else is given; an earlier kernel is not a floating-point tensor or array.
        ValueError: an earlier kernel that is not square, is empty or is not symmetric; shapes that do not fit together.
    """
    known: dict[str, Any] = {"outputs": "full"} | {name: value for name, value in given.items() if value is not None}
    for name in known:
        if name not in GIVENS and name not in NEEDS:
            raise TypeError(f"{name!r} cannot be given with a kernel, only {', '.join(GIVENS)} or a need can")
    if known["outputs"] not in TREATMENTS:
        raise ValueError(f"outputs={known['outputs']!r} is not an output treatment: use one of {', '.join(TREATMENTS)}")
    if "layer_parts" in known:
        known["layer_parts"] = torch.as_tensor(known["layer_parts"]).detach().to(matrix.device, torch.float64)
    for name in ("initial_kernel", "previous_kernel"):
        if name in known:
            known[name] = defined(known[name]).to(matrix.device)
            if known[name].shape != matrix.shape:
                raise ValueError(
                    f"{name} has shape {list(known[name].shape)}, the kernel {list(matrix.shape)}: "
                    "take both of the same points and the same treatment"
                )
    for name, dimensions in _DIMENSIONS.items():
        if name in known:
            dtype = torch.int64 if name == "classes" else torch.float64
            known[name] = torch.as_tensor(known[name]).detach().to(matrix.device, dtype)
            if known[name].dim() != dimensions:
                shape = ["points", "outputs", "outputs"][:dimensions]
                raise ValueError(f"{name}: shape {list(known[name].shape)}, expected [{', '.join(shape)}]: reshape")
    return {"kernel": matrix} | _points(known, len(matrix))


def defined(kernel: Tensor | np.ndarray) -> Float64[Tensor, "side side"]:
    """The kernel in float64, all NaN if any entry is not finite, so that no variable hides it.

    Raises:
        TypeError: it is not a floating-point tensor or array.
        ValueError: it is not square, is empty or is not symmetric.
    """
    matrix = float64_kernel(kernel)
    return matrix if is_finite(matrix) else torch.full_like(matrix, float("nan"))


def _points(known: dict[str, Any], side: int) -> dict[str, Any]:
    """``known`` with N, checked against all that has a row per point."""
    by_point = {name: known[name].shape for name in _DIMENSIONS if name in known}
    lengths = {"points": known["points"]} if "points" in known else {}
    lengths |= {name: shape[0] for name, shape in by_point.items()}
    if known["outputs"] != "full":
        lengths["kernel"] = side
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"numbers of points that differ: {told}: give all for the points of the kernel")
    if not lengths:
        return known
    points = next(iter(lengths.values()))
    if points < 1 or side % points:
        raise ValueError(f"a kernel of side {side} is not of {points} points: give all for the points of the kernel")
    widths = {name: size for name, shape in by_point.items() for size in shape[1:]}
    if known["outputs"] == "full":  # the side of another tells nothing of O
        widths["kernel"] = side // points
    if len(set(widths.values())) > 1:
        told = ", ".join(f"{name} {width}" for name, width in widths.items())
        raise ValueError(f"numbers of outputs per point that differ: {told}: give all for the outputs of the kernel")
    one = set(widths.values()) == {1}  # then all treatments are the same
    return known | {"points": points} | ({"outputs": "full"} if one else {})


@cache
def arguments(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of a function's arguments."""
    return tuple(inspect.signature(function).parameters)


def chain(
    names: Collection[str],
    known: Collection[str] = ("kernel",),
    needs: Mapping[str, Callable[..., Any]] = NEEDS,
) -> set[str]:
    """All needs and givens, beyond what is known, that it takes to compute the needs ``names``, themselves included."""
    found: set[str] = set()
    open_ = [name for name in names if name not in known]
    while open_:
        name = open_.pop()
        found.add(name)
        open_ += [n for n in arguments(needs[name]) if n not in known and n not in found] if name in needs else []
    return found


def resolve(need: str, known: dict[str, Any], needs: Mapping[str, Callable[..., Any]] = NEEDS) -> Any:
    """The value of ``need``, remembered in ``known`` together with everything computed on the way."""
    if need not in known:
        if need not in needs:
            how = GIVENS.get(need, f"expected one of {', '.join([*NEEDS, *GIVENS])}")
            raise ValueError(f"{need} is not known of the kernel: {how}")
        known[need] = needs[need](**{name: resolve(name, known, needs) for name in arguments(needs[need])})
    return known[need]
