"""How a study's losses of the skill model fall with time, data, parameters and compute, and by which power."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from tangentscope.models.solvable.scaling import EXPONENTS
from tangentscope.pipeline.report.solvable import SkillRun
from tangentscope.pipeline.report.view import column

FEWEST = 3  # points of a slope
_COMPUTE_TIMES = 200


@dataclass(frozen=True)
class Law:
    """Losses over what is short of the four.

    Attributes:
        bottleneck: As in `EXPONENTS`.
        amounts, losses: Ascending in the amount.
        alpha: Of the skills' frequencies.
        drawn: By which draw of the data, if any is.
    """

    bottleneck: str
    amounts: Float64[np.ndarray, " points"]
    losses: Float64[np.ndarray, " points"]
    alpha: float
    drawn: int | None = None

    @property
    def exponent(self) -> float:
        """That of Nam Table 4.1."""
        return EXPONENTS[self.bottleneck](self.alpha)

    @property
    def decade(self) -> tuple[float, float]:
        """The middle one of the amounts, in the logarithm."""
        middle = np.sqrt(self.amounts[0] * self.amounts[-1])
        return float(middle / 10**0.5), float(middle * 10**0.5)

    def slope(self) -> float | None:
        """d ln L/d ln amount over the middle decade; None of too few points."""
        low, high = self.decade
        inside = (self.amounts >= 0.99 * low) & (self.amounts <= 1.01 * high)  # amounts are rounded
        if inside.sum() < FEWEST:
            return None
        return float(np.polyfit(np.log(self.amounts[inside]), np.log(self.losses[inside]), 1)[0])


def laws(runs: Sequence[SkillRun]) -> list[Law]:
    """The laws that runs show: over time that of all skills; the rest from runs that differ in data or parameters."""
    endless = [each for each in runs if each.task.samples is None]
    found = [law for each in _whole(endless) if (law := over_time(each)) is not None]
    parameters = {each.skills: each for each in endless if type(each.optimiser).__name__ == "Solution"}
    found += [law for law in (_over_parameters(parameters), _over_compute(parameters)) if law is not None]
    draws: defaultdict[int, dict[int, SkillRun]] = defaultdict(dict)
    for each in runs:
        if each.task.samples is not None:
            draws[each.task.data_seed][each.task.samples] = each
    return found + [law for seed, ours in sorted(draws.items()) if (law := _ends("data", ours, seed)) is not None]


def over_time(run: SkillRun) -> Law | None:
    """From the time at which the first skill is half learned to the last, at which the last one still is to be."""
    times, losses = run.loss()
    begun = losses < 0.75 * run.task.scale**2 / 2
    if begun.sum() < FEWEST:
        return None
    return Law("time", times[begun], losses[begun], run.task.alpha)


def _whole(runs: Sequence[SkillRun]) -> list[SkillRun]:
    most = max((each.skills for each in runs), default=0)
    return [each for each in runs if each.skills == most]


def _over_parameters(runs: Mapping[int, SkillRun]) -> Law | None:
    # Those that are through: what the last skill of a run has not learned would count for what it has not.
    through = {n: each for n, each in runs.items() if _learned(each) > 0.99}
    return _ends("parameters", through)


def _learned(run: SkillRun) -> float:
    """Least share of a strength that the closed form has reached at the end."""
    end = run.closed(np.array([run.run.steps * run.rate]))
    return 0.0 if end is None else float(end.min()) / run.task.scale


def _over_compute(runs: Mapping[int, SkillRun]) -> Law | None:
    """Least loss at T · N = C over the numbers of skills there are."""
    curves = [(n, *each.loss()) for n, each in sorted(runs.items())]
    curves = [(n, times, losses) for n, times, losses in curves if len(times) >= FEWEST]
    if len(curves) < FEWEST:
        return None
    # From where the smallest is learned to where the largest is.
    low = curves[0][0] * curves[0][1][np.argmin(curves[0][2] > 1.02 * curves[0][2][-1])]
    high = curves[-1][0] * curves[-1][1][-1]
    compute = np.geomspace(low, high, _COMPUTE_TIMES)
    logs = [
        np.interp(np.log(compute / n), np.log(times), np.log(losses), left=np.inf, right=np.log(losses[-1]))
        for n, times, losses in curves
    ]
    return Law("compute", compute, np.exp(np.min(logs, axis=0)), next(iter(runs.values())).task.alpha)


def _ends(bottleneck: str, runs: Mapping[int, SkillRun], drawn: int | None = None) -> Law | None:
    amounts, losses = [], []
    for amount, each in sorted(runs.items()):
        curve = column(each.view.curve(each.run, "test", "loss", None), "value")
        if curve.size and np.isfinite(curve[-1]):
            amounts.append(amount)
            losses.append(curve[-1])
    if len(amounts) < FEWEST:
        return None
    alpha = next(iter(runs.values())).task.alpha
    return Law(bottleneck, np.array(amounts, float), np.array(losses), alpha, drawn)
