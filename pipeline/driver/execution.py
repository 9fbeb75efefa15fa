"""Doing on Ray what is missing of one study, or of several at once: the first before the others."""

import threading
import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tangentscope.pipeline.driver.finish import publish, track
from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.store.launch import Launch
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.store.status import NO_ANSWER, HubStatus
from tangentscope.pipeline.study.spec import Study
from tangentscope.pipeline.system.errors import GO_ON, Lost, Stopped
from tangentscope.pipeline.system.throttle import Throttle
from tangentscope.pipeline.training.groups import pack

Tracked = tuple[str | None, str | None]
"""The experiment's id in MLflow, or None and what went wrong."""


@dataclass(frozen=True)
class Work:
    """What is missing of one study, and the right to publish it.

    Studies that run at once share a cluster by their order: one begins when those before it have all the worker groups
    that they want and the cluster has room for all of its own, or when those before it have been trained.
    """

    study: Study
    launch: Launch
    store: Store
    todo: Sequence[str]  # ids of runs to train
    uri: str | None  # MLflow's
    release: Callable[[], None]  # gives up the right to publish: the study has ended, others may go on with it
    look: Throttle = field(default_factory=Throttle)  # at the store, for people
    placed: threading.Event = field(default_factory=threading.Event)
    trained: threading.Event = field(default_factory=threading.Event)


Wait = Callable[[Work, HubStatus], None]
"""Called about twice a second with the hub's status; may raise to end a study."""


def execute(works: Sequence[Work], data_dir: Path | None, address: str | None, wait: Wait) -> list[Tracked | Exception]:
    """Do what is missing, and give for each study what came of tracking, or the error that ended it.

    Args:
        works: The studies, the most important one first.
        data_dir: Where data sets lie.
        address: Of a Ray cluster; None for one of this machine's own.
        wait: Called while it lasts.

    Raises:
        UserError: The cluster is not there or not fit for these studies.
    """
    if address is None and len(works) == 1 and (tracked := _without_ray(works[0], wait)) is not None:
        return [tracked]
    # Imported here: `plan`, `status` and `report` need no Ray, and it takes seconds to load.
    from tangentscope.pipeline.cluster.connection import connected

    found: list[Tracked | Exception] = [Stopped()] * len(works)

    def do(k: int) -> None:
        try:
            found[k] = _do(k, works, data_dir, watched)
        except Exception as error:
            found[k] = error
        finally:  # nobody waits for it any longer
            works[k].placed.set()
            works[k].trained.set()
            works[k].release()

    with connected(address, [(work.study.resources, work.store.storage) for work in works]) as check_alive:

        def watched(work: Work, status: HubStatus) -> None:
            check_alive()
            wait(work, status)

        if len(works) == 1:
            do(0)
            return found
        threads = [threading.Thread(target=do, args=(k,), daemon=True, name=f"study-{k}") for k in range(len(works))]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive() and not any(isinstance(each, Lost) for each in found):
                thread.join(0.5)  # not for ever at once: signals come in between
    return found


def _without_ray(work: Work, wait: Wait) -> Tracked | Exception | None:
    """What came of a study that needed no more than a few measurements; None if it needs Ray."""
    if work.todo:
        return None
    from tangentscope.pipeline.cluster.in_process import measured_here  # loads torch

    try:
        if not measured_here(work.launch, work.study.resources.probe, lambda status: wait(work, status)):
            return None
        publish(work.store, work.launch)
        return track(work.store.storage, work.uri)
    except Exception as error:
        return error


def _do(k: int, works: Sequence[Work], data_dir: Path | None, wait: Wait) -> Tracked:
    from tangentscope.pipeline.cluster.connection import room_for
    from tangentscope.pipeline.cluster.losses import lost_with_ray
    from tangentscope.pipeline.cluster.scheduler import Crew

    work, before = works[k], works[:k]
    train = work.study.resources.train
    while not all(other.trained.is_set() for other in before):
        if all(other.placed.is_set() for other in before) and room_for(work.study.resources):
            break
        wait(work, NO_ANSWER)
        time.sleep(0.5)
    todo = [run for run in work.store.runs if run.id in work.todo]
    units = pack(todo, train.groups, train.together and train.workers == 1)

    def training(status: HubStatus) -> None:
        if status.groups >= min(train.groups, len(units)):
            work.placed.set()
        wait(work, status)

    with lost_with_ray():
        crew = Crew(work.launch, work.study.resources, work.uri, lambda status: wait(work, status), units)
    causes, lost = [], False
    try:
        with lost_with_ray():
            if work.todo:
                causes = crew.train(str(data_dir.absolute()) if data_dir else None, training)
            work.placed.set()
            work.trained.set()
            crew.drain(lambda status: wait(work, status), lambda: all(other.trained.is_set() for other in works))
        publish(work.store, work.launch)
        _check_all_ended(work, causes)
    except Lost:
        lost = True  # nobody is left to be sent home
        raise
    finally:
        # Also on the way out of an interrupt: no MLflow run may be left RUNNING.
        tracked = (None, None) if lost else crew.finish_tracking()
        if not lost:
            crew.leave()
    return tracked


def stop_at_failure(store: Store, todo: Container[str]) -> None:
    """Raise Stopped if one of these runs has failed."""
    for run, outcome in store.outcomes().items():
        if outcome.state == "failed" and run in todo:
            name = store.plan.run_of[run].name
            raise Stopped(f"{name} failed: {outcome.cause}; all else was stopped, as asked", code=1)


def _check_all_ended(work: Work, causes: Sequence[str]) -> None:
    """Raise Stopped if runs have not ended: their worker groups did, for `causes`, which is not the runs' failure."""
    if rest := [run for run in work.todo if not work.store.storage.exists(run_files.outcome(run))]:
        cause = "; ".join(causes) or "their worker groups ended without them"
        raise Stopped(f"error: {len(rest)} runs of {work.store.name} have not ended: {cause}; {GO_ON}", code=1)
