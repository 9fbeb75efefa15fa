"""What the report reads of a study, loaded once: planned probes only, one position on the x axis per row."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import pandas as pd

from tangentscope.pipeline.store import tables
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.planned import PlannedRun
from tangentscope.pipeline.store.reader import Store

SPLITS = ("test", "train", "stages")  # in the order of the figures' rows; the last are states of games
# What is read of each table: a large study's other columns are most of it.
_HISTORY = ("run", "step", "epoch", "split", "variable", "value", "recorded_at")
_KERNELS = ("run", "step", "epoch", "split", "probe", "variable")
_MEASUREMENTS = (*_KERNELS, "value", "stderr", "state", "cause", "length", "compared_with")
_MEASUREMENTS = (*_MEASUREMENTS, "probe_seconds", "lag_seconds", "recorded_at")
_PROFILES = (*_KERNELS, "draw", "values")
_SNAPSHOTS = ("run", "step", "bytes", "copy_seconds", "wait_seconds")
_CURVE = ("x", "value", "stderr")
EPISODES = "episodes"  # in the history of runs that play: how many have ended


@dataclass(frozen=True)
class Kernel:
    """How a tangent kernel was taken: output treatment, number of draws, points per draw, seed of the draws, and of
    which part of the outputs, if not of all. Of features: `size` points to learn from, and `held_out` ones."""

    outputs: str
    draws: int
    size: int
    seed: int
    part: str | None = None
    held_out: int = 0

    def __str__(self) -> str:
        if self.held_out:
            return f"features, {self.size:,} points to learn from and {self.held_out:,} held out"
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


@dataclass(frozen=True)
class _Curves:
    """Numbers of many curves in order of step, and the places of each. A large study has tens of thousands."""

    places: Mapping[tuple[Any, ...], np.ndarray]
    columns: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, frame: pd.DataFrame, keys: list[str]) -> "_Curves":
        # Rows come sorted by run and step.
        columns = {name: column(frame, name) if name in frame else np.full(len(frame), np.nan) for name in _CURVE}
        places = frame.groupby(keys, sort=False, observed=True).indices
        return cls(cast(Mapping[tuple[Any, ...], np.ndarray], places), {"step": np.asarray(frame["step"]), **columns})

    def curve(self, *key: Any) -> pd.DataFrame:
        """Columns ``step, x, value, stderr``; one row a step."""
        places = self.places.get(key, np.empty(0, dtype=int))
        _, first = np.unique(self.columns["step"][places], return_index=True)
        places = places[first]
        return pd.DataFrame({name: values[places] for name, values in self.columns.items()})


class View:
    """One study as it stands on storage. Every frame has the column `x`: epoch or step, as the study's report asks.

    Args:
        storage: The study's.
        options: What the report shows and how, in place of what the plan says.
    """

    def __init__(self, storage: Storage, options: Mapping[str, Any] | None = None) -> None:
        self.store = store = Store(storage)
        self.plan, self.name, self.varied, self.runs = store.plan, store.name, store.varied, store.runs
        self.outcomes = store.outcomes()
        self.provenance = store.provenance()
        try:
            self.yaml: str | None = store.study_yaml()
        except FileNotFoundError:
            self.yaml = None
        self.probes = store.probes
        self.faults = [fault for table in ("spectra", "profiles") for fault in store.faults(table)]
        self.measurements = self._planned("measurements", _MEASUREMENTS)
        self.history = self._table("history", _HISTORY)
        self.snapshots = self._table("snapshots", _SNAPSHOTS)
        self.options: Mapping[str, Any] = (self.plan.report or {}) if options is None else options
        epochs = [frame["epoch"].notna() for frame in (self.measurements, self.history)]
        # Reinforcement learning has no epochs: its steps are the only time there is.
        self.x = (
            "epoch" if self.options.get("x", "epoch") == "epoch" and any(known.any() for known in epochs) else "step"
        )
        self.log_x = bool(self.options.get("log_x", False))
        if self.options.get("x") == "episode" and EPISODES in set(self.history["variable"]):
            self.x = "episode"
        for frame in (self.measurements, self.history):
            frame["x"] = self._positions(frame)
        self._curves: dict[tuple[str, str, str, Kernel | None], pd.DataFrame] = {}
        self._steps: dict[tuple[str, str, Kernel], list[int]] = {}

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
    def _numbers_by(self) -> "_Curves":
        return _Curves.of(self.numbers, ["run", "split", "variable", "kernel"])

    @cached_property
    def _history_by(self) -> "_Curves":
        return _Curves.of(self.history, ["run", "split", "variable"])

    @cached_property
    def runs_with(self) -> Mapping[tuple[str, Kernel], set[str]]:
        """The runs of which there are numbers, by variable and kernel."""
        runs: defaultdict[tuple[str, Kernel], set[str]] = defaultdict(set)
        for run, _, variable, kernel in self._numbers_by.places:
            runs[variable, kernel].add(run)
        return runs

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

    def profile(self, runs: Sequence[PlannedRun], split: str, variable: str, kernel: Kernel) -> pd.DataFrame:
        """All draws of a variable that is a profile, in order of step: columns ``run, step, draw, x, values``."""
        rows = where(self._profiles, split=split, variable=variable, kernel=kernel)
        of_runs = rows["run"].isin([run.id for run in runs])
        return rows.loc[of_runs].sort_values(["run", "step", "draw"])[["run", "step", "draw", "x", "values"]]

    @cached_property
    def _profiles(self) -> pd.DataFrame:
        rows = self._planned("profiles", _PROFILES)
        return rows.assign(x=self._positions(rows))

    def _table(self, table: str, columns: Sequence[str]) -> pd.DataFrame:
        read = self.store.table(table, columns)
        self.faults += [fault for fault in read.faults if fault not in self.faults]
        return read.frame

    def _planned(self, table: str, columns: Sequence[str]) -> pd.DataFrame:
        """The rows of a table that are of the plan's probes, with the kernel of each."""
        rows = self._table(table, columns)
        rows = rows.loc[rows["probe"].isin(list(self.probes))].reset_index(drop=True)
        kernels = {probe: self.kernel_of(probe) for probe in self.probes}
        kinds = list(dict.fromkeys(kernels.values()))
        codes = rows["probe"].map({probe: kinds.index(kernel) for probe, kernel in kernels.items()})
        return rows.assign(kernel=pd.Categorical.from_codes(codes.astype(int), categories=kinds))

    @cached_property
    def failed(self) -> pd.DataFrame:
        """The measurements that failed by themselves or after three tries, or were interrupted."""
        return self.measurements.loc[self.measurements["state"] != "measured"]

    def kernel_of(self, probe: str) -> Kernel:
        """How a probe's kernel was taken: what its values may be compared across."""
        how = self.probes[probe]
        return Kernel(how.outputs, how.draws, how.size, how.seed, how.part, how.held_out)

    def _of_kernel(self, kernel: Kernel) -> set[str]:
        return {probe for probe in self.probes if self.kernel_of(probe) == kernel}

    def kernels(self, variable: str, split: str | None = None) -> list[Kernel]:
        """The kernels on which a variable is to be measured, in the plan's order; of all splits unless one is given."""
        of_split = (probe for probe, how in self.probes.items() if split in (None, how.split))
        ids = [probe for probe in of_split if variable in self.probes[probe].variables]
        return list(dict.fromkeys(self.kernel_of(probe) for probe in ids))

    @cached_property
    def networks(self) -> dict[tuple[str, ...], list[PlannedRun]]:
        """The runs that differ by their seed only, by what is varied, e.g. ``("width=8",)``."""
        found: dict[tuple[str, ...], list[PlannedRun]] = {}
        for run in self.runs:
            parts = tuple(f"{self.short(field)}={value_label(run.varied[field])}" for field in self.varied)
            found.setdefault(parts, []).append(run)
        return found

    @cached_property
    def score(self) -> str:
        """The name of the runs' score, ``score`` if they have different ones."""
        names = {run.score for run in self.runs}
        return str(names.pop() or "score") if len(names) == 1 else "score"

    def curve(self, run: PlannedRun, split: str, variable: str, kernel: Kernel | None) -> pd.DataFrame:
        """One run's values of one variable in order of step: columns ``step, x, value, stderr``.

        A planned step without a measurement stands there with NaN up to the last measured step, so that a line drawn
        through the curve breaks at it. `kernel` is None for loss and score, which have no planned steps.
        """
        key = run.id, split, variable, kernel  # figures and tables ask for the same ones
        if key not in self._curves:
            self._curves[key] = self._curve(run, split, variable, kernel)
        return self._curves[key]

    def _curve(self, run: PlannedRun, split: str, variable: str, kernel: Kernel | None) -> pd.DataFrame:
        if kernel is None:
            name = run.score if variable == "score" else variable
            curve = self._history_by.curve(run.id, split, str(name))
        else:
            curve = self._numbers_by.curve(run.id, split, variable, kernel)
        if curve.empty or kernel is None:
            return curve
        last = curve["step"].iloc[-1]
        planned = [step for step in self._planned_steps(run, split, kernel) if step <= last]
        if planned == curve["step"].tolist():
            return curve
        steps = sorted({*planned, *curve["step"]})
        return curve.set_index("step").reindex(steps).rename_axis("step").reset_index()

    def _planned_steps(self, run: PlannedRun, split: str, kernel: Kernel) -> list[int]:
        key = run.id, split, kernel
        if key not in self._steps:
            ours = {probe for probe, how in self.probes.items() if how.split == split} & self._of_kernel(kernel)
            wanted = self.store.wanted(run)
            self._steps[key] = [step for step, probes in wanted.items() if not ours.isdisjoint(probes)]
        return self._steps[key]

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
