"""What the report's tables say of each run: where it came from and ended up, what it cost, and what is not there."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import cast

import numpy as np
import pandas as pd

from tangentscope.pipeline.report.view import SPLITS, Kernel, View, by, column, value_label, where
from tangentscope.pipeline.store.planned import PlannedRun
from tangentscope.probes.trajectories.curves import Regime, learning_regime


@dataclass(frozen=True)
class RunRow:
    """One run's state and results. Entropies in nats; None where there is no number."""

    run: str
    name: str
    state: str
    parameters: int | None
    steps: int
    reached: int | None
    loss: dict[str, float | None]
    score: dict[str, float | None]
    regime: Regime | None
    trace_start: float | None
    trace_end: float | None
    chosen: "Chosen | None"


@dataclass(frozen=True)
class Chosen:
    """A run's scores where that of the validation points was best, for the first time.

    Args:
        at: epoch or step, as on the report's x axis.
        valid: the best score.
        test: the test points' score there; None where there is none.
    """

    at: float
    valid: float
    test: float | None


@dataclass(frozen=True)
class CostRow:
    """What one run cost. Times in seconds, memory in bytes; None where there is no number."""

    name: str
    wall: float | None
    training: float | None
    snapshots: int
    copy_median: float | None
    copy_max: float | None
    copy_total: float | None
    wait_total: float | None
    written: float
    peak_memory: int | None
    probing: float

    @property
    def copy_share(self) -> float | None:
        """Time held up by copies as a share of the time spent in optimisation steps."""
        return self.copy_total / self.training if self.training and self.copy_total is not None else None

    @property
    def wait_share(self) -> float | None:
        """Time held up waiting for storage as a share of the time spent in optimisation steps."""
        return self.wait_total / self.training if self.training and self.wait_total is not None else None


@dataclass(frozen=True)
class Gap:
    """Values of one variable that are there and are not finite: they diverged. Drawn as gaps."""

    name: str
    what: str
    count: int
    of: int
    first_step: int


@dataclass(frozen=True)
class Failure:
    """Measurements of one variable that failed after three tries for one cause, between two steps."""

    name: str
    what: str
    cause: str
    count: int
    first_step: int
    last_step: int


def state(view: View, run: str) -> str:
    """``finished``, ``failed``, ``under way`` (something is on storage, no outcome yet) or ``not started``."""
    if run in view.outcomes:
        return view.outcomes[run].state
    return "under way" if run in view.begun else "not started"


def results_on(view: View) -> tuple[str, Kernel] | None:
    """Split and kernel that the run table's entropy and trace are from: test before train, the plan's first kernel."""
    ways = [(how.split, view.kernel_of(probe)) for probe, how in view.probes.items() if "entropy" in how.variables]
    ways = ways or [(how.split, view.kernel_of(probe)) for probe, how in view.probes.items()]
    return min(ways, key=lambda way: SPLITS.index(way[0]) if way[0] in SPLITS else len(SPLITS), default=None)


def run_rows(view: View) -> list[RunRow]:
    """A row per planned run, measured or not."""
    return [_run_row(view, run) for run in view.runs]


def runs_csv(view: View) -> str:
    """What the tables of runs and of costs say, a line a run, as CSV."""
    costs = {row.name: row for row in cost_rows(view)}
    records = []
    for row in run_rows(view):
        flat = {"run": row.run, "name": row.name, "state": row.state, "parameters": row.parameters}
        flat |= {"steps": row.steps, "reached": row.reached}
        flat |= {f"loss_{split}": value for split, value in row.loss.items()}
        flat |= {f"score_{split}": value for split, value in row.score.items()}
        flat |= {"trace_start": row.trace_start, "trace_end": row.trace_end}
        if row.regime:
            flat |= {"entropy_start": row.regime.start, "entropy_minimum": row.regime.minimum}
            flat |= {"entropy_end": row.regime.end, "regime": row.regime.label}
        if row.name in costs:
            flat |= {name: value for name, value in asdict(costs[row.name]).items() if name != "name"}
        records.append(flat)
    return pd.DataFrame(records).to_csv(index=False)


def _run_row(view: View, run: PlannedRun) -> RunRow:
    way = results_on(view)
    entropy, trace = (view.curve(run, way[0], name, way[1]) if way else pd.DataFrame() for name in ("entropy", "trace"))
    steps = column(view.history_of[run.id], "step")
    return RunRow(
        run=run.id,
        name=run.name,
        state=state(view, run.id),
        parameters=run.parameters,
        steps=run.steps,
        reached=int(steps.max()) if steps.size else None,
        loss={split: _last(view.curve(run, split, "loss", None)) for split in SPLITS},
        score={split: _last(view.curve(run, split, "score", None)) for split in SPLITS},
        regime=_regime(entropy),
        trace_start=_initial(trace),
        trace_end=_last(trace),
        chosen=_chosen(view, run),
    )


def _chosen(view: View, run: PlannedRun) -> Chosen | None:
    """None without validation points, or if none of their scores is a number."""
    valid, test = (view.curve(run, split, "score", None) for split in ("valid", "test"))
    scores = column(valid, "value")
    if not np.isfinite(scores).any():
        return None
    best = valid.iloc[int(np.nanargmax(scores))]
    there = column(where(test, step=best["step"]), "value")
    return Chosen(float(best["x"]), float(best["value"]), float(there[0]) if there.size else None)


def chosen_scores(view: View, rows: list[RunRow]) -> dict[str, tuple[float, float | None, int]]:
    """Of finished runs, by what is varied: mean and deviation over seeds of the test scores chosen, and how many.

    The standard deviation of one is None.
    """
    scores: dict[str, list[float]] = {}
    for run, row in zip(view.runs, rows, strict=True):
        if row.state == "finished" and row.chosen and row.chosen.test is not None:
            varied = " ".join(f"{view.short(key)}={value_label(value)}" for key, value in run.varied.items())
            scores.setdefault(varied, []).append(row.chosen.test)
    return {
        name: (float(np.mean(found)), float(np.std(found, ddof=1)) if len(found) > 1 else None, len(found))
        for name, found in scores.items()
    }


def _regime(entropy: pd.DataFrame) -> Regime | None:
    """The regime of an entropy curve, None if it does not begin at initialisation."""
    if _initial(entropy) is None:
        return None
    return learning_regime(column(entropy, "value"), column(entropy, "stderr"))


def _initial(curve: pd.DataFrame) -> float | None:
    """The value at step 0, None if the curve does not begin there."""
    return float(column(curve, "value")[0]) if len(curve) and column(curve, "step")[0] == 0 else None


def _last(curve: pd.DataFrame) -> float | None:
    """The last value, NaN if it is not finite: an earlier one would hide that training diverged."""
    return float(column(curve, "value")[-1]) if len(curve) else None


def cost_rows(view: View) -> list[CostRow]:
    """A row per run of which anything is on storage."""
    probed = by(probings(view), "run")
    return [_cost_row(view, run, probed) for run in view.runs if state(view, run.id) != "not started"]


def _cost_row(view: View, run: PlannedRun, probed: Mapping[str, pd.DataFrame]) -> CostRow:
    outcome = view.outcomes.get(run.id)
    taken = view.snapshots_of[run.id]
    copies = column(taken, "copy_seconds")
    # The outcome has the totals; while there is none, the snapshots taken so far add up to them.
    copied, waited = (outcome.copy_seconds, outcome.wait_seconds) if outcome else (None, None)
    return CostRow(
        name=run.name,
        wall=outcome and outcome.seconds,
        training=outcome and outcome.training_seconds,
        snapshots=len(taken) or (outcome and outcome.snapshots) or 0,
        copy_median=float(np.nanmedian(copies)) if copies.size else None,
        copy_max=float(np.nanmax(copies)) if copies.size else None,
        copy_total=float(np.nansum(copies)) if copied is None else copied,
        wait_total=float(np.nansum(column(taken, "wait_seconds"))) if waited is None else waited,
        written=float(np.nansum(column(taken, "bytes"))),
        peak_memory=outcome and outcome.peak_memory,
        probing=float(np.nansum(column(probed[run.id], "probe_seconds"))),
    )


def probings(view: View) -> pd.DataFrame:
    """A row per (run, step, probe): its variables share one kernel, so they share its seconds and its lag."""
    longest = pd.DataFrame(view.measured[["run", "step", "probe", "lag_seconds", "probe_seconds"]])
    longest = longest.sort_values(by=["lag_seconds"], kind="stable")
    return longest.drop_duplicates(subset=["run", "step", "probe"], keep="last")


def lags(view: View) -> dict[str, float] | None:
    """Seconds from a snapshot being taken to its measurement being done: median, 90th percentile, maximum."""
    seconds = column(probings(view), "lag_seconds")
    seconds = seconds[np.isfinite(seconds)]
    if not seconds.size:
        return None
    median, p90, most = np.quantile(seconds, [0.5, 0.9, 1.0]).tolist()
    return {"median": median, "p90": p90, "max": most, "count": seconds.size}


def gaps(view: View) -> list[Gap]:
    """Where measured values, losses or scores are not finite."""
    names = {run.id: run.name for run in view.runs}
    found = []
    for frame in (view.numbers, view.history):
        keys = ["run", "split", "variable"]
        bad = frame.loc[np.isnan(column(frame, "value"))]
        sizes = {key: len(rows) for key, rows in frame.groupby(keys, sort=False)} if len(bad) else {}
        for key, rows in bad.groupby(keys, sort=False):
            run, split, variable = cast(tuple[str, str, str], key)
            what = f"{variable.replace('_', ' ')}, {split}"
            found.append(Gap(names[run], what, len(rows), sizes[key], int(column(rows, "step").min())))
    return found


def planned_measurements(view: View) -> int:
    """How many measurements the plan asks for: every step, probe and variable of every run."""
    by_step = (probes for run in view.runs for probes in view.store.wanted(run).values())
    return sum(len(variables) for probes in by_step for variables in probes.values())


def failed_measurements(view: View) -> list[Failure]:
    """Failed measurements by run, variable, split and cause."""
    names = {run.id: run.name for run in view.runs}
    causes = view.failed.assign(cause=[cause or "no cause recorded" for cause in view.failed["cause"]])
    found = []
    for key, rows in causes.groupby(["run", "split", "variable", "cause"], sort=False):
        run, split, variable, cause = cast(tuple[str, str, str, str], key)
        steps = column(rows, "step").astype(int)
        what = f"{variable.replace('_', ' ')}, {split}"
        found.append(Failure(names[run], what, cause, len(rows), int(steps.min()), int(steps.max())))
    return found
