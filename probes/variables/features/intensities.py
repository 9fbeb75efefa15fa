"""Intensities of the features."""

import numpy as np
from jaxtyping import Float64

from tangentscope.probes.variables.variable import Variable


def intensities(intensities: Float64[np.ndarray, " p"]) -> Float64[np.ndarray, " p"]:
    """ρ_k, the eigenvalues of T = Σ_k |Φ_k⟩⟨Φ_k| on the training points, descending; [p], in the unit of Φ².

    0 where Φ's precision cannot tell it from 0, NaN beyond as many as there are training points.
    """
    return intensities


VARIABLE = Variable("intensities", version=1, source="Nam eq. 1.29, Alg. 1", compute=intensities, kind="profile")
