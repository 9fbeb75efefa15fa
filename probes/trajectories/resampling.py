"""Numbers that several seeds have together, with intervals by bootstrap over the seeds."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

RESAMPLES = 999
_MOST_WITHOUT = 0.05  # of the resamples may have no number; of more the interval would be of the lucky ones

Statistic = Callable[[Int64[np.ndarray, "draws seeds"]], Float64[np.ndarray, " draws"]]


class NoFitError(ValueError):
    """Why numbers cannot be fitted, in one line."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; NaN ends where seeds do not tell."""

    value: float
    low: float = math.nan
    high: float = math.nan


def bootstrap(statistic: Statistic, seeds: int, resamples: int = RESAMPLES) -> Estimate:
    """A statistic of all seeds, and its 95 % interval by bootstrap over them, the same at every call.

    Percentiles at expanded levels (Hesterberg 2015, arXiv 1411.5279, §3.4.1): as far out as makes the interval for a
    mean of normal numbers as wide as Student's t has it. Plain percentiles are a seventh too narrow with five seeds.

    Args:
        statistic: Of rows of seeds' places, a number each; NaN where such a resample has none.
        seeds: How many there are.
        resamples: Draws of as many seeds, with replacement.

    Returns:
        NaN ends with fewer than two seeds, or if more than one resample in twenty has no number.
    """
    return estimate(statistic(resamples_of(seeds, resamples)), seeds)


def resamples_of(seeds: int, resamples: int = RESAMPLES) -> Int64[np.ndarray, "draws seeds"]:
    """Rows of seeds' places: all of them first, then draws with replacement, the same at every call."""
    draws = np.random.default_rng(0).integers(seeds, size=(resamples if seeds > 1 else 0, seeds))
    return np.concatenate([np.arange(seeds)[None], draws])


def estimate(found: Float64[np.ndarray, " draws"], seeds: int) -> Estimate:
    """The number of all seeds, and the interval that those of the resamples make; see `bootstrap`."""
    value, drawn = float(found[0]), found[1:]
    known = drawn[np.isfinite(drawn)]
    if seeds < 2 or len(known) < (1 - _MOST_WITHOUT) * len(drawn):
        return Estimate(value)
    low, high = np.quantile(known, _levels(seeds))
    return Estimate(value, float(low), float(high))


def difference(one: Estimate, other: Estimate) -> Estimate:
    """One number less another, of ensembles that have nothing in common.

    The interval is recovered from theirs (Zou and Donner 2008, doi 10.1002/sim.3095), which need not be symmetric.
    """
    value = one.value - other.value
    low = value - math.hypot(one.value - one.low, other.high - other.value)
    return Estimate(value, low, value + math.hypot(one.high - one.value, other.value - other.low))


def without_each(seeds: int) -> Int64[np.ndarray, "seeds rest"]:
    """Rows of seeds' places, each without one of them in turn."""
    return np.array([np.delete(np.arange(seeds), seed) for seed in range(seeds)], dtype=np.int64).reshape(seeds, -1)


def jackknife(without: Float64[np.ndarray, "seeds numbers"]) -> Float64[np.ndarray, " numbers"]:
    """Standard errors from numbers without each seed in turn; NaN with one seed."""
    seeds = len(without)
    if seeds < 2:
        return np.full(without.shape[1], np.nan)
    return np.sqrt((seeds - 1) * ((without - without.mean(0)) ** 2).mean(0))


def _levels(seeds: int) -> tuple[float, float]:
    from scipy.stats import norm, t  # takes a while to load

    tail = float(norm.cdf(math.sqrt(seeds / (seeds - 1)) * t.ppf(0.025, seeds - 1)))
    return tail, 1 - tail
