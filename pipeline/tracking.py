"""MLflow as a projection of the store: the one file that imports it.

The study is an experiment, each training a flat run. A run is found by its tags before it is made, and each point
carries the time its row was recorded, so that sending a row twice leaves one point: `follow` can be cut short at any
time, by anyone, and called again.
"""

import math
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from pipeline import layout, tables
from pipeline.loading import loading
from pipeline.storage import Storage
from pipeline.store import Store
from pipeline.tracking_uri import sqlite_file
from pipeline.wanted import told_apart

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Read by mlflow at import. Nobody who runs a study has agreed to telemetry.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# By default a server that is gone is asked again for many minutes; the next round, or `sync`, asks soon enough.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

_RUN, _STORAGE, _TRAJECTORY = "tangentscope.run", "tangentscope.storage", "tangentscope.trajectory"
_NONFINITE = "nonfinite."
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
_BATCH = 1000  # metrics that one log_batch call may carry
_PARAM_LIMIT = 6000


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
        self._client: MlflowClient | None = None
        self._experiment = ""
        self._runs: dict[str, str] = {}
        self._trajectories: dict[str, str] = {}
        self._sent: dict[str, dict[tuple[str, int], float]] = defaultdict(dict)  # by MLflow run: what it has
        self._tagged: dict[str, set[str]] = defaultdict(set)  # what is known not to be finite, by MLflow run
        self._ended: set[str] = set()
        self._seen: dict[str, set[str]] = {"history": set(), "measurements": set()}
        self._measured: dict[str, set[tuple]] = defaultdict(set)
        self._kernels = told_apart(self.store.probes)

    def follow(self) -> None:
        """Send every row that has come to storage since the last call, and end the MLflow runs that are complete."""
        client = self._connect()
        for run in [run for run in self._runs if self._trajectories[run] != self._trajectory(run)]:
            self._drop(client, run)
        if spliced := self._send_fresh(client):
            for run in spliced:
                self._drop(client, run)
            self._send_fresh(client)
        outcomes = self.store.outcomes()
        for run in self.store.runs:
            outcome = outcomes.get(run["run"])
            if outcome and (outcome["state"] != "finished" or self._complete(run)):
                self._end(client, run["run"], _STATUS[outcome["state"]], outcome)

    def _send_fresh(self, client: "MlflowClient") -> set[str]:
        """Send the rows of parts not seen before; the runs whose rows contradict what MLflow has."""
        probes = list(self.store.probes)
        spliced = set()
        for table in self._seen:
            rows, names = self.store.parts_since(table, self._seen[table])
            if table == "measurements":  # earlier plans' kernels would stand under the same names
                rows = rows.loc[rows["probe"].isin(probes)]
            for run, of_run in rows.groupby("run"):
                numbers = of_run.loc[~tables.without_number(of_run)] if table == "measurements" else of_run
                if not self._send(client, self._run(client, str(run)), numbers):
                    spliced.add(str(run))
                if table == "measurements":
                    keys = zip(of_run["step"], of_run["probe"], of_run["variable"], strict=True)
                    self._measured[str(run)] |= set(keys)
            self._seen[table] = names
        return spliced

    def _drop(self, client: "MlflowClient", run: str) -> None:
        """Delete the MLflow run of a trajectory that a replay has replaced; its successor gets every row anew.

        MLflow cannot take single points back, and no curve may be spliced from two trajectories.
        """
        client.delete_run(self._runs.pop(run))
        self._ended.discard(run)
        self._seen = {table: set() for table in self._seen}

    def _trajectory(self, run: str) -> str:
        return str(max(layout.replays(self.storage, run), default=0))

    def finish(self) -> str:
        """Follow to the end, give each run the report and figures, and leave none RUNNING; the experiment's id."""
        self.follow()
        client = self._connect()
        with tempfile.TemporaryDirectory() as scratch:
            folder = self._artifacts(Path(scratch))
            for mlflow_run in self._runs.values():
                client.log_artifacts(mlflow_run, str(folder))
        for run in set(self._runs) - self._ended:
            self._end(client, run, "RUNNING" if self.live else "KILLED", None)
        return self._experiment

    def _connect(self) -> "MlflowClient":
        if self._client is None:
            with loading():
                import mlflow
                from mlflow.exceptions import MlflowException

            _make_database(self.uri)
            self._client = mlflow.MlflowClient(tracking_uri=self.uri)
            found = self._client.get_experiment_by_name(self.store.name)
            if found is not None and found.lifecycle_stage == "deleted":
                self._client.restore_experiment(found.experiment_id)
            try:
                self._experiment = (
                    found.experiment_id
                    if found
                    else self._client.create_experiment(self.store.name, self._artifact_location())
                )
            except MlflowException:  # another launch of a study of this name was quicker
                found = self._client.get_experiment_by_name(self.store.name)
                if found is None:
                    raise
                self._experiment = found.experiment_id
        return self._client

    def _artifact_location(self) -> str | None:
        # A server decides for itself; with a database of our own the artifacts lie beside it.
        file = sqlite_file(self.uri)
        return (file.parent / "mlartifacts" / self.store.name).absolute().as_uri() if file else None

    def _known(self, client: "MlflowClient", run: str) -> str | None:
        found = client.search_runs([self._experiment], f"tags.`{_RUN}` = '{run}'")
        here = [each for each in found if each.data.tags.get(_STORAGE) == self.storage.uri]
        present = [each for each in here if each.data.tags.get(_TRAJECTORY) == self._trajectory(run)]
        for replaced in (each.info.run_id for each in here if each not in present):
            client.delete_run(replaced)
        return present[0].info.run_id if present else None

    def _run(self, client: "MlflowClient", run: str) -> str:
        if run not in self._runs:
            self._trajectories[run] = self._trajectory(run)
            record = next(r for r in self.store.runs if r["run"] == run)
            found = self._known(client, run)
            if found is None:
                from mlflow.entities import Param

                attempt = self.storage.read_json(f"runs/{run}/attempts/0001.json", {})
                start = int(attempt["started_at"] * 1000) if attempt else None
                found = client.create_run(
                    self._experiment, start, self._tags(record), run_name=record["name"]
                ).info.run_id
                params = [Param(key, str(value)[:_PARAM_LIMIT]) for key, value in _flat(record["config"])]
                client.log_batch(found, params=params)
            else:
                client.update_run(found, status="RUNNING")
                known = client.get_run(found).data
                self._tagged[found] |= {tag for tag in known.tags if tag.startswith(_NONFINITE)}
                history = (point for key in known.metrics for point in client.get_metric_history(found, key))
                self._sent[found] = {(point.key, point.step): point.value for point in history}
            self._runs[run] = found
        return self._runs[run]

    def _tags(self, record: Mapping[str, Any]) -> dict[str, str]:
        provenance = self.store.provenance()
        config = record["config"]
        model = dict(config["model"])
        tags = {_RUN: record["run"], _STORAGE: self.storage.uri, _TRAJECTORY: self._trajectory(record["run"])}
        tags |= {"study": self.store.name, "task": config["task"]["name"], "seed": record["seed"]}
        tags |= {"model": model.pop("name"), **model}
        tags |= {key.rpartition(".")[2]: value for key, value in record["varied"].items()}
        tags |= {"data": record["data"]["source"], "parameters": record["parameters"]}
        tags |= {"git_commit": provenance.get("git_commit") or "none", "git_dirty": provenance.get("git_dirty")}
        if script := provenance.get("script"):  # of a loop of the user's own
            tags |= {"script": script["path"], "script_commit": script["git_commit"] or "none"}
            tags |= {"script_dirty": script["git_dirty"]}
        tags |= {f"version.{name}": version for name, version in provenance.get("versions", {}).items()}
        return {key: str(value) for key, value in tags.items()}

    def _send(self, client: "MlflowClient", mlflow_run: str, rows: pd.DataFrame) -> bool:
        """Send what MLflow has not; False if it has another value for the same step."""
        from mlflow.entities import Metric, RunTag

        metrics, tags = [], {}
        for row in rows.sort_values("step").to_dict("records"):
            name = f"{row['split']}/{row['variable']}{self._kernels.get(str(row.get('probe')), '')}"
            if math.isfinite(row["value"]):
                metrics.append(Metric(name, row["value"], int(row["recorded_at"] * 1000), int(row["step"])))
            else:  # the charts cannot show it; the tag says from which step on
                tags.setdefault(_NONFINITE + name, f"{row['value']} at step {row['step']}")
        sent = self._sent[mlflow_run]
        # A replay and a compaction show rows again, the former with another time: one point a step is enough.
        fresh = {(m.key, m.step): m for m in metrics if (m.key, m.step) not in sent}
        for chunk in _chunks(list(fresh.values()), _BATCH):
            client.log_batch(mlflow_run, metrics=chunk)
            sent |= {(m.key, m.step): m.value for m in chunk}
        tags = {key: value for key, value in tags.items() if key not in self._tagged[mlflow_run]}
        if tags:
            client.log_batch(mlflow_run, tags=[RunTag(key, value) for key, value in tags.items()])
            self._tagged[mlflow_run] |= set(tags)
        return all(sent[m.key, m.step] == m.value for m in metrics)

    def _complete(self, run: Mapping[str, Any]) -> bool:
        measured = self._measured[run["run"]]
        by_step = self.store.wanted(run)
        return all((s, p, v) in measured for s, probes in by_step.items() for p, names in probes.items() for v in names)

    def _end(self, client: "MlflowClient", run: str, status: str, outcome: Mapping[str, Any] | None) -> None:
        if run in self._ended or status == "RUNNING":
            return
        mlflow_run = self._run(client, run)
        if outcome and outcome["state"] == "failed":
            client.set_tag(mlflow_run, "failure", outcome["cause"] or "no cause recorded")
        elif "failure" in client.get_run(mlflow_run).data.tags:
            client.delete_tag(mlflow_run, "failure")  # of an earlier launch
        client.set_terminated(mlflow_run, status, int(outcome["ended_at"] * 1000) if outcome else None)
        self._ended.add(run)

    def _artifacts(self, folder: Path) -> Path:
        names = [layout.STUDY, layout.PROVENANCE, layout.REPORT]
        names += [f"figures/{file}" for file in self.storage.list("figures")]
        for name in names:
            if self.storage.exists(name):
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_bytes(self.storage.read(name))
        return folder


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


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _chunks(items: list, size: int) -> Iterable[list]:
    return (items[i : i + size] for i in range(0, len(items), size))
