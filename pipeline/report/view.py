"""What the report reads of a study, loaded once: planned probes only, one position on the x axis per row."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from pipeline import tables
from pipeline.storage import Storage
from pipeline.store import Store

SPLITS = ("test", "train", "stages")  # in the order of the figures' rows; the last are states of games
EPISODES = "episodes"  # in the history of runs that play: how many have ended


@dataclass(frozen=True)
class Kernel:
    """How a tangent kernel was taken: output treatment, number of draws, points per draw, seed of the draws, and of
    which part of the outputs, if not of all."""

    outputs: str
    draws: int
    size: int
    seed: int
    part: str | None = None

    def __str__(self) -> str:
        whose = f"{self.part}, " if self.part else ""
        draws = f"{self.draws} draw{'s' * (self.draws != 1)}"
        return f"{whose}{self.outputs} outputs, {draws} of {self.size} points"


def where(frame: pd.DataFrame, **equal: Any) -> pd.DataFrame:
    """The rows in which every column named has the value given."""
    keep = np.ones(len(frame), dtype=bool)
    for column, value in equal.items():
        keep &= np.asarray(frame[column] == value, dtype=bool)
    return frame.take(np.flatnonzero(keep).tolist())


def by(frame: pd.DataFrame, columns: str | list[str]) -> Mapping[Any, pd.DataFrame]:
    """The rows of each value of a column, or of each tuple of values of several; none for what does not occur.

    Taken apart once: a study may have hundreds of runs.
    """
    found: defaultdict[Any, pd.DataFrame] = defaultdict(lambda: frame.iloc[:0])
    found.update((key, rows) for key, rows in frame.groupby(columns, sort=False))
    return found


def column(frame: pd.DataFrame, name: str) -> np.ndarray:
    """A column as floats [rows], NaN for what is absent or infinite."""
    values = np.array(frame[name], dtype=float)
    values[np.isinf(values)] = np.nan
    return values


class View:
    """One study as it stands on storage. Every frame has the column `x`: epoch or step, as the study's report asks."""

    def __init__(self, storage: Storage) -> None:
        self.store = store = Store(storage)
        self.plan, self.name, self.varied, self.runs = store.plan, store.name, store.varied, store.runs
        self.outcomes = store.outcomes()
        self.provenance = store.provenance()
        try:
            self.yaml: str | None = store.study_yaml()
        except FileNotFoundError:
            self.yaml = None
        self.probes = store.probes
        measurements = store.measurements()
        planned = [str(probe) in self.probes for probe in measurements["probe"]]
        measurements = measurements.take(np.flatnonzero(planned).tolist())
        self.measurements = measurements.assign(kernel=[self.kernel_of(str(p)) for p in measurements["probe"]])
        self.history = store.history()
        self.snapshots = store.snapshots()
        options = self.plan.get("report") or {}
        epochs = [frame["epoch"].notna() for frame in (self.measurements, self.history)]
        # Reinforcement learning has no epochs: its steps are the only time there is.
        self.x = "epoch" if options.get("x", "epoch") == "epoch" and any(known.any() for known in epochs) else "step"
        self.log_x = bool(options.get("log_x", False))
        if options.get("x") == "episode" and EPISODES in set(self.history["variable"]):
            self.x = "episode"
        for frame in (self.measurements, self.history):
            frame["x"] = self._positions(frame)
        self._curves: dict[tuple[str, str, str, Kernel | None], pd.DataFrame] = {}

    def _positions(self, frame: pd.DataFrame) -> Any:
        """Where the rows stand on the x axis."""
        return self._episodes(frame) if self.x == "episode" else frame[self.x]

    def _episodes(self, frame: pd.DataFrame) -> np.ndarray:
        """How many episodes had ended at the step of each row; NaN beyond what is known."""
        known = where(self.history, split="train", variable=EPISODES)
        found = np.full(len(frame), np.nan)
        for run, rows in known.groupby("run"):
            ours = np.flatnonzero(frame["run"] == run)
            steps, episodes = (column(rows, name) for name in ("step", "value"))
            order = np.argsort(steps)
            at = column(frame, "step")[ours]
            found[ours] = np.interp(at, steps[order], episodes[order], right=np.nan)
        return found

    @cached_property
    def measured(self) -> pd.DataFrame:
        """The measurements that did not fail; their values may still not be finite."""
        return where(self.measurements, state="measured")

    @cached_property
    def numbers(self) -> pd.DataFrame:
        """Those of the measurements that are numbers, as profiles are not."""
        return self.measured.loc[~tables.without_number(self.measured)]

    @cached_property
    def _numbers_by(self) -> Mapping[tuple[str, str, str], pd.DataFrame]:
        return by(self.numbers, ["run", "split", "variable"])

    @cached_property
    def _history_by(self) -> Mapping[tuple[str, str, str], pd.DataFrame]:
        return by(self.history, ["run", "split", "variable"])

    @cached_property
    def begun(self) -> set[str]:
        """The runs of which anything is on storage."""
        return {
            str(run) for frame in (self.snapshots, self.history, self.measurements) for run in frame["run"].unique()
        }

    @cached_property
    def history_of(self) -> Mapping[str, pd.DataFrame]:
        """The history of each run."""
        return by(self.history, "run")

    @cached_property
    def snapshots_of(self) -> Mapping[str, pd.DataFrame]:
        """The snapshots of each run."""
        return by(self.snapshots, "run")

    def profile(self, runs: Sequence[dict[str, Any]], split: str, variable: str, kernel: Kernel) -> pd.DataFrame:
        """All draws of a variable that is a profile, in order of step: columns ``run, step, draw, x, values``."""
        rows = where(self._profiles, split=split, variable=variable, kernel=kernel)
        of_runs = rows["run"].isin([run["run"] for run in runs])
        return rows.loc[of_runs].sort_values(["run", "step", "draw"])[["run", "step", "draw", "x", "values"]]

    @cached_property
    def _profiles(self) -> pd.DataFrame:
        rows = self.store.profiles()
        rows = rows.loc[rows["probe"].isin(list(self.probes))]
        return rows.assign(kernel=[self.kernel_of(str(probe)) for probe in rows["probe"]], x=self._positions(rows))

    @cached_property
    def failed(self) -> pd.DataFrame:
        """The measurements that failed by themselves or after three tries."""
        return where(self.measurements, state="failed")

    def kernel_of(self, probe: str) -> Kernel:
        """How a probe's kernel was taken: what its values may be compared across."""
        how = self.probes[probe]
        return Kernel(how["outputs"], how["draws"], how["size"], how["seed"], how.get("part"))

    def _of_kernel(self, kernel: Kernel) -> set[str]:
        return {probe for probe in self.probes if self.kernel_of(probe) == kernel}

    def kernels(self, variable: str, split: str | None = None) -> list[Kernel]:
        """The kernels on which a variable is to be measured, in the plan's order; of all splits unless one is given."""
        of_split = (probe for probe, how in self.probes.items() if split in (None, how["split"]))
        ids = [probe for probe in of_split if variable in self.probes[probe]["variables"]]
        return list(dict.fromkeys(self.kernel_of(probe) for probe in ids))

    @cached_property
    def networks(self) -> dict[tuple[str, ...], list[dict[str, Any]]]:
        """The runs that differ by their seed only, by what is varied, e.g. ``("width=8",)``."""
        found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for run in self.runs:
            parts = tuple(f"{self.short(field)}={value_label(run['varied'][field])}" for field in self.varied)
            found.setdefault(parts, []).append(run)
        return found

    @cached_property
    def score(self) -> str:
        """The name of the runs' score, ``score`` if they have different ones."""
        names = {run.get("score") for run in self.runs}
        return str(names.pop() or "score") if len(names) == 1 else "score"

    def curve(self, run: dict[str, Any], split: str, variable: str, kernel: Kernel | None) -> pd.DataFrame:
        """One run's values of one variable in order of step: columns ``step, x, value, stderr``.

        A planned step without a measurement stands there with NaN up to the last measured step, so that a line drawn
        through the curve breaks at it. `kernel` is None for loss and score, which have no planned steps.
        """
        key = run["run"], split, variable, kernel  # figures and tables ask for the same ones
        if key not in self._curves:
            self._curves[key] = self._curve(run, split, variable, kernel)
        return self._curves[key]

    def _curve(self, run: dict[str, Any], split: str, variable: str, kernel: Kernel | None) -> pd.DataFrame:
        if kernel is None:
            name = run.get("score") if variable == "score" else variable
            rows = self._history_by[run["run"], split, str(name)].assign(stderr=np.nan)
        else:
            rows = where(self._numbers_by[run["run"], split, variable], kernel=kernel)
        if rows.empty:
            return pd.DataFrame(columns=["step", "x", "value", "stderr"], dtype=float)
        rows = rows.drop_duplicates(subset=["step"]).set_index("step").sort_index()
        curve = pd.DataFrame({name: column(rows, name) for name in ("x", "value", "stderr")}, index=rows.index)
        if kernel is not None:
            ours = {probe for probe, how in self.probes.items() if how["split"] == split} & self._of_kernel(kernel)
            planned = [step for step, probes in self.store.wanted(run).items() if not ours.isdisjoint(probes)]
            curve = curve.reindex(sorted({*(step for step in planned if step <= curve.index[-1]), *curve.index}))
        return curve.rename_axis("step").reset_index()

    def short(self, field: str) -> str:
        """A varied field by its last part, e.g. ``width`` for ``model.width``, where that is unique."""
        return self.store.short(field)


def value_label(value: Any) -> str:
    """A config value as it stands in legends and file names."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict) and "name" in value:  # a part, such as an optimiser, by its name and fields
        fields = [f"{key}={value_label(field)}" for key, field in value.items() if key != "name"]
        return ",".join([value_label(value["name"]), *fields])
    return json.dumps(value, separators=(",", ":"), default=str)
