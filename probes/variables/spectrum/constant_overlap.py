"""Overlap of the first eigenvector with the constant."""

import math

import numpy as np
from jaxtyping import Float64

from tangentscope.probes.variables.variable import Variable


def constant_overlap(
    eigenvalues: Float64[np.ndarray, " side"], eigenvectors: Float64[np.ndarray, "side side"]
) -> float:
    """|⟨v_1, 1⟩|/√side, in [0, 1]; 1 where the first mode moves all outputs alike; NaN for the zero kernel."""
    if not eigenvalues[0] > 0:
        return math.nan
    return abs(float(eigenvectors[:, 0].sum())) / math.sqrt(len(eigenvectors))


VARIABLE = Variable("constant_overlap", version=1, source="v_1 of CV eq. 7-8; Nam §2.5.1", compute=constant_overlap)
