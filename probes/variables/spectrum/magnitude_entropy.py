"""Entropy of the gradients' magnitudes."""

import numpy as np
from jaxtyping import Float64

from tangentscope.probes.variables.formulas import shannon_entropy
from tangentscope.probes.variables.variable import Variable


def magnitude_entropy(diagonal: Float64[np.ndarray, " side"]) -> float:
    """Shannon entropy of √Θ_ii/Σ√Θ_ii (the CV group's code), in nats, in [0, ln side]; NaN for the zero kernel."""
    with np.errstate(invalid="ignore"):  # a negative Θ_ii is no kernel's: NaN says so
        magnitudes = np.sqrt(diagonal)
    return shannon_entropy(magnitudes)


VARIABLE = Variable("magnitude_entropy", version=1, source="the CV group's code (ZnNL)", compute=magnitude_entropy)
