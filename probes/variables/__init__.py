"""Collective variables of a kernel: one file a variable, one line of the table each."""

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tangentscope.probes.variables.change import (
    kernel_distance,
    kernel_velocity,
    kernel_velocity_log,
    misalignment_rank,
    misalignment_subspace,
    misalignment_subspace_step,
    misalignment_vectors,
    misalignment_vectors_step,
    trace_ratio,
)
from tangentscope.probes.variables.dynamics import (
    kinetic_energies,
    kinetic_energy,
    kinetic_energy_bound,
    loss_rate_shares,
    mode_coupling,
    projection_factors,
    sharpness,
    spectral_position,
)
from tangentscope.probes.variables.labels import (
    class_between,
    class_between_other,
    class_block_distance,
    class_within,
    class_within_other,
    entropy_gap,
    kernel_regression_accuracy,
    label_alignment,
    label_alignment_centred,
    local_elasticity,
)
from tangentscope.probes.variables.resolve import GIVENS, NEEDS, chain, known_from, resolve
from tangentscope.probes.variables.spectrum import (
    condition_number,
    constant_overlap,
    effective_rank,
    effective_rank_cosine,
    eigenvalues_leading,
    entropy,
    entropy_centred,
    entropy_cosine,
    entropy_normalised,
    entropy_wishart_gap,
    largest_eigenvalue,
    largest_share,
    largest_share_centred,
    magnitude_entropy,
    numerical_rank,
    participation_ratio,
    tail_exponent,
)
from tangentscope.probes.variables.trace import layer_traces, trace, trace_per_entry
from tangentscope.probes.variables.variable import Variable

__all__ = ["VARIABLES", "Variable", "check_names", "check_treatment", "collective_variables", "evaluate", "givens_of"]

VARIABLES: Mapping[str, Variable] = {
    "trace": trace.VARIABLE,
    "trace_per_entry": trace_per_entry.VARIABLE,
    "trace_ratio": trace_ratio.VARIABLE,
    "layer_traces": layer_traces.VARIABLE,
    "entropy": entropy.VARIABLE,
    "entropy_normalised": entropy_normalised.VARIABLE,
    "effective_rank": effective_rank.VARIABLE,
    "entropy_cosine": entropy_cosine.VARIABLE,
    "effective_rank_cosine": effective_rank_cosine.VARIABLE,
    "magnitude_entropy": magnitude_entropy.VARIABLE,
    "kernel_distance": kernel_distance.VARIABLE,
    "kernel_velocity": kernel_velocity.VARIABLE,
    "kernel_velocity_log": kernel_velocity_log.VARIABLE,
    "label_alignment": label_alignment.VARIABLE,
    "label_alignment_centred": label_alignment_centred.VARIABLE,
    "kinetic_energy": kinetic_energy.VARIABLE,
    "kinetic_energy_bound": kinetic_energy_bound.VARIABLE,
    "kinetic_energies": kinetic_energies.VARIABLE,
    "projection_factors": projection_factors.VARIABLE,
    "loss_rate_shares": loss_rate_shares.VARIABLE,
    "mode_coupling": mode_coupling.VARIABLE,
    "spectral_position": spectral_position.VARIABLE,
    "sharpness": sharpness.VARIABLE,
    "misalignment_subspace": misalignment_subspace.VARIABLE,
    "misalignment_vectors": misalignment_vectors.VARIABLE,
    "misalignment_subspace_step": misalignment_subspace_step.VARIABLE,
    "misalignment_vectors_step": misalignment_vectors_step.VARIABLE,
    "misalignment_rank": misalignment_rank.VARIABLE,
    "largest_eigenvalue": largest_eigenvalue.VARIABLE,
    "largest_share": largest_share.VARIABLE,
    "eigenvalues_leading": eigenvalues_leading.VARIABLE,
    "participation_ratio": participation_ratio.VARIABLE,
    "condition_number": condition_number.VARIABLE,
    "numerical_rank": numerical_rank.VARIABLE,
    "tail_exponent": tail_exponent.VARIABLE,
    "entropy_wishart_gap": entropy_wishart_gap.VARIABLE,
    "entropy_centred": entropy_centred.VARIABLE,
    "largest_share_centred": largest_share_centred.VARIABLE,
    "constant_overlap": constant_overlap.VARIABLE,
    "class_within": class_within.VARIABLE,
    "class_between": class_between.VARIABLE,
    "class_within_other": class_within_other.VARIABLE,
    "class_between_other": class_between_other.VARIABLE,
    "class_block_distance": class_block_distance.VARIABLE,
    "local_elasticity": local_elasticity.VARIABLE,
    "entropy_gap": entropy_gap.VARIABLE,
    "kernel_regression_accuracy": kernel_regression_accuracy.VARIABLE,
}


def collective_variables(
    kernel: Float[Tensor, "side side"] | Float[np.ndarray, "side side"],
    names: Iterable[str] = ("trace", "entropy", "effective_rank"),
    **given: Any,
) -> dict[str, float | np.ndarray]:
    """The named variables of one kernel, computed in float64; eigenvalues and the like are shared between them.

    A kernel with an entry that is not finite gives NaN for every variable, and so does a variable that is not defined
    for the kernel at hand (the entropy of the zero kernel).

    Args:
        kernel: [side, side], side = N·O with a point's outputs in successive rows (full) or N (traced, summed).
        names: out of ``VARIABLES``.
        given: what some variables need beside the kernel, such as ``labels=``, ``residual=`` or ``initial_kernel=``:
            see ``tangentscope.probes.variables.resolve.known_of``; ``givens_of`` tells what a variable needs.

    Returns:
        A number by name, or a float64 array [length] for a variable that is a profile.

    Raises:
        TypeError: the kernel is not a floating-point tensor or array; something unknown is given.
        ValueError: an unknown name; a kernel that is not square, is empty or is not symmetric; a variable whose given
            is missing or that is not defined for the kernel's treatment; shapes that do not fit together.
    """
    return evaluate(check_names(names), known_from(kernel, **given))


def check_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names as a tuple, a single string standing for itself; ValueError if the table lacks one."""
    names = (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        if name not in VARIABLES:
            near = difflib.get_close_matches(str(name), VARIABLES, n=1)
            hint = f", did you mean {near[0]!r}?" if near else "."
            raise ValueError(f"unknown variable {name!r}{hint} Expected one of: {', '.join(VARIABLES)}")
    return names


def check_treatment(names: Iterable[str], outputs: str) -> None:
    """Raise ValueError, on one line, if a variable is not defined for kernels of the treatment ``outputs``.

    With one output per point all treatments are the same and every variable is defined: ask for "full" then.
    """
    for name in names:
        defined = VARIABLES[name].treatments
        if outputs not in defined:
            raise ValueError(
                f"{name} is defined for outputs={' or '.join(defined)}, got {outputs}: "
                f"take the kernel with outputs={defined[0]}, or leave {name} out"
            )


def givens_of(name: str) -> frozenset[str]:
    """What has to be given with a kernel (of ``GIVENS``) for a variable, through everything it needs.

    ``points`` is left out where what else is given has a row per point, and tells.
    """
    givens = chain(VARIABLES[name].needs) & GIVENS.keys()
    by_point = givens & {"labels", "classes", "residual", "output_hessian"}
    return frozenset(givens - {"points"} if by_point else givens)


def evaluate(
    names: Iterable[str], known: dict[str, Any], reasons: dict[str, str] | None = None
) -> dict[str, float | np.ndarray]:
    """The named variables from what is ``known`` of a kernel (see ``known_of``), which grows by what they need.

    Args:
        names: out of ``VARIABLES``.
        known: of the kernel.
        reasons: gets the reason for every variable that cannot be computed, whose value is NaN then, for a profile as
            for a number, and the others are computed all the same. Without it the first such error is raised.

    Raises:
        ValueError: a variable whose given is missing or that is not defined for the kernel's treatment.
    """
    names = tuple(names)
    check_treatment(names, known["outputs"])
    wanted: set[str] = set()
    for name in names:
        needed = chain(VARIABLES[name].needs, known)
        for missing in sorted(needed - NEEDS.keys()):
            how = GIVENS.get(missing, f"expected one of {', '.join(['kernel', *NEEDS, *GIVENS])}")
            raise ValueError(f"{name} needs {missing}: {how}, or {missing}= with a kernel at hand")
        wanted |= needed
    if "spectrum" not in known and ("eigensystem" in wanted or "eigensystem" in known):
        # One solution gives both. Eigenvalues then differ by rounding from those of a table without eigenvectors.
        known["spectrum"] = resolve("eigensystem", known)[0]
    found: dict[str, float | np.ndarray] = {}
    for name in names:
        try:
            found[name] = VARIABLES[name].compute(**{need: resolve(need, known) for need in VARIABLES[name].needs})
        except (MemoryError, torch.OutOfMemoryError):  # the machine's failure: another try may do
            raise
        except Exception as error:
            if reasons is None:
                raise
            reasons[name] = " ".join(f"{type(error).__name__}: {error}".split())
            found[name] = math.nan
    return found
