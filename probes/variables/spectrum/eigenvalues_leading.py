"""Leading eigenvalues."""

import numpy as np
from jaxtyping import Float64

from tangentscope.probes.variables.variable import Variable

COUNT = 10


def eigenvalues_leading(eigenvalues: Float64[np.ndarray, " side"]) -> Float64[np.ndarray, "10"]:
    """λ_1..λ_10, descending, in the kernel's unit; NaN beyond the side of a smaller kernel."""
    leading = np.full(COUNT, np.nan)
    leading[: len(eigenvalues)] = eigenvalues[:COUNT]
    return leading


VARIABLE = Variable(
    "eigenvalues_leading", version=1, source="λ_k of CV eq. 7-8", compute=eigenvalues_leading, kind="profile"
)
