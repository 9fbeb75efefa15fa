"""Condition number of the kernel."""

import math

import numpy as np
from jaxtyping import Float64

from tangentscope.probes.variables.variable import Variable


def condition_number(eigenvalues: Float64[np.ndarray, " side"]) -> float:
    """λ_1/λ_r over the positive eigenvalues, r = ``numerical_rank``, ≥ 1; never infinite; NaN for the zero kernel."""
    positive = eigenvalues[eigenvalues > 0]
    return float(positive[0] / positive[-1]) if len(positive) else math.nan


VARIABLE = Variable("condition_number", version=1, source="spectrum of CV eq. 7-9", compute=condition_number)
