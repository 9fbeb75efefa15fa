"""Trace of the feature operator."""

import numpy as np
from jaxtyping import Float64

from tangentscope.probes.variables.variable import Variable


def feature_trace(intensities: Float64[np.ndarray, " p"]) -> float:
    """Tr T = Σ_k ρ_k, the mean of ‖Φ(x)‖² over the training points: the trace of their feature kernel by point."""
    return float(np.nansum(intensities))


VARIABLE = Variable("feature_trace", version=1, source="Nam eq. 1.14, BSC App. B.2.1", compute=feature_trace)
