"""Reading a study: every table with one row a key, superseded trajectories left out, the varied fields joined."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from tangentscope.pipeline.config.naming import labels, short
from tangentscope.pipeline.store import layout, records, run_files, tables
from tangentscope.pipeline.store.compaction import compact
from tangentscope.pipeline.store.counts import Counts, counts
from tangentscope.pipeline.store.faults import Fault
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.integrity import table_faults
from tangentscope.pipeline.store.outcome import Outcome
from tangentscope.pipeline.store.plan import Plan, Wanted
from tangentscope.pipeline.store.planned import PlannedProbe, PlannedRun
from tangentscope.pipeline.store.tables import Parts
from tangentscope.pipeline.system.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn


_FIRST = ["study", "run", "task", "model", "seed", "step", "epoch", "split", "outputs", "variable", "value", "stderr"]
_FIRST += ["draws", "probe_seconds", "lag_seconds"]  # the first columns of measurements


_RECORDED = ("run", "step", "checksum", "probe", "variable", "version", "compared_with", "state")
_RECORDED += ("launch", "recorded_at")


class Store:
    """Read access to one study's storage. What it returns is what is on storage at the time of the call."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        plan = Plan.read(storage)
        if plan is None:
            raise UserError(f"{storage.uri}: no study here (no {layout.PLAN}); give the --out directory of a `run`")
        self.plan = plan
        if plan.schema > layout.SCHEMA:
            raise UserError(
                f"{storage.uri}: written by a newer tangentscope (schema {plan.schema}, this one reads up to "
                f"{layout.SCHEMA}); upgrade with pip install -U tangentscope"
            )

    @property
    def name(self) -> str:
        """The study's name."""
        return self.plan.study

    @property
    def varied(self) -> tuple[str, ...]:
        """The config fields that the study varies, e.g. ``model.width``; the seed is not among them."""
        return self.plan.varied

    def short(self, field: str) -> str:
        """What a varied field is called in legends: its last part, e.g. ``width``, where that is unique."""
        return short(field, self.varied)

    @property
    def runs(self) -> tuple[PlannedRun, ...]:
        """The planned runs."""
        return self.plan.runs

    @property
    def probes(self) -> Mapping[str, PlannedProbe]:
        """The plan's probes by id, each with all variables that are wanted of it: the study's, then further ones."""
        return self.plan.every_probe

    def wanted(self, run: PlannedRun) -> Wanted:
        """What is to be measured of a planned run: by step, variables by probe."""
        return self.plan.wanted(run)

    def provenance(self) -> dict[str, Any]:
        """Versions, git commit, machine and data of the latest launch."""
        return records.read(self.storage, layout.PROVENANCE, "provenance", {})

    def study_yaml(self) -> str:
        """The study as it was resolved for the latest launch."""
        try:
            return self.storage.read(layout.STUDY).decode()
        except UnicodeDecodeError:
            mend = "remove it and `run` the study again, which writes it anew"
            raise UserError(f"{self.storage.path(layout.STUDY)}: damaged (not text); {mend}") from None

    def outcomes(self) -> dict[str, Outcome]:
        """How each ended run ended, and what it cost; runs that have not ended are missing."""
        found = {run.id: run_files.read_outcome(self.storage, run.id) for run in self.runs}
        return {run: outcome for run, outcome in found.items() if outcome is not None}

    def faults(self, table: str) -> list[Fault]:
        """What is wrong with a table, as manifests tell it; see :func:`pipeline.store.integrity.table_faults`."""
        return table_faults(self.storage, self.plan, table)

    def counts(self) -> dict[str, Counts]:
        """How many of the values planned for each run are there, by run; see :func:`pipeline.store.counts.counts`."""
        return counts(self.storage, self.plan)

    def measurements(self) -> pd.DataFrame:
        """One row per (run, step, probe, variable), measured or failed; what one looks for first comes first."""
        return self._table("measurements")

    def recorded(self) -> pd.DataFrame:
        """Which measurements there are, one row a key, and no values: what a ledger takes over."""
        return self.table("measurements", _RECORDED).frame

    def snapshot_names(self) -> dict[str, list[layout.SnapshotName]]:
        """The snapshots of each run's present trajectory, as `run_files.current_snapshots` has them."""
        return {run.id: run_files.current_snapshots(self.storage, run.id) for run in self.runs}

    def history(self) -> pd.DataFrame:
        """One row per (run, step, split, variable) with loss and score."""
        return self._table("history")

    def spectra(self) -> pd.DataFrame:
        """One row per (run, step, probe, draw) with the kernel's eigenvalues in descending order."""
        return self._table("spectra")

    def profiles(self) -> pd.DataFrame:
        """One row per (run, step, probe, draw, variable) with the numbers of a variable that is a profile."""
        return self._table("profiles")

    def snapshots(self) -> pd.DataFrame:
        """One row per snapshot with what it cost training."""
        return self._table("snapshots")

    def network(self, run: PlannedRun) -> "nn.Module":
        """A planned run's network in eval mode, for ``load_state_dict``; its parameters are of no account.

        Raises:
            UserError: A network from a loop of the user's own, which is not on storage.
        """
        if run.is_attached:
            raise UserError(f"run {run.name}: trained in a loop of your own; build its network there")
        from tangentscope.pipeline.config.components import build_network  # loads torch, which no table needs

        return build_network(run.config, *run.data.shapes).eval()

    def kept(self, run: str) -> list[layout.SnapshotName]:
        """The snapshots of a run whose parameters are still on storage, in order of step."""
        return [name for name in run_files.current_snapshots(self.storage, run) if not name.freed]

    def parameters(self, run: str, snapshot: layout.SnapshotName) -> dict[str, "Tensor"]:
        """Parameters and buffers of a snapshot that is kept."""
        from tangentscope.pipeline.store.snapshots import read_snapshot

        return read_snapshot(self.storage, run, snapshot)[0]

    def points(self, probe: str) -> dict[str, "Tensor"]:
        """The points of a probe, as `probing.points.draw_points` gave them; none before they are drawn."""
        from tangentscope.pipeline.store.points import read_points

        return read_points(self.storage, probe) if self.storage.exists(layout.points(probe)) else {}

    def parts_since(
        self, table: str, seen: set[str], columns: Sequence[str] | None = None
    ) -> tuple[pd.DataFrame, set[str]]:
        """Rows of the parts not in `seen`, one a key, and all parts there are: for followers such as the tracker.

        Args:
            table: Whose parts.
            seen: Their names.
            columns: Which are wanted at least; all by default.
        """
        columns = columns and _and_order(table, columns)
        for _ in range(5):
            names = set(tables.part_names(self.storage, table))
            try:
                fresh = tables.read_parts(self.storage, table, sorted(names - seen), columns).frame
            except FileNotFoundError:  # compacted meanwhile: the rows are in a new part
                continue
            return self._settle(table, fresh), names
        raise OSError(f"table {table} in {self.storage.uri} kept changing while it was read; try again")

    def publish(self, writer: str) -> None:
        """Compact every table and write it whole, varied fields joined, beside the report."""
        for table in tables.SCHEMAS:
            parts = tables.read_parts(self.storage, table)
            compact(self.storage, table, self._dedupe(table, parts.frame), parts.names, writer)
            whole = self._table(table)
            self.storage.write(f"{table}.parquet", tables.to_parquet(pa.Table.from_pandas(whole, preserve_index=False)))

    def table(self, table: str, columns: Sequence[str] | None = None) -> Parts:
        """A table by its name, and what is wrong with the parts that it lies in.

        Args:
            table: Its name.
            columns: Those of its own that are wanted, which saves most of the time with a large study; by default all,
                with the study's and the runs' fields beside them.
        """
        parts = tables.read_parts(self.storage, table, columns=columns and _and_order(table, columns))
        faults = {fault.file: fault for fault in (*self.faults(table), *parts.faults)}
        frame = self._settle(table, parts.frame)[[*columns]] if columns else self._whole(table, parts.frame)
        return replace(parts, frame=frame, faults=[*faults.values()])

    def _table(self, table: str) -> pd.DataFrame:
        return self._whole(table, tables.read_parts(self.storage, table).frame)

    def _whole(self, table: str, frame: pd.DataFrame) -> pd.DataFrame:
        """Rows of parts as a user wants them: one a key, with the study's and the runs' fields."""
        frame = self._join(self._settle(table, frame))
        first = [*_FIRST, *(field for field in self.varied if field not in _FIRST)] if table == "measurements" else []
        return frame.loc[:, first + [column for column in frame.columns if column not in first]]

    def _settle(self, table: str, frame: pd.DataFrame) -> pd.DataFrame:
        planned = [run.id for run in self.runs]
        return self._dedupe(table, frame.loc[frame["run"].isin(planned)])

    def _dedupe(self, table: str, frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.loc[~self._superseded(frame)]
        keys = [_codes(frame[name]) for name in tables.KEYS[table]]
        # The best row of a key comes last: a measured one before a failed one, then the latest attempt's.
        order = [frame["state"] == "measured"] if "state" in frame else []
        # By launch before the clock, which may have been set back in between; older rows name no launch.
        of_launch = [frame["launch"].fillna(0)] if "launch" in frame else []
        order += [frame["attempt"], *of_launch, *([frame["recorded_at"]] if "recorded_at" in frame else [])]
        places = np.lexsort([*map(np.asarray, reversed(order)), *reversed(keys)])
        last = np.ones(len(places), dtype=bool)
        last[:-1] = np.any([key[places[1:]] != key[places[:-1]] for key in keys], axis=0)
        return frame.take(places[last]).reset_index(drop=True)

    def _superseded(self, frame: pd.DataFrame) -> np.ndarray:
        """Which rows a later attempt's diverging replay has taken the place of."""
        gone = np.zeros(len(frame), dtype=bool)
        codes, runs = pd.factorize(frame["run"])
        for code, run in enumerate(runs):
            if replayed := run_files.replays(self.storage, str(run)):
                places = np.flatnonzero(codes == code)
                rows = zip(frame["attempt"].iloc[places], frame["step"].iloc[places], strict=True)
                gone[places] = [run_files.superseded(attempt, step, replayed) for attempt, step in rows]
        return gone

    def _join(self, frame: pd.DataFrame) -> pd.DataFrame:
        columns = {
            "study": lambda run: self.name,
            "task": lambda run: run.task,
            "model": lambda run: run.model,
            "seed": lambda run: run.seed,
        }
        by_run = self.plan.run_of
        codes, there = pd.factorize(frame["run"])
        joined = {name: [of(by_run[run]) for run in there] for name, of in columns.items()}
        for field in self.varied:  # a task or model that varies as a whole takes the place of its name
            told = labels([run.varied.get(field) for run in by_run.values()])
            values = dict(zip(by_run, _one_kind(told), strict=True))
            joined[field] = [values[run] for run in there]
        return frame.assign(**{name: pd.Series(values).array.take(codes) for name, values in joined.items()})


def _and_order(table: str, columns: Iterable[str]) -> list[str]:
    """The columns of a table that are wanted, and those that say which of several rows of a key counts."""
    needed = {*columns, *tables.KEYS[table], "run", "attempt", "launch", "recorded_at", "state"}
    return [name for name in tables.SCHEMAS[table].names if name in needed]


def _codes(column: Any) -> np.ndarray:
    """Numbers in the order of a column's values, which sort faster than text."""
    return np.asarray(column) if column.dtype.kind in "iu" else pd.factorize(column, sort=True)[0]


def _one_kind(values: list[Any]) -> list[Any]:
    """The values as they are if a column can hold them all, else each as JSON: `[100, "full"]` as text."""
    present = [value for value in values if value is not None]
    for kind in (bool, (int, float), str):
        if all(isinstance(value, kind) and (kind is bool or type(value) is not bool) for value in present):
            return values
    return [json.dumps(value) for value in values]
