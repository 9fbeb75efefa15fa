"""Running a study: what is missing is trained and measured, the rest is left alone, and the report is made anew."""

import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import layout, provenance, tables
from pipeline.errors import Stopped, UserError, nearest, one_line
from pipeline.interrupts import interruptible
from pipeline.launch import Launch, claim
from pipeline.layout import Notice
from pipeline.ledger import Ledger
from pipeline.plan import Run, make_runs
from pipeline.planned import plan_record
from pipeline.points import store_points
from pipeline.spec import Study
from pipeline.storage import Storage
from pipeline.store import Store
from pipeline.tracking import Tracker, check_server, default_uri


@dataclass(frozen=True)
class Ended:
    """How a launch ended: counts of runs and what the user wants to know next."""

    finished: int
    stopped: int  # on request
    failed: dict[str, str]  # run name -> cause
    failed_measurements: int
    nonfinite: int  # values that were measured and are NaN or infinite
    seconds: float
    tracking_uri: str | None
    experiment: str | None
    trouble: str | None  # with tracking


def run_study(
    study: Study,
    source: str,
    out: str | Path,
    data_dir: Path | None = None,
    offline: bool = False,
    address: str | None = None,
    command: str = "",
    watch: Callable[[Store, dict[str, Any]], None] = lambda store, status: None,
    retry: Sequence[str] | None = None,
    fail_fast: bool = False,
) -> Ended:
    """Do what of a study is still missing in `out`. What has failed or was stopped is left alone, unless retried.

    Args:
        study: The study, validated.
        source: Its file's name, for messages.
        out: Directory or storage URI of its results.
        data_dir: Where data sets lie.
        offline: Track nothing; `tangentscope sync` can upload later.
        address: Of a Ray cluster; by default one is started on this machine and ended with the study.
        command: The command line, for the record.
        watch: Called about twice a second with the store and the hub's status.
        retry: Names or ids of runs to take up again where they failed or were stopped, with their failed measurements;
            an empty one means all runs.
        fail_fast: Stop everything as soon as one run fails.

    Raises:
        UserError: Anything that can be told before work starts.
        Stopped: On SIGINT or SIGTERM; what was done is kept, and the same call goes on from there.
    """
    begun = time.time()
    if data_dir is not None and not data_dir.is_dir():
        raise UserError(f"data directory {data_dir}: not there; give the directory that holds the data sets")
    runs = make_runs(study, data_dir, source)
    storage = Storage.at(out)
    storage.check_writable()
    known = Store(storage).plan if storage.exists(layout.PLAN) else {}  # refused if a newer version wrote it
    if (held := known.get("study", study.name)) != study.name:
        raise UserError(f'output {storage.uri} holds the study "{held}", not "{study.name}"; give another --out')
    uri = None if offline else default_uri(storage)
    if uri is not None:
        check_server(uri)
    with claim(storage) as launch, interruptible() as interrupt:
        again = set() if retry is None else _chosen(runs, retry)
        _prepare(storage, launch, study, runs, command, begun, again)
        todo, unread = _missing(storage, runs, again)
        if todo or unread:
            store = Store(storage)

            def wait(status: dict[str, Any]) -> None:
                interrupt.check()
                if fail_fast:
                    _stop_at_failure(store, todo)
                if launch.stopping:
                    raise Stopped("stopped on request; run the same command again to go on")
                watch(store, status)

            experiment, trouble = _execute(launch, study, todo, data_dir, uri, address, wait)
        else:
            publish(storage, launch)
            experiment, trouble = _track(storage, uri)
        return _ended(Store(storage), begun, uri, experiment, trouble)


def _chosen(runs: list[Run], names: Sequence[str]) -> set[str]:
    """Ids of the runs of these names or ids, of all runs if none is given."""
    known = {name: run.id for run in runs for name in (run.name, run.id)}
    for name in names:
        if name not in known:
            raise UserError(f'run "{name}" unknown; {nearest(name, (run.name for run in runs))}')
    return {known[name] for name in names} or {run.id for run in runs}


def _prepare(
    storage: Storage, launch: Launch, study: Study, runs: list[Run], command: str, begun: float, again: set[str]
) -> None:
    storage.write(layout.STUDY, study.text().encode())
    data = {run.task.name: run.data.source for run in runs}
    record = provenance.gather(command, study.seed_list, data, begun)
    storage.write_json(layout.PROVENANCE, record)
    storage.write_json(f"launches/{launch.epoch:06d}.provenance", record)
    retried = storage.read_json(layout.PLAN, {}).get("retried_at", {}) | dict.fromkeys(sorted(again), begun)
    storage.write_json(layout.PLAN, plan_record(study, runs, launch.epoch, retried))
    store_points(storage, runs)


def _missing(storage: Storage, runs: list[Run], again: Container[str] = ()) -> tuple[list[str], int]:
    """Runs to train, longest first, and how many snapshots of trained runs are still to be read.

    again: failed and stopped runs that are to be taken up.
    """
    store = Store(storage)
    ledger = Ledger(store.plan)
    ledger.restore(store.measurements().to_dict("records"))
    outcomes, todo, unread = store.outcomes(), [], 0
    for run in runs:
        outcome = outcomes.get(run.id)
        present = layout.current_snapshots(storage, run.id)
        for name in present:
            ledger.notice(Notice(run.id, name))
        steps, there = ledger.to_read(run.id), {name.step for name in present if not name.freed}
        if outcome and outcome["state"] != "finished" and run.id not in again:
            unread += len(steps & there)
            continue
        if outcome and outcome["state"] == "finished" and steps <= there:
            unread += len(steps)
            continue
        if run.id in again:
            storage.remove(layout.stop(run.id))
        if outcome:
            # It is taken up again, or a snapshot that is wanted now was not taken or not kept: train it again.
            storage.remove(layout.outcome(run.id))
            if outcome["state"] == "finished":
                for file in storage.list(f"runs/{run.id}/checkpoints"):
                    storage.remove(f"runs/{run.id}/checkpoints/{file}")
        todo.append(run)
    sizes = {run["run"]: run["parameters"] * run["steps"] * run["batch_size"] for run in store.runs}
    return [run.id for run in sorted(todo, key=lambda run: -sizes[run.id])], unread


def _execute(
    launch: Launch,
    study: Study,
    todo: list[str],
    data_dir: Path | None,
    uri: str | None,
    address: str | None,
    wait: Callable[[dict[str, Any]], None],
) -> tuple[str | None, str | None]:
    # Imported here: `plan`, `status` and `report` need no Ray, and it takes seconds to load.
    from pipeline.cluster.scheduler import Crew, connected

    storage = launch.storage
    with connected(address, study.resources, storage):
        crew = Crew(launch, study.resources, uri, wait)
        try:
            if todo:
                directory = str(data_dir.absolute()) if data_dir else None
                causes = crew.train(todo, directory, wait)
                _fail_the_rest(launch, todo, causes)
            crew.drain(wait)
            publish(storage, launch)
        finally:
            # Also on the way out of an interrupt: no MLflow run may be left RUNNING.
            tracked = crew.finish_tracking()
        return tracked


def _stop_at_failure(store: Store, todo: Container[str]) -> None:
    for run, outcome in store.outcomes().items():
        if outcome["state"] == "failed" and run in todo:
            name = next(record["name"] for record in store.runs if record["run"] == run)
            raise Stopped(f"{name} failed: {outcome['cause']}; all else was stopped, as asked", code=1)


def _fail_the_rest(launch: Launch, todo: list[str], causes: list[str]) -> None:
    storage = launch.storage
    launch.check()  # the groups of a launch that was taken over end quietly: their runs are the newer one's
    for run in todo:
        if not storage.exists(layout.outcome(run)):
            cause = "; ".join(causes) or "its worker group ended without it"
            storage.write_json(layout.outcome(run), {"state": "failed", "cause": cause, "ended_at": time.time()})


def publish(storage: Storage, launch: Launch) -> None:
    """Compact the tables, write them whole, and make figures and report."""
    from pipeline.report import write_report

    launch.check()
    Store(storage).publish(f"compact-{launch.epoch:06d}")
    write_report(storage)


def _track(storage: Storage, uri: str | None) -> tuple[str | None, str | None]:
    try:
        return (sync(storage, uri) if uri is not None else None), None
    except UserError as error:
        return None, str(error)


def sync(storage: Storage, uri: str, live: bool = False) -> str:
    """Bring MLflow up to date with a study's storage; the experiment's id.

    Raises:
        UserError: No study there, or MLflow refused; what it has taken stays, and the rest can be sent again.
    """
    tracker = Tracker(storage, uri, live)
    try:
        return tracker.finish()
    except Exception as error:  # whatever MLflow, its database or the network raises: the results are not at risk
        raise UserError(f"MLflow at {uri}: {one_line(error)}; mend it and sync again") from error


def _ended(store: Store, begun: float, uri: str | None, experiment: str | None, trouble: str | None) -> Ended:
    outcomes = store.outcomes()
    names = {run["run"]: run["name"] for run in store.runs}
    states = [outcome["state"] for outcome in outcomes.values()]
    failed = {names[run]: outcome["cause"] for run, outcome in outcomes.items() if outcome["state"] == "failed"}
    measurements = store.measurements()
    measured = measurements.loc[(measurements["state"] == "measured") & ~tables.without_number(measurements)]
    return Ended(
        states.count("finished"),
        states.count("stopped"),
        failed,
        measurements["state"].tolist().count("failed"),
        len(measured.loc[~np.isfinite(measured["value"])]),
        time.time() - begun,
        uri,
        experiment,
        trouble,
    )
