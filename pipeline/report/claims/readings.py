"""What claims read of a run: entropy and trace of the table's kernel, and the losses, at the steps that have both.

A number that is not there, or that is no number, is never passed over: the claim has none for this run then, and says
why.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from tangentscope.pipeline.config.features import BOTH
from tangentscope.pipeline.report.claims.findings import Finding, Sample
from tangentscope.pipeline.report.formatting import number as told
from tangentscope.pipeline.report.summaries import results_on, state
from tangentscope.pipeline.report.view import View, column, value_label
from tangentscope.pipeline.store.planned import PlannedRun
from tangentscope.probes import FEATURE_VARIABLES
from tangentscope.probes.trajectories.curves import MARGIN

Run = PlannedRun
Groups = Mapping[tuple[str, ...], Sequence[Run]]
Number = tuple[float, str]  # a claim's number, and what it is made of


class NoNumberError(Exception):
    """Why a run has no number for a claim."""


@dataclass(frozen=True)
class Series:
    """A variable of a run, all finite.

    Attributes:
        steps: Ascending, the first is 0.
        values: At these steps.
        errors: Standard errors over draws of the probe points; 0 with one draw, which tells none.
    """

    steps: Int64[np.ndarray, " steps"]
    values: Float64[np.ndarray, " steps"]
    errors: Float64[np.ndarray, " steps"]

    def at(self, steps: Int64[np.ndarray, " chosen"]) -> "Series":
        """The part of it at some of its steps."""
        keep = np.isin(self.steps, steps)
        return Series(self.steps[keep], self.values[keep], self.errors[keep])

    def error(self, *places: int) -> float:
        """The largest standard error at some places."""
        return float(max(self.errors[list(places)]))


def measured(view: View, run: Run, variable: str, split: str | None = None, first: int = 0) -> Series:
    """A variable of features, or of the kernel that the tables of runs are about, at all steps from 0 to the last.

    What compares with the step before has no value at step 0; for that, `first` leaves out so many steps.

    Raises:
        NoNumberError: The run has not finished, or a step has no value or none that is finite.
    """
    way, split = results_on(view), BOTH if variable in FEATURE_VARIABLES else split
    kernels = view.kernels(variable, split) if way is None or variable != "entropy" else [way[1]]
    kernel = way[1] if way and way[1] in kernels else next(iter(kernels), None)
    if way is None or kernel is None:
        raise NoNumberError(f"{variable.replace('_', ' ')} is not measured")
    return _series(view, run, split or way[0], variable, kernel, first)


def loss(view: View, run: Run, split: str) -> Series:
    """A run's loss on a split, at all steps at which it was taken. Errors as for `measured`."""
    return _series(view, run, split, "loss", None)


def log_loss(view: View, run: Run, split: str) -> Series:
    """ln L. Errors as for `measured`; also of a loss that is not positive."""
    found = loss(view, run, split)
    if (found.values <= 0).any():
        raise NoNumberError(f"loss on {split} is not positive at step {told(_first(found.steps, found.values <= 0))}")
    return Series(found.steps, np.log(found.values), found.errors)


def _series(view: View, run: Run, split: str, variable: str, kernel: Any, first: int = 0) -> Series:
    if (how := state(view, run.id)) != "finished":
        raise NoNumberError(how)
    what = f"{variable.replace('_', ' ')} on {split}"
    curve = view.curve(run, split, variable, kernel)
    steps, values = (column(curve, name) for name in ("step", "value"))
    if not steps.size or steps[0] != 0:
        raise NoNumberError(f"{what} has no value at step 0")
    steps, values, errors = steps[first:], values[first:], column(curve, "stderr")[first:]
    if (bad := ~np.isfinite(values)).any():
        raise NoNumberError(f"{what} has no value, or none that is finite, at step {told(_first(steps, bad))}")
    if not steps.size or steps[-1] != run.steps:
        raise NoNumberError(f"{what} has no value at the last step, {told(run.steps)}")
    return Series(steps.astype(np.int64), values, np.nan_to_num(errors))


def _first(steps: np.ndarray, chosen: np.ndarray) -> int:
    return int(steps[chosen][0])


def common(*series: Series) -> list[Series]:
    """Series at the steps that all of them have."""
    steps = series[0].steps
    for other in series[1:]:
        steps = np.intersect1d(steps, other.steps)
    return [one.at(steps) for one in series]


def entropy_margin(entropy: Series, *places: int) -> float:
    """max(2 % of S_0, twice the standard error over draws), in nats: what a change of entropy has to exceed."""
    return max(MARGIN * float(entropy.values[0]), 2 * entropy.error(*places))


MARGIN_REASON = (
    "Two draws of probe points differ by up to 2 % of S₀, and a standard error s over draws leaves one difference in "
    "twenty beyond 2 s: the larger of the two is taken off each seed's number, so the mean has to be above 0."
)


def sample(name: str, number: Callable[[], Number]) -> Sample:
    """A run's or seed's number, or why there is none."""
    try:
        value, note = number()
    except NoNumberError as reason:
        return Sample(name, None, str(reason))
    return Sample(name, value, note) if np.isfinite(value) else Sample(name, None, f"not a number: {note}")


def each_run(
    groups: Groups,
    statement: str,
    statistic: str,
    reason: str,
    number: Callable[[Run], Number],
    above: float = -math.inf,
    at_most: float = math.inf,
) -> list[Finding]:
    """A finding for each group of runs; a run has a number of its own."""
    return [
        Finding(
            of(statement, parts),
            statistic,
            [sample(run.name, lambda run=run: number(run)) for run in runs],
            reason,
            above=above,
            at_most=at_most,
        )
        for parts, runs in groups.items()
    ]


def each_network(
    view: View, statement: str, statistic: str, reason: str, number: Callable[[View, Run], Number], above: float = 0.0
) -> list[Finding]:
    """A finding for each network; a run has a number of its own."""
    return each_run(view.networks, statement, statistic, reason, lambda run: number(view, run), above)


def each_group(
    groups: Groups,
    statement: str,
    statistic: str,
    reason: str,
    number: Callable[[list[Run]], Number],
    above: float = 0.0,
) -> list[Finding]:
    """A finding for each group of networks; all runs of a seed make a number together."""
    return [
        Finding(
            of(statement, parts),
            statistic,
            [sample(f"seed={seed}", lambda ours=ours: number(ours)) for seed, ours in by_seed(runs).items()],
            reason,
            above=above,
        )
        for parts, runs in groups.items()
    ]


def by_seed(runs: Sequence[Run]) -> dict[int, list[Run]]:
    """Runs by their seed, ascending."""
    found: dict[int, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        found.setdefault(run.seed, []).append(run)
    return found


def of(statement: str, parts: Sequence[str]) -> str:
    """A statement, and of which networks."""
    return f"{statement} ({', '.join(parts)})" if parts else statement


def varied_number(view: View, fields: Sequence[str]) -> str | None:
    """The first of these fields that the study varies in numbers."""
    return next((field for field in fields if field in view.varied and _numbers(view.runs, field)), None)


def _numbers(runs: Sequence[Run], field: str) -> bool:
    kinds = {type(run.varied.get(field)) for run in runs}
    return kinds <= {int, float}


def scans(view: View, *fields: str, least: int = 2) -> dict[tuple[str, ...], Sequence[Run]]:
    """Runs that agree in whatever is varied beside some fields, by what that is; `least` values of each field or more.

    A grid over other fields has a scan for each of their combinations; of a study that varies one at a time, the runs
    of a field make one.
    """
    others = [field for field in view.varied if field not in fields]
    found: dict[tuple[str, ...], list[Run]] = {}
    for run in view.runs:
        parts = tuple(f"{view.short(field)}={value_label(run.varied[field])}" for field in others)
        found.setdefault(parts, []).append(run)
    enough = {parts for parts, runs in found.items() if all(len(values(runs, field)) >= least for field in fields)}
    return {parts: runs for parts, runs in found.items() if parts in enough}


def values(runs: Sequence[Run], field: str) -> list[Any]:
    """The different values of a varied field, ascending where they are numbers."""
    different = {run.varied[field] for run in runs}
    return sorted(different) if _numbers(runs, field) else sorted(different, key=str)


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's rank correlation; a NoNumberError where one of the two does not vary."""
    from scipy.stats import spearmanr  # takes a while to load

    if len({*x}) < 2 or len({*y}) < 2:
        raise NoNumberError("a rank correlation takes two different values of each")
    return float(spearmanr(x, y).statistic)  # pyright: ignore[reportAttributeAccessIssue]
