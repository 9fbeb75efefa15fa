"""Running studies: what is missing is trained and measured, the rest is left alone, and the report is made anew."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from tangentscope.pipeline.driver.execution import Work, execute, stop_at_failure
from tangentscope.pipeline.driver.finish import Ended, ended, publish, track
from tangentscope.pipeline.driver.outlook import check_held, departing, retrained
from tangentscope.pipeline.driver.probe import Asked, ask
from tangentscope.pipeline.driver.standing import clear, standings
from tangentscope.pipeline.store import layout
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.further import requests
from tangentscope.pipeline.store.launch import Launch, claim
from tangentscope.pipeline.store.mending import mend_tables
from tangentscope.pipeline.store.plan import Plan
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.store.status import HubStatus
from tangentscope.pipeline.study.plan import named, study_plan
from tangentscope.pipeline.study.points import store_points
from tangentscope.pipeline.study.runs import Run, make_runs
from tangentscope.pipeline.study.spec import Study
from tangentscope.pipeline.system import provenance
from tangentscope.pipeline.system.errors import GO_ON, Stopped, UserError
from tangentscope.pipeline.system.signals import interruptible
from tangentscope.pipeline.tracking.uri import check_server, default_uri


@dataclass(frozen=True)
class Order:
    """A study to run: validated, its file's name for messages, and a directory or storage URI for its results."""

    study: Study
    source: str
    out: str | Path
    asked: Asked | None = None  # to be measured on snapshots that are kept; then nothing is trained
    place: Path | None = None  # of the study file: its repository is recorded; by default that of the working directory


def run_studies(
    orders: Sequence[Order],
    data_dir: Path | None = None,
    offline: bool = False,
    address: str | None = None,
    command: str = "",
    watch: Callable[[Store, HubStatus], None] = lambda store, status: None,
    tell: Callable[[str], None] = lambda line: None,
    retry: Sequence[str] | None = None,
    fail_fast: bool = False,
) -> list[Ended | Exception]:
    """Do what of studies is still missing. What has failed or was stopped is left alone, unless retried.

    Args:
        orders: The studies, the most important one first: the others get what it leaves of the cluster.
        data_dir: Where data sets lie.
        offline: Track nothing; `tangentscope sync` can upload later.
        address: Of a Ray cluster; by default one is started on this machine and ended with the studies.
        command: The command line, for the record.
        watch: Called about twice a second with a store and its hub's status; from several threads if there are several.
        tell: Called with what a user should know before work starts: which runs are trained again, and why.
        retry: Names or ids of runs to take up again where they failed or were stopped, with their failed measurements;
            an empty one means all runs.
        fail_fast: Stop everything as soon as one run fails.

    Returns:
        How each ended, or the error that ended it: on SIGINT, SIGTERM or SIGHUP Stopped; what was done is kept, and the
        same call goes on from there.

    Raises:
        UserError: Anything that can be told before work starts.
    """
    begun = time.time()
    if data_dir is not None and not data_dir.is_dir():
        raise UserError(f"data directory {data_dir}: not there; give the directory that holds the data sets")
    planned = [_planned(order, data_dir, offline) for order in orders]
    if len({storage.uri for storage, _, _ in planned}) < len(planned):
        raise UserError(f"output {planned[0][0].uri}: asked for twice; give every study a name of its own")
    for order, (storage, _, runs) in zip(orders, planned, strict=True):
        if line := departing(storage, order.study, runs):
            tell(f"{order.study.name}: {line}")
    with ExitStack() as stack:
        claims = [stack.enter_context(ExitStack()) for _ in planned]
        launches = [each.enter_context(claim(storage)) for each, (storage, _, _) in zip(claims, planned, strict=True)]
        interrupt = stack.enter_context(interruptible())
        works: list[Work] = []
        done: dict[int, Ended | Exception] = {}
        for k, (order, launch, (storage, uri, runs)) in enumerate(zip(orders, launches, planned, strict=True)):
            again = set() if retry is None else _chosen(runs, retry)
            if order.asked is not None:
                ask(storage, order.study, runs, order.asked, begun)
            layout.identify(storage)
            told = [*_prepare(storage, launch, order.study, runs, command, begun, again, order.place)]
            store = Store(storage)
            told += mend_tables(launch, store.plan)
            found = standings(store, again, training=order.asked is None)
            clear(storage, found)
            told += [f"{fault}; set aside" for standing in found for fault in standing.faults]
            told += retrained([standing.name for standing in found if standing.kind == "retrain"])
            for line in told:
                tell(f"{order.study.name}: {line}")
            todo = [standing.run for standing in found if standing.trains]
            works.append(Work(order.study, launch, store, todo, uri, claims[k].close))
            if not todo and not any(standing.unread for standing in found):
                publish(store, launch)
                done[k] = replace(ended(store, begun, uri, *track(storage, uri)), idle=True)
                claims[k].close()

        def wait(work: Work, status: HubStatus) -> None:
            interrupt.check()
            if work.launch.stopping:
                raise Stopped(f"stopped on request; {GO_ON}")
            if work.look.is_due:
                with work.look:
                    for other in works if fail_fast else ():
                        stop_at_failure(other.store, other.todo)
                    watch(work.store, status)

        if missing := [k for k in range(len(works)) if k not in done]:
            found = execute([works[k] for k in missing], data_dir, address, wait)
            for k, outcome in zip(missing, found, strict=True):
                failed = isinstance(outcome, Exception)
                done[k] = outcome if failed else ended(works[k].store, begun, works[k].uri, *outcome)
        return [done[k] for k in range(len(works))]


def _planned(order: Order, data_dir: Path | None, offline: bool) -> tuple[Storage, str | None, list[Run]]:
    """A study's storage, MLflow's URI and the runs; refused if they cannot be."""
    runs = make_runs(order.study, data_dir, order.source)
    storage = Storage.at(order.out)
    storage.check_writable()
    check_held(storage, order.study)
    uri = None if offline else default_uri(storage)
    if uri is not None:
        check_server(uri)
    return storage, uri, runs


def _chosen(runs: list[Run], names: Sequence[str]) -> set[str]:
    """Ids of the runs of these names or ids, of all runs if none is given."""
    planned = [run.planned() for run in runs]
    return {run.id for run in named(planned, names) or planned}


def _prepare(
    storage: Storage,
    launch: Launch,
    study: Study,
    runs: list[Run],
    command: str,
    begun: float,
    again: set[str],
    place: Path | None,
) -> list[str]:
    """Put on storage what a launch needs there; a line about each file that was there and not what it should be."""
    storage.write(layout.STUDY, study.text().encode())
    data = {run.task.name: run.data.source for run in runs}
    record = provenance.gather(command, study.seed_list, data, begun, place)
    storage.write_json(layout.PROVENANCE, record)
    storage.write_json(f"launches/{launch.epoch:06d}.provenance", record)
    study_plan(study, runs, launch.epoch, Plan.read(storage), again, requests(storage)).write(storage)
    return store_points(storage, runs)
