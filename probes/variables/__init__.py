"""Collective variables of a kernel: one file a variable, one line of the table each."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from probes.variables import (
    effective_rank,
    effective_rank_cosine,
    entropy,
    entropy_cosine,
    entropy_normalised,
    largest_eigenvalue,
    magnitude_entropy,
    participation_ratio,
    trace,
    trace_per_entry,
)
from probes.variables.needs import known_from, resolve
from probes.variables.variable import Variable

__all__ = ["VARIABLES", "Variable", "check_names", "collective_variables", "evaluate"]

VARIABLES: Mapping[str, Variable] = {
    "trace": trace.VARIABLE,
    "trace_per_entry": trace_per_entry.VARIABLE,
    "entropy": entropy.VARIABLE,
    "entropy_normalised": entropy_normalised.VARIABLE,
    "effective_rank": effective_rank.VARIABLE,
    "entropy_cosine": entropy_cosine.VARIABLE,
    "effective_rank_cosine": effective_rank_cosine.VARIABLE,
    "magnitude_entropy": magnitude_entropy.VARIABLE,
    "participation_ratio": participation_ratio.VARIABLE,
    "largest_eigenvalue": largest_eigenvalue.VARIABLE,
}


def collective_variables(
    kernel: Float[Tensor, "side side"] | Float[np.ndarray, "side side"],
    names: Iterable[str] = ("trace", "entropy", "effective_rank"),
) -> dict[str, float]:
    """The named variables of one kernel, computed in float64; eigenvalues are shared between them.

    A kernel with an entry that is not finite gives NaN for every variable, and so does a variable that is not defined
    for the kernel at hand (the entropy of the zero kernel).

    Raises:
        TypeError: the kernel is not a floating-point tensor or array.
        ValueError: an unknown name; a kernel that is not square, is empty or is not symmetric.
    """
    return evaluate(check_names(names), known_from(kernel))


def check_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names as a tuple, a single string standing for itself; ValueError if the table lacks one."""
    names = (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        if name not in VARIABLES:
            near = difflib.get_close_matches(str(name), VARIABLES, n=1)
            hint = f", did you mean {near[0]!r}?" if near else "."
            raise ValueError(f"unknown variable {name!r}{hint} Expected one of: {', '.join(VARIABLES)}")
    return names


def evaluate(names: Iterable[str], known: dict[str, Any]) -> dict[str, float]:
    """The named variables from what is ``known`` of a kernel (see ``known_from``), which grows by what they need."""
    return {
        name: VARIABLES[name].compute(**{need: resolve(need, known) for need in VARIABLES[name].needs})
        for name in names
    }
