"""MLflow as a projection of the store: the one file that imports it.

The study is an experiment, each training a flat run, and the report with its figures a run of its own. A run is found
by its tags before it is made, and each point carries the time its row was recorded, so that sending a row twice leaves
one point: `follow` can be cut short at any time, by anyone, and called again. A tag of each training says which points
it has: what is whole is not looked at again.
"""

import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tangentscope.pipeline.config.naming import flat
from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.outcome import Outcome
from tangentscope.pipeline.store.planned import PlannedRun
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.system.loading import without_collections
from tangentscope.pipeline.tracking import metrics
from tangentscope.pipeline.tracking.derived import send_derived
from tangentscope.pipeline.tracking.mirror import RUN, STORAGE, TRAJECTORY, Mirror, tags_of
from tangentscope.pipeline.tracking.study_report import TRAININGS, describe, send_report
from tangentscope.pipeline.tracking.uri import signed_in, sqlite_file

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Read by mlflow at import. Nobody who runs a study has agreed to telemetry.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# By default a server that is gone is asked again for many minutes; the next round, or `sync`, asks soon enough.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
# Else two lines a run, and one for each table of a new database.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")

_MARK = "tangentscope.sent"
_FAILURE = "failure"
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
_BATCH = 800  # points in one call, which takes a thousand of points, params and tags together
_PARAMS, _PARAM_LIMIT = 100, 6000
_PAGE = 1000  # runs


class Tracker:
    """Sends what a store has and MLflow has not.

    Args:
        storage: The study's.
        uri: MLflow's tracking URI.
        live: Whether somebody else's launch is going on: `finish` then leaves runs that have not ended RUNNING,
            otherwise they become KILLED.
    """

    def __init__(self, storage: Storage, uri: str, live: bool = True) -> None:
        self.storage, self.uri, self.live = storage, uri, live
        self.store = Store(storage)
        self._planned = self.store.plan.run_of
        self._client: MlflowClient | None = None
        self._experiment = ""
        self._mirrors: dict[str, Mirror] = {}
        self._ended: set[str] = set()
        self._seen: dict[str, set[str]] = {"history": set(), "measurements": set()}
        self._measured: dict[str, set[tuple]] = defaultdict(set)

    def follow(self) -> None:
        """Send every row that has come to storage since the last call, and end the MLflow runs that are complete."""
        client = self._connect()
        outcomes = self.store.outcomes()
        rows, seen = self._rows(self._seen)
        fresh = dict(iter(rows.groupby("run", sort=False, observed=True)))
        again = {run for run in self._mirrors if run not in self._ended or run in fresh}
        again = {run for run in again if self._mirrors[run].trajectory != self._trajectory(run)}
        for run, of_run in fresh.items():
            if run not in again and not self._take(client, str(run), of_run, outcomes.get(str(run))):
                again.add(str(run))
        if again:
            self._send_again(client, again, outcomes)
        self._seen = seen
        for run in outcomes.keys() - fresh.keys() - self._ended:
            self._end_if_complete(client, run, outcomes[run])

    def _rows(self, seen: Mapping[str, set[str]]) -> tuple[pd.DataFrame, dict[str, set[str]]]:
        """The rows of parts that are not among those seen, as points, and all parts there are."""
        frames, names = [], {}
        for table in seen:
            rows, names[table] = self.store.parts_since(table, seen[table], metrics.COLUMNS[table])
            frames.append(metrics.points(self.store, table, rows))
        return pd.concat(frames, ignore_index=True), names

    def _send_again(self, client: "MlflowClient", runs: set[str], outcomes: Mapping[str, Outcome]) -> None:
        """Delete MLflow runs whose trajectory a replay has replaced; their successors get every row anew.

        MLflow cannot take single points back, and no curve may be spliced from two trajectories.
        """
        for run in runs:
            client.delete_run(self._mirrors.pop(run).id)
            self._ended.discard(run)
        rows, _ = self._rows({table: set() for table in self._seen})
        for run, of_run in rows.loc[rows["run"].isin(list(runs))].groupby("run", sort=False, observed=True):
            self._take(client, str(run), of_run, outcomes.get(str(run)))

    def _trajectory(self, run: str) -> str:
        return str(max(run_files.replays(self.storage, run), default=0))

    def finish(self, derived: Callable[[], Mapping[str, Mapping[str, float]]] = dict) -> str:
        """Follow to the end, send report and figures, and leave no run RUNNING; the experiment's id.

        Args:
            derived: Gives numbers by run and name, which are asked for only where MLflow has not those of this report.
        """
        self.follow()
        client = self._connect()
        for run in self._mirrors.keys() - self._ended:
            if not self.live:
                self._end(client, run, "KILLED", None)
        send_report(client, self._experiment, self.store)
        ids = {mirror.id: self._planned[run] for run, mirror in self._mirrors.items()}
        send_derived(client, self._experiment, self.storage.uri, ids, derived)
        describe(client, self._experiment, self.store.name)
        return self._experiment

    def _connect(self) -> "MlflowClient":
        if self._client is None:
            with without_collections():
                import mlflow
                from mlflow.exceptions import MlflowException

            _make_database(self.uri)
            client = mlflow.MlflowClient(tracking_uri=signed_in(self.uri))
            there = client.get_experiment_by_name(self.store.name)
            if there is not None and there.lifecycle_stage == "deleted":
                client.restore_experiment(there.experiment_id)
            try:
                self._experiment = (
                    there.experiment_id
                    if there
                    else client.create_experiment(self.store.name, self._artifact_location())
                )
            except MlflowException:  # another launch of a study of this name was quicker
                there = client.get_experiment_by_name(self.store.name)
                if there is None:
                    raise
                self._experiment = there.experiment_id
            self._look(client, TRAININGS)
            self._client = client
        return self._client

    def _look(self, client: "MlflowClient", which: str) -> None:
        """Take notice of MLflow's runs of this storage, and delete those of trajectories that have been replaced."""
        token = None
        while token != "":
            page = client.search_runs([self._experiment], which, max_results=_PAGE, page_token=token)
            for each in page:
                run = each.data.tags[RUN]
                if each.data.tags.get(STORAGE) != self.storage.uri or run not in self._planned:
                    continue
                trajectory = each.data.tags.get(TRAJECTORY, "")
                if trajectory != self._trajectory(run):
                    client.delete_run(each.info.run_id)
                    continue
                tags, params = dict(each.data.tags), set(each.data.params)
                self._mirrors[run] = Mirror(each.info.run_id, trajectory, each.info.status, tags, params)
            token = page.token or ""

    def _artifact_location(self) -> str | None:
        # A server decides for itself; with a database of our own the artifacts lie beside it.
        file = sqlite_file(self.uri)
        return (file.parent / "mlartifacts" / self.store.name).absolute().as_uri() if file else None

    def _mirror(self, client: "MlflowClient", run: str) -> Mirror:
        """MLflow's run of a training, made if there is none."""
        if run not in self._mirrors:
            self._look(client, f"tags.`{RUN}` = '{run}'")  # another tracker of this study may have been quicker
        if run not in self._mirrors:
            planned, attempt = self._planned[run], run_files.first_attempt(self.storage, run)
            start = int(attempt.started_at * 1000) if attempt else None
            tags = tags_of(self.store, planned, self._trajectory(run))
            made = client.create_run(self._experiment, start, tags, run_name=planned.name)
            self._mirrors[run] = Mirror(made.info.run_id, tags[TRAJECTORY], tags=tags, sent={})
        return self._mirrors[run]

    def _take(self, client: "MlflowClient", run: str, rows: pd.DataFrame, outcome: Outcome | None) -> bool:
        """Send what MLflow has not of a run, and end it if it is complete; False if it has other values."""
        mirror = self._mirror(client, run)
        if run not in self._ended:
            measured = rows.loc[rows["probe"] != ""]
            self._measured[run] |= set(zip(measured["step"], measured["probe"], measured["variable"], strict=True))
        there = rows.dropna(subset=["key"]).drop_duplicates(["key", "step"], keep="last")
        if mirror.tags.get(_MARK) != metrics.mark(there) and not self._send(client, mirror, run, there, outcome):
            return False
        if outcome is not None:
            self._end_if_complete(client, run, outcome)
        return True

    def _send(
        self,
        client: "MlflowClient",
        mirror: Mirror,
        run: str,
        rows: pd.DataFrame,
        outcome: Outcome | None,
    ) -> bool:
        """Send points that MLflow has not; False if it has another value for the same step."""
        from mlflow.entities import Metric, Param, RunTag

        sent = self._points(client, mirror)
        # A replay and a compaction show rows again, the former with another time: one point a step is enough.
        metric_points = [
            Metric(key, value, int(at * 1000), step)
            for key, value, at, step in zip(*(rows[name].tolist() for name in _POINT), strict=True)
        ]
        finite = [point for point in metric_points if np.isfinite(point.value)]
        if any(sent.get((point.key, point.step), point.value) != point.value for point in finite):
            return False
        if mirror.status != "RUNNING" and outcome is None:
            client.update_run(mirror.id, status="RUNNING")
            mirror.status = "RUNNING"
        fresh = [point for point in finite if (point.key, point.step) not in sent]
        mirror.seen.append(rows)
        tags = mirror.nonfinite(rows)
        tags[_MARK] = metrics.mark(pd.concat(mirror.seen).drop_duplicates(["key", "step"], keep="last"))
        params = [
            Param(metrics.clean(key), str(value)[:_PARAM_LIMIT])
            for key, value in flat(self._planned[run].config)
            if metrics.clean(key) not in mirror.params
        ]
        chunks = [fresh[k : k + _BATCH] for k in range(0, len(fresh), _BATCH)] or [[]]
        for k, chunk in enumerate(chunks):
            last = [RunTag(key, value) for key, value in tags.items()] if k == len(chunks) - 1 else []
            with without_collections():  # MLflow makes an object a point
                client.log_batch(mirror.id, chunk, params[:_PARAMS] if k == 0 else [], last)
            sent |= {(point.key, point.step): point.value for point in chunk}
        mirror.params |= {param.key for param in params}
        mirror.tags |= tags
        return True

    def _points(self, client: "MlflowClient", mirror: Mirror) -> dict[tuple[str, int], float]:
        """The points that MLflow has of a run."""
        if mirror.sent is None:
            keys = client.get_run(mirror.id).data.metrics
            history = (point for key in keys for point in client.get_metric_history(mirror.id, key))
            mirror.sent = {(point.key, point.step): point.value for point in history}
        return mirror.sent

    def _end_if_complete(self, client: "MlflowClient", run: str, outcome: Outcome) -> None:
        if run not in self._planned or run in self._ended:
            return
        if outcome.state != "finished" or self._complete(self._planned[run]):
            self._end(client, run, _STATUS[outcome.state], outcome)

    def _complete(self, run: PlannedRun) -> bool:
        measured = self._measured[run.id]
        by_step = self.store.wanted(run)
        return all((s, p, v) in measured for s, probes in by_step.items() for p, names in probes.items() for v in names)

    def _end(self, client: "MlflowClient", run: str, status: str, outcome: Outcome | None) -> None:
        mirror = self._mirror(client, run)
        if outcome and outcome.state == "failed":
            cause = outcome.cause or "no cause recorded"
            if mirror.tags.get(_FAILURE) != cause:
                client.set_tag(mirror.id, _FAILURE, cause)
        elif mirror.tags.pop(_FAILURE, None):
            client.delete_tag(mirror.id, _FAILURE)  # of an earlier launch
        if mirror.status != status:
            client.set_terminated(mirror.id, status, int(outcome.ended_at * 1000) if outcome else None)
        mirror.status = status
        self._ended.add(run)
        # Most of what a tracker holds is of runs that have ended; should more come of one, MLflow knows what it has.
        mirror.sent, mirror.seen = None, []
        self._measured.pop(run, None)


_POINT = ("key", "value", "recorded_at", "step")


def _make_database(uri: str) -> None:
    """Put an SQLite file in place where there is none, whole: MLflow takes none up again that it has half made."""
    import mlflow

    file = sqlite_file(uri)
    if file is None or file.exists():
        return
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / file.name
        mlflow.MlflowClient(tracking_uri=f"sqlite:///{made}").search_experiments()
        Storage.at(file.parent).create(file.name, made.read_bytes())  # unless another launch was quicker
