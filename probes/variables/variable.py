"""A variable: a number computed from a kernel, with the version and the source of its definition."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64


@dataclass(frozen=True)
class Variable:
    """One collective variable.

    name: key in ``VARIABLES`` and in results.
    version: raised whenever the same kernel would give another number, so that stored values stay comparable.
    source: label of the definition, such as ``CV eq. 9``.
    compute: pure function whose argument names say what it needs (see ``probes.variables.needs.NEEDS``). NaN in
        gives NaN out, never an exception.
    """

    name: str
    version: int
    source: str
    compute: Callable[..., float]

    @property
    def needs(self) -> tuple[str, ...]:
        """What ``compute`` asks for, by argument name."""
        return tuple(inspect.signature(self.compute).parameters)


def shannon_entropy(weights: Float64[np.ndarray, " n"]) -> float:
    """−Σ p ln p of p = weights/Σweights, in nats, 0·ln 0 = 0; NaN where no p exists (Σ = 0, a NaN, a negative)."""
    largest = weights.max()
    if not np.isfinite(weights).all() or weights.min() < 0 or largest <= 0:
        return float("nan")
    p = weights / largest  # first, so that the sum cannot overflow
    p = p / p.sum()
    p = p[p > 0]
    return max(0.0, float(-(p * np.log(p)).sum()))
