"""How the skill model's loss falls with time, data, parameters and compute (Nam ch. 4, app. C.1)."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import xlog1py, zeta

from tangentscope.models.solvable.modes import expit, starting_logits

EXPONENTS: Mapping[str, Callable[[float], float]] = {
    "time": lambda alpha: -alpha / (alpha + 1),
    "data": lambda alpha: -alpha / (alpha + 1),
    "parameters": lambda alpha: -alpha,
    "compute": lambda alpha: -alpha / (alpha + 2),
}
"""d ln L/d ln(what is short), for skills of frequency ∝ k^−(α + 1) (Nam Table 4.1)."""


def skill_frequencies(alpha: float, skills: int) -> np.ndarray:
    """P_k ∝ k^−(α + 1), k = 1 … n_s, which sum to 1 (Nam eq. 4.1)."""
    weights = np.arange(1.0, skills + 1) ** -(alpha + 1)
    return weights / weights.sum()


def endless_frequencies(alpha: float, skills: int) -> tuple[np.ndarray, float]:
    """P_k of the first `skills` of infinitely many, and the share of all others together."""
    all_of_them = float(zeta(alpha + 1))
    return np.arange(1.0, skills + 1) ** -(alpha + 1) / all_of_them, float(zeta(alpha + 1, skills + 1)) / all_of_them


def loss_over_time(
    times: ArrayLike,
    frequencies: ArrayLike,
    scale: float,
    initial: ArrayLike,
    withheld: float = 0.0,
    gain: float = 1.0,
) -> np.ndarray:
    """Loss over time with all the data: eq. 4.17 with d_k/D = P_k, of the shape of `times` (Nam).

    ½ S² Σ_k P_k/(1 + e^(2 η P_k gain S T)/(S/R_k(0) − 1))² + ½ S² `withheld`.

    Args:
        times: η T ≥ 0, of any shape; learning rate times steps.
        frequencies: P_k of the N skills that the model has.
        scale: S.
        initial: R_k(0) in (0, S), of all skills or each.
        withheld: share of the skills that the model has not.
        gain: as in `multilinear.strengths_over_time`.

    Raises:
        ValueError: if frequencies and `withheld` do not sum to 1; for another start.
    """
    frequencies = _checked(frequencies, withheld)
    times = np.asarray(times, float)
    start = starting_logits(initial, scale)
    rates = 2 * gain * scale * frequencies
    # Time by time: a table of all skills at all times would not fit into memory.
    left = [frequencies @ expit(-start - rates * time) ** 2 for time in times.flat]
    return scale**2 / 2 * (np.reshape(left, times.shape) + withheld)


def loss_over_data(samples: ArrayLike, frequencies: ArrayLike, scale: float, withheld: float = 0.0) -> np.ndarray:
    """Mean loss after training on D samples, ½ S² Σ_k P_k (1 − P_k)^D, of the shape of `samples` (Nam eq. 4.29).

    A skill is learned if it was seen once (eq. 4.26); what is withheld is not. Arguments as in `loss_over_time`.

    Raises:
        ValueError: if frequencies and `withheld` do not sum to 1.
    """
    frequencies = _checked(frequencies, withheld)
    samples = np.asarray(samples, float)
    unseen = [frequencies @ np.exp(xlog1py(count, -frequencies)) for count in samples.flat]
    return scale**2 / 2 * (np.reshape(unseen, samples.shape) + withheld)


def loss_over_parameters(skills: ArrayLike, alpha: float, scale: float) -> np.ndarray:
    """Loss at the end of training with the first N of infinitely many skills, ½ S² Σ_{k>N} P_k (Nam eq. 4.35–4.36)."""
    return scale**2 / 2 * zeta(alpha + 1, np.asarray(skills, float) + 1) / zeta(alpha + 1)


def loss_over_compute(
    compute: ArrayLike, widths: Iterable[int], alpha: float, scale: float, initial: float
) -> np.ndarray:
    """Least loss at T · N = C over the numbers of skills in `widths`, of infinitely many skills (Nam eq. 4.37)."""
    compute = np.asarray(compute, float)
    losses = []
    for width in widths:
        frequencies, withheld = endless_frequencies(alpha, width)
        losses.append(loss_over_time(compute / width, frequencies, scale, initial, withheld))
    return np.min(losses, axis=0)


def power_law(times: ArrayLike, first_time: float, first_loss: float, alpha: float) -> np.ndarray:
    """L ∝ T^(−α/(α + 1)) through a point of the curve: of infinitely many skills (Nam eq. 4.25)."""
    return first_loss * (np.asarray(times, float) / first_time) ** EXPONENTS["time"](alpha)


def finite_power_law(
    times: ArrayLike, first_time: float, first_loss: float, alpha: float, scale: float, skills: int
) -> np.ndarray:
    """The same with N skills that are all there are: L + L_C ∝ T^(−α/(α + 1)), L_C = S² A N^−α/2α (Nam eq. C.2).

    A is P_1, so that P_k = A k^−(α + 1). Holds while the last skill is still to be learned.
    """
    correction = scale**2 * skill_frequencies(alpha, skills)[0] * skills**-alpha / (2 * alpha)
    return power_law(times, first_time, first_loss + correction, alpha) - correction


def _checked(frequencies: ArrayLike, withheld: float) -> np.ndarray:
    frequencies = np.asarray(frequencies, float)
    total = frequencies.sum() + withheld
    if not ((frequencies >= 0).all() and withheld >= 0 and abs(total - 1) < 1e-9):
        raise ValueError(
            f"skill frequencies and the share withheld must be at least 0 and sum to 1, got a sum of {total:.10g}: "
            "divide by it, or pass the rest as withheld"
        )
    return frequencies
