"""Learnability: the share of a target along each feature that a linear model learns from n points."""

import math

import numpy as np
from jaxtyping import Float64
from scipy.optimize import brentq

from tangentscope.probes.variables.features.quantities import UndefinedError
from tangentscope.probes.variables.variable import Variable


def learnability(intensities: Float64[np.ndarray, " p"], learned_points: int) -> Float64[np.ndarray, " p"]:
    """L_k = ρ_k/(ρ_k + κ), in [0, 1], with κ > 0 that solves Σ_k ρ_k/(ρ_k + κ) = n for n = ``learned_points``.

    The expected ⟨f̂|e_k⟩/⟨f*|e_k⟩ of gradient flow from zero on n points, fewer than there are features. Nam eq. 1.36
    takes L ≈ 1 for the d strong features of its example; with the tail there, κ ≈ 0.98 and L ≈ 0.51.

    Raises:
        ValueError: intensities that are NaN; n < 1, or no fewer than the positive intensities: everything is learned.
    """
    if np.isnan(intensities).any():
        known = int((~np.isnan(intensities)).sum())
        raise UndefinedError(
            f"{known} of {len(intensities)} intensities are known, expected all: take as many training data points as "
            "there are features, at least"
        )
    return intensities / (intensities + _kappa(intensities[intensities > 0], learned_points))


def _kappa(positive: Float64[np.ndarray, " features"], points: int) -> float:
    """The root, between where ever the n + 1 largest terms give n and where even n + 1 times their bound does not."""
    if not 1 <= points < len(positive):
        raise UndefinedError(
            f"learned_points is {points}, expected 1 … {len(positive) - 1}: fewer points than the {len(positive)} "
            "features that have an intensity"
        )
    largest = float(positive.max())
    relative = np.sort(positive)[::-1] / largest
    low, high = math.log(relative[points] / points), math.log(relative.sum() / points)
    if low >= high:  # equal but for rounding
        return largest * math.exp(high)

    def excess(log_kappa: float) -> float:
        return float((relative / (relative + math.exp(log_kappa))).sum()) - points

    return largest * math.exp(brentq(excess, low - 1e-9, high + 1e-9, xtol=1e-14, rtol=1e-14))  # pyright: ignore


VARIABLE = Variable("learnability", version=1, source="Nam eq. 1.35", compute=learnability, kind="profile")
