"""Formulas that several variables share. NaN in gives NaN out, and so does a division by zero."""

import math

import numpy as np
from jaxtyping import Float64
from torch import Tensor


def ratio(numerator: int | float, denominator: int | float) -> float:
    """numerator / denominator; NaN where the denominator is 0."""
    return float(numerator) / float(denominator) if denominator != 0 else math.nan


def shannon_entropy(weights: Float64[np.ndarray, " n"]) -> float:
    """−Σ p ln p of p = weights/Σweights, in nats, 0·ln 0 = 0; NaN where no p exists (Σ = 0, a NaN, a negative)."""
    largest = weights.max()
    if not np.isfinite(weights).all() or weights.min() < 0 or largest <= 0:
        return float("nan")
    p = weights / largest  # first, so that the sum cannot overflow
    p = p / p.sum()
    p = p[p > 0]
    return max(0.0, float(-(p * np.log(p)).sum()))


def normalised(kernel: Float64[Tensor, "side side"]) -> Float64[Tensor, "side side"]:
    """Θ/‖Θ‖_F; all NaN for the zero kernel."""
    scaled = kernel / kernel.abs().max()  # first, so that squares neither overflow nor vanish
    return scaled / scaled.square().sum().sqrt()


def cosine_distance(unit: Float64[Tensor, "side side"], other: Float64[Tensor, "side side"]) -> float:
    """1 − ⟨A, B⟩_F of two kernels of norm 1, in [0, 1] for true kernels.

    As ½‖A − B‖²_F, which is the same, never negative, and precise where A and B hardly differ.
    """
    return float((unit - other).square().sum()) / 2


def alignment(unit: Float64[Tensor, "side side"], vectors: Float64[Tensor, "side columns"]) -> float:
    """⟨Θ, LLᵀ⟩_F / ‖LLᵀ‖_F of a kernel of norm 1 and the columns L, in [0, 1] for true kernels; NaN for L = 0."""
    along = float((vectors * (unit @ vectors)).sum())
    return ratio(along, float((vectors.T @ vectors).square().sum().sqrt()))


def misaligned_subspace(
    vectors: Float64[np.ndarray, "side side"], others: Float64[np.ndarray, "side side"], rank: float
) -> float:
    """1 − ‖V_nᵀV'_n‖²_F/n of the first n = rank columns; chance level 1 − n/side; NaN where the rank is."""
    if math.isnan(rank):
        return math.nan
    n = int(rank)
    return 1 - float(((vectors[:, :n].T @ others[:, :n]) ** 2).sum()) / n


def misaligned_vectors(
    vectors: Float64[np.ndarray, "side side"], others: Float64[np.ndarray, "side side"], rank: float
) -> float:
    """1 − (1/n) Σ_k |v_k·v'_k| over the first n = rank columns; NaN where the rank is."""
    if math.isnan(rank):
        return math.nan
    n = int(rank)
    return 1 - float(np.abs((vectors[:, :n] * others[:, :n]).sum(0)).mean())
