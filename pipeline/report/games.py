"""What the report tells of runs that play: the curves of return and kernels, and where these begin to rise."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tangentscope.pipeline.report.onsets import onset
from tangentscope.pipeline.report.view import Kernel, View, column
from tangentscope.pipeline.store.planned import PlannedRun

ACTOR, CRITIC = "actor", "critic"


@dataclass(frozen=True)
class Beginning:
    """Where a curve of one run begins to rise: between two of its points.

    Attributes:
        step, next_step: Iterations of the last point that is still flat and of the one after.
        x, next_x: Where these stand on the report's x axis, e.g. how many episodes had ended.
    """

    step: int
    next_step: int
    x: float
    next_x: float

    @property
    def coarseness(self) -> float:
        """How far these two are apart on the report's x axis."""
        return self.next_x - self.x


def beginning(curve: pd.DataFrame) -> Beginning | None:
    """The onset (:func:`pipeline.report.onsets.onset`, by iterations) of a run's curve; None if there is none."""
    found = onset(column(curve, "step"), column(curve, "value"))
    if found is None:
        return None
    x, next_x = np.interp([found.at, found.following], column(curve, "step"), column(curve, "x")).tolist()
    return Beginning(int(found.at), int(found.following), x, next_x)


def returns(view: View, run: PlannedRun) -> pd.DataFrame:
    """A run's return while learning: columns ``step, x, value``; no rows for iterations in which no game ended."""
    return view.curve(run, "train", "score", None)


def kernel_curve(view: View, run: PlannedRun, variable: str, kernel: Kernel | None) -> pd.DataFrame:
    """A run's entropy (nats) or logarithm of the trace: columns ``step, x, value``; NaN where it is not positive."""
    if kernel is None:
        return pd.DataFrame(columns=["step", "x", "value"])
    curve = view.curve(run, kernel_split(view), variable, kernel)
    if variable != "trace":
        return curve
    positive = np.where(column(curve, "value") > 0, column(curve, "value"), np.nan)
    return curve.assign(value=np.log(positive))


def kernel_split(view: View) -> str:
    """On which states kernels are taken: those of the stages of training where there are any, as the paper's are."""
    splits = [how.split for how in view.probes.values()]
    return min(splits, key=("stages", "train", "test").index, default="train")


def kernels(view: View, variable: str) -> list[Kernel]:
    """The kernels of these states on which a variable is to be measured."""
    return view.kernels(variable, kernel_split(view))


def leading_kernel(view: View, variable: str) -> Kernel | None:
    """The actor's: CV fig. 3c sees the jump in it first of all. The first there is without one of the actor."""
    return part_kernel(view, variable, ACTOR) or next(iter(kernels(view, variable)), None)


def part_kernel(view: View, variable: str, part: str) -> Kernel | None:
    """The first kernel of a part of the outputs on which `variable` is measured."""
    return next((kernel for kernel in kernels(view, variable) if kernel.part == part), None)


def part_labels(taken: list[Kernel]) -> Mapping[Kernel, str]:
    """The parts that kernels are of, where that tells them apart."""
    short = {kernel: kernel.part or "all outputs" for kernel in taken}
    return short if len(set(short.values())) == len(taken) else {kernel: str(kernel) for kernel in taken}
