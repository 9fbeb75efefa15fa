"""Collective variables of a kernel: one file per variable, and one line of imports here."""

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tangentscope.probes.variables.change.kernel_distance import VARIABLE as kernel_distance
from tangentscope.probes.variables.change.kernel_velocity import VARIABLE as kernel_velocity
from tangentscope.probes.variables.change.kernel_velocity_log import VARIABLE as kernel_velocity_log
from tangentscope.probes.variables.change.misalignment import RANK as misalignment_rank
from tangentscope.probes.variables.change.misalignment import SUBSPACE as misalignment_subspace
from tangentscope.probes.variables.change.misalignment import SUBSPACE_STEP as misalignment_subspace_step
from tangentscope.probes.variables.change.misalignment import VECTORS as misalignment_vectors
from tangentscope.probes.variables.change.misalignment import VECTORS_STEP as misalignment_vectors_step
from tangentscope.probes.variables.change.trace_ratio import VARIABLE as trace_ratio
from tangentscope.probes.variables.dynamics.kinetic_energies import VARIABLE as kinetic_energies
from tangentscope.probes.variables.dynamics.kinetic_energy import VARIABLE as kinetic_energy
from tangentscope.probes.variables.dynamics.kinetic_energy_bound import VARIABLE as kinetic_energy_bound
from tangentscope.probes.variables.dynamics.loss_rate_shares import VARIABLE as loss_rate_shares
from tangentscope.probes.variables.dynamics.mode_coupling import VARIABLE as mode_coupling
from tangentscope.probes.variables.dynamics.new_point_step_outputs import VARIABLE as new_point_step_outputs
from tangentscope.probes.variables.dynamics.new_point_step_parameters import VARIABLE as new_point_step_parameters
from tangentscope.probes.variables.dynamics.projection_factors import VARIABLE as projection_factors
from tangentscope.probes.variables.dynamics.sharpness import VARIABLE as sharpness
from tangentscope.probes.variables.dynamics.spectral_position import VARIABLE as spectral_position
from tangentscope.probes.variables.labels.class_between import VARIABLE as class_between
from tangentscope.probes.variables.labels.class_between_other import VARIABLE as class_between_other
from tangentscope.probes.variables.labels.class_block_distance import VARIABLE as class_block_distance
from tangentscope.probes.variables.labels.class_within import VARIABLE as class_within
from tangentscope.probes.variables.labels.class_within_other import VARIABLE as class_within_other
from tangentscope.probes.variables.labels.entropy_gap import VARIABLE as entropy_gap
from tangentscope.probes.variables.labels.kernel_by_class import VARIABLE as kernel_by_class
from tangentscope.probes.variables.labels.kernel_regression_accuracy import VARIABLE as kernel_regression_accuracy
from tangentscope.probes.variables.labels.label_alignment import VARIABLE as label_alignment
from tangentscope.probes.variables.labels.label_alignment_centred import VARIABLE as label_alignment_centred
from tangentscope.probes.variables.labels.local_elasticity import VARIABLE as local_elasticity
from tangentscope.probes.variables.resolve import GIVENS, NEEDS, chain, known_from, resolve
from tangentscope.probes.variables.spectrum.condition_number import VARIABLE as condition_number
from tangentscope.probes.variables.spectrum.constant_overlap import VARIABLE as constant_overlap
from tangentscope.probes.variables.spectrum.effective_rank import VARIABLE as effective_rank
from tangentscope.probes.variables.spectrum.effective_rank_cosine import VARIABLE as effective_rank_cosine
from tangentscope.probes.variables.spectrum.eigenvalues_leading import VARIABLE as eigenvalues_leading
from tangentscope.probes.variables.spectrum.entropy import VARIABLE as entropy
from tangentscope.probes.variables.spectrum.entropy_centred import VARIABLE as entropy_centred
from tangentscope.probes.variables.spectrum.entropy_cosine import VARIABLE as entropy_cosine
from tangentscope.probes.variables.spectrum.entropy_normalised import VARIABLE as entropy_normalised
from tangentscope.probes.variables.spectrum.entropy_wishart_gap import VARIABLE as entropy_wishart_gap
from tangentscope.probes.variables.spectrum.largest_eigenvalue import VARIABLE as largest_eigenvalue
from tangentscope.probes.variables.spectrum.largest_share import VARIABLE as largest_share
from tangentscope.probes.variables.spectrum.largest_share_centred import VARIABLE as largest_share_centred
from tangentscope.probes.variables.spectrum.magnitude_entropy import VARIABLE as magnitude_entropy
from tangentscope.probes.variables.spectrum.numerical_rank import VARIABLE as numerical_rank
from tangentscope.probes.variables.spectrum.participation_ratio import VARIABLE as participation_ratio
from tangentscope.probes.variables.spectrum.tail_exponent import VARIABLE as tail_exponent
from tangentscope.probes.variables.trace.layer_traces import VARIABLE as layer_traces
from tangentscope.probes.variables.trace.trace import VARIABLE as trace
from tangentscope.probes.variables.trace.trace_per_entry import VARIABLE as trace_per_entry
from tangentscope.probes.variables.variable import Variable

__all__ = ["VARIABLES", "Variable", "check_names", "check_treatment", "collective_variables", "evaluate", "givens_of"]

# Every variable that is imported above, by its name.
VARIABLES: Mapping[str, Variable] = {each.name: each for each in list(globals().values()) if isinstance(each, Variable)}


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
