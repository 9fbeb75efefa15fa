"""Curves of single modes, exact and stable at all times and for any start that float64 holds.

By NumPy alone: whatever imports the table of models would wait for scipy.special.
"""

import numpy as np
from numpy.typing import ArrayLike


def over(times: ArrayLike, rates: ArrayLike) -> np.ndarray:
    """t · rate, `[*times, *modes]`.

    Raises:
        ValueError: if a time is negative or not finite.
    """
    times = np.asarray(times, float)
    if not (np.isfinite(times) & (times >= 0)).all():
        raise ValueError(f"times must be finite and at least 0, got {times.min()} to {times.max()}")
    return np.multiply.outer(times, np.asarray(rates, float))


def expit(logits: ArrayLike) -> np.ndarray:
    """1/(1 + e^−z), to within rounding also where that is tiny."""
    return np.exp(-np.logaddexp(0, -np.asarray(logits, float)))


def logit(shares: ArrayLike) -> np.ndarray:
    """ln(x/(1 − x)) of x in [0, 1]."""
    with np.errstate(divide="ignore"):
        return np.log(shares) - np.log1p(-np.asarray(shares, float))


def exponential(initial: ArrayLike, limit: ArrayLike, exponents: np.ndarray) -> np.ndarray:
    """limit + (initial − limit) e^−x: ẏ = limit − y, at x = `exponents` ≥ 0. Exact also where y has hardly moved."""
    return np.asarray(initial) * np.exp(-exponents) - np.asarray(limit) * np.expm1(-exponents)


def starting_logits(initial: ArrayLike, limit: ArrayLike) -> np.ndarray:
    """z with initial = limit · expit(z), where a sigmoidal mode starts; limit − initial is limit · expit(−z).

    Raises:
        ValueError: unless 0 < initial ≤ limit.
    """
    initial, limit = np.asarray(initial, float), np.asarray(limit, float)
    if not ((initial > 0) & (initial <= limit)).all():
        raise ValueError(
            f"a sigmoidal mode starts above 0 and not beyond its limit, got starts from {initial.min():.3g} to "
            f"{initial.max():.3g} and limits from {limit.min():.3g} to {limit.max():.3g}"
        )
    return logit(initial / limit)


def sigmoidal(initial: ArrayLike, limit: ArrayLike, exponents: np.ndarray) -> np.ndarray:
    """limit/(1 + (limit/initial − 1) e^−x), at x = `exponents` (Nam eq. 3.9): ẏ = y (1 − y/limit).

    Raises:
        ValueError: unless 0 < initial ≤ limit.
    """
    return np.asarray(limit) * expit(starting_logits(initial, limit) + exponents)


def log_growth(aligned: ArrayLike, opposed: ArrayLike, target: ArrayLike, times: np.ndarray) -> np.ndarray:
    """ln γ(t) of pairs of layers from any start: θ = pγ − q/γ is the strength, and γ̇ = 2γ(S − θ), γ(0) = 1.

    Solved by γ = u/v with u̇ = Su + 2qv, v̇ = 2pu − Sv, whose matrix squares to r² = S² + 4pq times the identity: the
    rate of γ is 2r. All terms of u and of v are positive as written here, so that nothing cancels.

    Args:
        aligned: p = Σ (a + b)²/4 at the start, at least 0. Arguments are broadcast against one another.
        opposed: q = Σ (a − b)²/4 at the start, at least 0.
        target: S, of either sign or 0.
        times: t ≥ 0.

    Returns:
        ln γ: γ rises to (S + r)/2p if θ(0) < S, and falls to it otherwise.
    """
    p, q, S, t = np.broadcast_arrays(*(np.asarray(value, float) for value in (aligned, opposed, target, times)))
    rate = np.sqrt(S * S + 4 * p * q)
    decay = np.exp(-2 * rate * t)
    along, across = np.where(S >= 0, p, q), np.where(S >= 0, q, p)
    with np.errstate(divide="ignore", invalid="ignore"):
        run = np.where(rate > 0, -np.expm1(-2 * rate * t) / rate, 2 * t)  # (1 − e^−2rt)/r
        # r − |S| without the difference; what decays as a logarithm, as it may be all there is after it underflows.
        lasting = 4 * p * q / (rate + abs(S)) / rate * (1 + decay) + 2 * along * run
        decaying = np.log(2 * abs(S) / rate) - 2 * rate * t
        away = np.where(rate > 0, np.logaddexp(np.log(lasting), decaying), np.log1p(along * run) + np.log(2))
    towards = np.log(1 + decay + (abs(S) + 2 * across) * run)
    return np.where(S >= 0, towards - away, away - towards)


def grown(parts: ArrayLike, log_growth: np.ndarray) -> np.ndarray:
    """parts · e^ln γ without overflow where a part is 0 or tiny; shapes are broadcast."""
    parts = np.asarray(parts, float)
    with np.errstate(divide="ignore"):
        return np.sign(parts) * np.exp(np.log(abs(parts)) + log_growth)
