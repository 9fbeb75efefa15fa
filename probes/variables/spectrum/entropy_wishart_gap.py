"""Entropy beyond that of unstructured gradients."""

import math

import numpy as np
from jaxtyping import Float64

from tangentscope.probes.variables.formulas import shannon_entropy
from tangentscope.probes.variables.variable import Variable


def entropy_wishart_gap(eigenvalues: Float64[np.ndarray, " side"]) -> float:
    """S less that of a Wishart kernel of equal side n and participation ratio PR, in nats; NaN for the zero kernel.

    The null has n gradients drawn at random in M dimensions, M = n·PR/(n − PR) (Marchenko-Pastur), and the entropy
    ln m − m/2l, m = min(n, M), l = max(n, M) (Page 1993); simulated ones differ by 1/2n at most in the mean. 0 says
    that the spectrum is what drawing n points makes of noise, above 0 that its tail is heavier.
    """
    entropy, n = shannon_entropy(eigenvalues), len(eigenvalues)
    if math.isnan(entropy):
        return math.nan
    shares = eigenvalues / eigenvalues.sum()
    participation = 1 / float((shares**2).sum())
    dimensions = n * participation / (n - participation) if participation < n * (1 - 1e-12) else math.inf
    least, most = min(n, dimensions), max(n, dimensions)
    return entropy - (math.log(least) - least / (2 * most))


VARIABLE = Variable(
    "entropy_wishart_gap", version=1, source="Marchenko & Pastur 1967, Page 1993", compute=entropy_wishart_gap
)
