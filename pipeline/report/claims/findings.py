"""How a claim is decided: a number a seed, a bootstrap interval over seeds, and what it must lie within."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from tangentscope.probes.trajectories.resampling import Estimate

FEWEST_SEEDS = 5  # of five values there are 126 different resamples, of four 35: too few for a 95 % interval
_RESAMPLES = 9999
HELD, FAILED, UNDECIDED = "held", "failed", "undecided"


@dataclass(frozen=True)
class Sample:
    """A claim's number in one run.

    Attributes:
        name: The run's.
        value: The number; None if the run has none.
        note: What it is made of, or why there is none.
        below, above: How much less and more it may be in truth, as coarsely as was measured.
    """

    name: str
    value: float | None
    note: str
    below: float = 0.0
    above: float = 0.0


@dataclass(frozen=True)
class Finding:
    """What a study says to a claim.

    Attributes:
        statement: The claim, and of which network.
        statistic: What the number of a seed is, with its unit.
        samples: One a run.
        reason: Why these margins.
        above: The least that the mean over seeds has to exceed for the claim to hold.
        at_most: The most that it may be.
        drawn: Whether anything in the numbers is drawn at random. Of what is not one number is enough, and the
            interval is from the least to the largest.
        together: A number that the seeds have only together, such as a break point of their means, with its interval by
            bootstrap over them. It stands in place of the mean; a sample is then the number without that seed.
    """

    statement: str
    statistic: str
    samples: Sequence[Sample]
    reason: str
    above: float = -math.inf
    at_most: float = math.inf
    drawn: bool = field(default=True, kw_only=True)
    together: Estimate | None = field(default=None, kw_only=True)

    @cached_property
    def values(self) -> list[float]:
        """The numbers of the runs that have one."""
        return [sample.value for sample in self.samples if sample.value is not None]

    @property
    def mean(self) -> float | None:
        """Over seeds, or of all of them together; None without any."""
        if self.together is not None:
            return self.together.value if np.isfinite(self.together.value) else None
        return float(np.mean(self.values)) if self.values else None

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """95 % for the mean by bootstrap over seeds, widened by how coarsely they were measured; None below two.

        Percentiles, of draws that are the same every time.
        """
        if self.together is not None:
            low, high = self.together.low, self.together.high
            return (low, high) if np.isfinite([low, high]).all() else None
        if len(self.values) < (2 if self.drawn else 1):
            return None
        known = [sample for sample in self.samples if sample.value is not None]
        low, high = bootstrap_interval(self.values) if self.drawn else (min(self.values), max(self.values))
        return low - float(np.mean([s.below for s in known])), high + float(np.mean([s.above for s in known]))

    @property
    def fewest(self) -> int:
        """How many numbers a verdict takes."""
        return FEWEST_SEEDS if self.drawn else 1

    @property
    def verdict(self) -> str:
        """``held`` if the interval lies wholly within the margins, ``failed`` if wholly outside, else ``undecided``."""
        if self.interval is None or len(self.values) < self.fewest:
            return UNDECIDED
        low, high = self.interval
        if low > self.above and high <= self.at_most:
            return HELD
        return FAILED if high <= self.above or low > self.at_most else UNDECIDED


def bootstrap_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % for the mean of at least two values, by percentiles of bootstrap resamples."""
    from scipy.stats import bootstrap  # takes a while to load

    found = bootstrap((values,), np.mean, method="percentile", n_resamples=_RESAMPLES, rng=0).confidence_interval
    return float(found.low), float(found.high)
