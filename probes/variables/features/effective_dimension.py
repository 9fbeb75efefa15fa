"""Effective dimensions: how many features are significant, useful and used."""

import math

import numpy as np
from jaxtyping import Float64

from tangentscope.probes.variables.features.quantities import UndefinedError
from tangentscope.probes.variables.formulas import shannon_entropy
from tangentscope.probes.variables.variable import Variable


def effective_dimension(weights: Float64[np.ndarray, " n"]) -> float:
    """exp(−Σ p ln p) of p = weights/Σweights (Nam eq. 1.16), without those that are NaN; NaN where all are 0."""
    weights = weights[~np.isnan(weights)]
    return math.exp(shannon_entropy(weights)) if len(weights) else math.nan


def effective_dimension_intensity(intensities: Float64[np.ndarray, " p"]) -> float:
    """1 + D_eff(ρ_2, …, ρ_p), in [1, p]: the first feature, nearly constant in most networks, counts as one.

    1 where there is no other feature. With the first as the others: ``feature_effective_rank``.
    """
    if not intensities[0] > 0:
        return math.nan
    others = intensities[1:]
    return 1 + effective_dimension(others) if (others > 0).any() else 1.0


def feature_effective_rank(intensities: Float64[np.ndarray, " p"]) -> float:
    """D_eff(ρ_1, …, ρ_p), the effective rank of the feature kernel of the training points, in [1, p].

    As in Nam fig. 2.2 and Table 2.1 (footnote 1), where the first feature is not constant.
    """
    return effective_dimension(intensities)


def effective_dimension_quality(quality: Float64[np.ndarray, " p"]) -> float:
    """D_eff(Q*), the number of useful features, in [1, p]; NaN where no feature is useful, or not all are measured."""
    return effective_dimension(_all_measured(quality))


def effective_dimension_utilisation(utilisation: Float64[np.ndarray, " p"]) -> float:
    """D_eff(Q̂), the number of features that the network uses, in [1, p]; NaN as in ``effective_dimension_quality``."""
    return effective_dimension(_all_measured(utilisation))


def _all_measured(shares: Float64[np.ndarray, " p"]) -> Float64[np.ndarray, " p"]:
    measured = int((~np.isnan(shares)).sum())
    if measured < len(shares):
        raise UndefinedError(
            f"only {measured} of {len(shares)} features are measured: take as many training and held-out data points "
            "as there are features, at least"
        )
    return shares


INTENSITY = Variable(
    "effective_dimension_intensity", version=1, source="Nam eq. 2.6", compute=effective_dimension_intensity
)
PLAIN = Variable("feature_effective_rank", version=1, source="Nam eq. 1.16, BSC eq. 3", compute=feature_effective_rank)
QUALITY = Variable(
    "effective_dimension_quality", version=1, source="Nam eq. 1.16, 2.3", compute=effective_dimension_quality
)
UTILISATION = Variable(
    "effective_dimension_utilisation", version=1, source="Nam eq. 1.16, 2.5", compute=effective_dimension_utilisation
)
