"""Networks of several sizes, an ensemble of seeds each: what power laws in the size are fitted to."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from tangentscope.pipeline.report.derived.rows import Row
from tangentscope.pipeline.report.view import Kernel, View, column, value_label
from tangentscope.pipeline.store.planned import PlannedRun
from tangentscope.probes.trajectories.adaptation import derivatives

WINDOW = 20  # epochs that an adaptation rate is averaged over (BSC App. B.4)
WIDTHS = ("model.width", "model.dim", "model.hidden")
POINTS = ("task.train_size", "task.per_class")
MEMBERS = "task.data_seed"  # another draw of the data makes another member of an ensemble, as another seed does
RATE = "optimiser.lr"


@dataclass(frozen=True)
class Ensemble:
    """Networks that differ in their size, and by seed or draw of the data.

    Attributes:
        field: What the size is.
        others: What else is varied, and here held fixed, e.g. ``task=mnist``.
        sizes: Ascending.
        members: Names of the seeds, in the order of rows; only those that are there at every size planned.
        runs: Of each size, a run a member.
    """

    field: str
    others: tuple[str, ...]
    sizes: Float64[np.ndarray, " sizes"]
    members: tuple[str, ...]
    runs: tuple[tuple[PlannedRun, ...], ...]

    @property
    def label(self) -> str:
        """What is held fixed, as rows name networks."""
        return ", ".join(self.others)

    @property
    def by_width(self) -> bool:
        """Whether the size is the networks', and not that of the data."""
        return self.field in WIDTHS

    def values(self, rows: Sequence[Row], quantity: str) -> Float64[np.ndarray, "members sizes"]:
        """A derived quantity of the runs; NaN where a run has none, as one that is not finished."""
        of_runs = {row.run: row.value for row in rows if row.quantity == quantity and row.run is not None}
        return np.array([[of_runs.get(run.id, math.nan) for run in runs] for runs in self.runs]).T


def ensembles(view: View) -> list[Ensemble]:
    """Of every number that sizes are, those that a study varies, one for each combination of what else is varied."""
    found: list[Ensemble] = []
    for field in (*WIDTHS, *POINTS):
        if field not in view.varied or not all(type(run.varied[field]) in (int, float) for run in view.runs):
            continue
        beside = {field, MEMBERS, *([RATE] if _follows(view) else [])}
        fixed = [name for name in view.varied if name not in beside]
        groups: dict[tuple[str, ...], list[PlannedRun]] = {}
        for run in view.runs:
            others = tuple(f"{view.short(name)}={value_label(run.varied[name])}" for name in fixed)
            groups.setdefault(others, []).append(run)
        for others, runs in groups.items():
            sizes = sorted({run.varied[field] for run in runs})
            if len(sizes) > 1:
                found.append(_ensemble(field, others, sizes, runs))
    return found


def _follows(view: View) -> bool:
    """Whether the learning rate is chosen for each network, so that two never differ in it alone."""
    rates: dict[tuple[str, ...], set[str]] = {}
    for run in view.runs:
        network = tuple(value_label(value) for name, value in run.varied.items() if name != RATE)
        rates.setdefault(network, set()).add(value_label(run.varied.get(RATE)))
    return all(len(found) == 1 for found in rates.values())


def _ensemble(field: str, others: tuple[str, ...], sizes: list[float], runs: Sequence[PlannedRun]) -> Ensemble:
    at = {(run.varied[field], _member(run)): run for run in runs}
    members = [name for name in dict.fromkeys(map(_member, runs)) if all((size, name) in at for size in sizes)]
    by_size = tuple(tuple(at[size, name] for name in members) for size in sizes)
    return Ensemble(field, others, np.array(sizes, dtype=np.float64), tuple(members), by_size)


def _member(run: PlannedRun) -> str:
    return f"seed={run.seed}" + (f" data_seed={run.varied[MEMBERS]}" if MEMBERS in run.varied else "")


@dataclass(frozen=True)
class Curves:
    """Trace and losses of an ensemble's runs of one size at the steps that all of them have."""

    epochs: Float64[np.ndarray, " steps"]
    trace: Float64[np.ndarray, "members steps"]
    train: Float64[np.ndarray, "members steps"]
    test: Float64[np.ndarray, "members steps"]

    @property
    def best(self) -> int:
        """Where the mean test loss is least."""
        return int(np.argmin(self.test.mean(0)))


def curves(view: View, runs: Sequence[PlannedRun], split: str, kernel: Kernel) -> Curves | None:
    """None where fewer than two steps are common to all, or a loss is not finite."""
    found = [trace_and_losses(view, run, split, kernel) for run in runs]
    steps = sorted(set.intersection(*(set(each) for each in found))) if found else []
    if len(steps) < 2 or not (lasting := runs[0].epoch_steps):
        return None
    stacked = np.array([[each[step] for step in steps] for each in found])  # [members, steps, (trace, train, test)]
    if not np.isfinite(stacked).all():
        return None
    return Curves(np.array(steps) / lasting, *np.moveaxis(stacked, 2, 0))


def trace_and_losses(view: View, run: PlannedRun, split: str, kernel: Kernel) -> dict[int, tuple[float, float, float]]:
    """Trace, train and test loss of a run, by step; NaN for a test loss that was not taken."""
    trace = view.curve(run, split, "trace", kernel)
    train, test = (view.curve(run, name, "loss", None) for name in ("train", "test"))
    of_train, of_test = (dict(zip(curve["step"], column(curve, "value"), strict=True)) for curve in (train, test))
    values = zip(trace["step"], column(trace, "value"), strict=True)
    return {
        int(step): (float(value), float(of_train[step]), float(of_test.get(step, math.nan)))
        for step, value in values
        if step in of_train
    }


LogMeans = Callable[[Int64[np.ndarray, "draws members"]], Float64[np.ndarray, "draws sizes"]]


def log_rates(by_size: Sequence[Curves | None]) -> LogMeans:
    """ln of the adaptation rate at the least mean test loss (BSC eq. 4, §4), of rows of members' places.

    The rate is one of members together; NaN where it is not positive, and at sizes of which there are no curves.
    """
    slopes = []
    for each in by_size:
        if each is None:
            slopes.append(None)
            continue
        of_trace, of_logs = derivatives(each.epochs, each.trace, each.train, WINDOW)
        slopes.append((of_trace[:, each.best], of_logs[:, each.best]))

    def means(draws: Int64[np.ndarray, "draws members"]) -> Float64[np.ndarray, "draws sizes"]:
        columns = []
        for each in slopes:
            if each is None or not draws.shape[1]:  # of a single member there is none without it
                columns.append(np.full(len(draws), np.nan))
                continue
            with np.errstate(divide="ignore", invalid="ignore"):
                rate = -each[0][draws].mean(1) / each[1][draws].mean(1)
                columns.append(np.where(rate > 0, np.log(np.abs(rate)), np.nan))
        return np.stack(columns, 1)

    return means


Quantities = Mapping[str, Float64[np.ndarray, "members sizes"]]
