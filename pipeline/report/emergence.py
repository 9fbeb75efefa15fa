"""How skills of sparse parities emerge in a study: their strengths over time, data or width, and what is predicted.

Predictions are calibrated on runs of a single skill in the same study, or take Nam's constants where there are none.
"""

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float64

from tangentscope.models.solvable.multilinear import TIME_GAIN, strengths_over_time
from tangentscope.models.solvable.skill_bases import (
    DATA_SHOTS,
    WIDTH_NODES,
    printed_strengths_over_data,
    strengths_over_data,
    strengths_over_width,
)
from tangentscope.pipeline.config.components import restore
from tangentscope.pipeline.report.view import View, column
from tangentscope.pipeline.store.planned import PlannedRun
from tangentscope.tasks import SparseParity

Resource = Literal["time", "data", "width"]
FIELDS: dict[str, str] = {"data": "task.train_size", "width": "model.width"}
_START = 1e-3  # R_k(0)/S where no single skill tells it
_GRID, _ROUNDS, _WITHIN = 17, 4, 100.0  # values tried of each constant, how often, and how far from the default


@dataclass(frozen=True)
class Emergence:
    """Strengths of the skills in one seed.

    Attributes:
        seed: The seed.
        task: Of its runs, but for how much data there are.
        amounts: T = η · steps, samples or width, ascending.
        shares: R_k/S, `[amounts, skills]`.
    """

    seed: int
    task: SparseParity
    amounts: Float64[np.ndarray, " amounts"]
    shares: Float64[np.ndarray, "amounts skills"]

    def half(self) -> Float64[np.ndarray, " skills"]:
        """The amount at which each skill is half learned, between the two beside it; inf if it is not."""
        found = np.full(self.shares.shape[1], np.inf)
        for k, share in enumerate(self.shares.T):
            above = np.flatnonzero(share >= 0.5)
            if len(above) and (first := int(above[0])) > 0:
                span = slice(first - 1, first + 1)
                found[k] = np.exp(np.interp(0.5, share[span], np.log(np.maximum(self.amounts[span], 1e-12))))
            elif len(above):
                found[k] = self.amounts[0]
        return found


@dataclass(frozen=True)
class Calibration:
    """The constant that one skill tells: B² over time, D_c over data, N_c over width; `start` is R(0)/S."""

    resource: Resource
    constant: float
    start: float = _START
    from_runs: bool = False

    def predict(self, task: SparseParity, amounts: np.ndarray) -> Float64[np.ndarray, "amounts skills"]:
        """R_k/S of all skills."""
        if self.resource == "time":
            return (
                strengths_over_time(amounts, task.frequencies(), task.scale, self.start * task.scale, self.constant)
                / task.scale
            )
        if self.resource == "data":
            return strengths_over_data(np.multiply.outer(amounts, task.frequencies()), 1.0, self._whole)
        return strengths_over_width(amounts, task.skills, 1.0, self._whole)

    def printed(self, task: SparseParity, amounts: np.ndarray) -> Float64[np.ndarray, "amounts skills"] | None:
        """The same by a formula that is printed otherwise, Nam eq. 5.5; None where there is none."""
        if self.resource != "data":
            return None
        return printed_strengths_over_data(np.multiply.outer(amounts, task.frequencies()), 1.0, self._whole)

    @property
    def _whole(self) -> int:
        return max(1, round(self.constant))


DEFAULTS: dict[str, Calibration] = {
    "time": Calibration("time", TIME_GAIN),
    "data": Calibration("data", DATA_SHOTS),
    "width": Calibration("width", WIDTH_NODES),
}


@dataclass(frozen=True)
class Emergences:
    """A study's: those of all skills and of one, by what is varied."""

    resource: Resource
    several: list[Emergence]
    single: list[Emergence]

    @cached_property
    def calibration(self) -> Calibration:
        """By least squares on the mean of the runs of one skill."""
        return calibrate(self.resource, self.single) or DEFAULTS[self.resource]


def calibrate(resource: Resource, single: list[Emergence]) -> Calibration | None:
    """The constant at which the prediction of a single skill is nearest to the mean over runs.

    None if there are no runs, or where the skill is not seen to emerge: less than half learned at the end, or half
    learned from the first, it tells no constant.
    """
    if not single:
        return None
    task, amounts = single[0].task, single[0].amounts
    mean = np.mean([each.shares[:, 0] for each in single], axis=0)
    if not mean.min() < 0.5 <= mean.max():
        return None

    def distance(logs: tuple[float, float]) -> float:
        constant, start = map(math.exp, logs)
        predicted = Calibration(resource, constant, start).predict(task, amounts)[:, 0]
        return float(np.square(predicted - mean).sum())

    best = math.log(DEFAULTS[resource].constant), math.log(_START)
    widths = math.log(_WITHIN), math.log(_WITHIN) if resource == "time" else 0.0
    for _ in range(_ROUNDS):  # a grid, then finer ones about its best
        constants, starts = (
            sorted({*(np.linspace(-width, width, _GRID) + about).tolist()})
            for about, width in zip(best, widths, strict=True)
        )
        best = min(((c, s) for c in constants for s in starts if s < 0), key=distance)
        widths = tuple(3 * width / _GRID for width in widths)
    constant, start = map(math.exp, best)
    return Calibration(resource, constant, start, from_runs=True)


def emergences(view: View) -> Emergences | None:
    """What a study of sparse parities shows; None of another study."""
    known = {run.id: restore(run.config)[0] for run in view.runs if not run.is_attached}
    parities = {run: task for run, task in known.items() if isinstance(task, SparseParity)}
    runs = [run for run in view.runs if run.id in parities]
    if not runs:
        return None
    varied = [name for name, field in FIELDS.items() if len({str(run.varied.get(field)) for run in runs}) > 1]
    resource: Resource = varied[0] if varied else "time"  # pyright: ignore[reportAssignmentType]  a key of FIELDS
    groups: defaultdict[tuple[str, int], list[PlannedRun]] = defaultdict(list)
    for run in runs:
        task = parities[run.id].model_copy(update={"train_size": 0})
        groups[task.model_dump_json(), run.seed].append(run)
    found = []
    for (_, seed), ours in groups.items():
        of_one = _over_time(view, ours, parities[ours[0].id], seed) if resource == "time" else None
        of_one = of_one or _at_ends(view, ours, parities[ours[0].id], seed, resource)
        found += [of_one] if of_one is not None else []
    return Emergences(
        resource,
        [each for each in found if each.task.skills > 1],
        [each for each in found if each.task.skills == 1],
    )


def _over_time(view: View, runs: list[PlannedRun], task: SparseParity, seed: int) -> Emergence | None:
    curves = [view.curve(runs[0], "test", f"strength_{k + 1}", None) for k in range(task.skills)]
    if not curves or curves[0].empty:
        return None
    rate = runs[0].config["optimiser"]["lr"]
    shares = np.stack([column(curve, "value") for curve in curves], 1)
    return Emergence(seed, task, rate * column(curves[0], "step"), shares)


def _at_ends(view: View, runs: list[PlannedRun], task: SparseParity, seed: int, resource: str) -> Emergence | None:
    rows: dict[float, list[float]] = {}
    for run in runs:
        curves = [column(view.curve(run, "test", f"strength_{k + 1}", None), "value") for k in range(task.skills)]
        if resource in FIELDS and all(curve.size for curve in curves):
            rows[float(run.varied[FIELDS[resource]])] = [float(curve[-1]) for curve in curves]
    if len(rows) < 2:
        return None
    amounts = sorted(rows)
    return Emergence(seed, task, np.array(amounts), np.array([rows[amount] for amount in amounts]))
