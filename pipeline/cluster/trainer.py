"""Training on Ray Train workers: a group of workers trains several runs, one after another.

A group is disposable: the runs' checkpoints and outcomes are on storage, and a group that Ray starts again goes on
where the last one was. A run's exception fails that run only (with several workers it ends the group, since the others
wait for gradients); a run that was current at two deaths of its group is failed and passed over.
"""

import os
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.collective
import ray.train.torch
import torch

from pipeline import layout, logs
from pipeline.errors import Fenced, Stopped, UserError, one_line
from pipeline.launch import Launch
from pipeline.layout import Notice
from pipeline.plan import restore
from pipeline.provenance import host
from pipeline.snapshots import Recorder, read_checkpoint
from pipeline.storage import Storage
from pipeline.store import Store
from pipeline.training import World, initialise, train, training_of
from tasks import TaskData

DEATHS = 2
_STOPPED = {"state": "stopped", "cause": "stopped on request"}


def train_group(config: dict[str, Any]) -> None:
    """What each worker of a group does.

    Args:
        config: ``launch`` (:class:`Launch`), ``runs`` (ids, in order), ``hub`` (actor handle), ``data_dir``,
            ``cpu`` (threads) and ``checkpoint_seconds``.
    """
    launch: Launch = config["launch"]
    context = ray.train.get_context()
    world = World(context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device())
    torch.set_num_threads(config["cpu"])
    records = {run["run"]: run for run in Store(launch.storage).runs}
    try:
        for run in config["runs"]:
            if (start := _shared(world, lambda r=run: _start(launch, r))) is not None:
                _attempt(records[run], start, launch, world, config)
    except (Stopped, Fenced):
        # Alone, there is nothing more to do. Of several ranks this one may be the only one to know, while the others
        # wait for its gradients: the error ends them all, and a new group sees for itself that it is not wanted.
        if world.size > 1:
            raise


def _attempt(
    record: dict[str, Any], start: dict[str, Any], launch: Launch, world: World, config: dict[str, Any]
) -> None:
    run = record["run"]
    try:
        with logs.kept() as log:
            try:
                outcome = _train_run(record, start, launch, world, config)
            finally:
                _keep(log.text, run, start, launch, world)
    except Stopped:
        # Of several ranks only this one knows; the error ends them all, and a new group sees for itself.
        if world.size > 1 or launch.stopping:
            raise
        outcome = _STOPPED
    except Fenced:
        raise
    except Exception as error:
        outcome = {"state": "failed", "cause": one_line(error), "traceback": traceback.format_exc()}
        if world.size > 1:
            # It may be this run's own mistake, or what a rank is told when another one dies: which, two deaths tell.
            launch.check()
            cause = outcome | {"at": time.time(), "rank": world.rank}
            launch.storage.write_json(f"runs/{run}/attempts/{start['attempt']:04d}.rank-{world.rank}", cause)
            raise
    if world.rank == 0:
        _end(launch, run, start, world, outcome)


def _keep(log: str, run: str, start: dict[str, Any], launch: Launch, world: World) -> None:
    if log and world.rank == 0:
        with suppress(OSError):  # a full disk has worse to say than a log
            launch.storage.write(f"runs/{run}/attempts/{start['attempt']:04d}.log", log.encode())


def _shared(world: World, decide: Callable[[], Any]) -> Any:
    """Rank 0's decision, on every rank."""
    if world.size == 1:
        return decide()
    return ray.train.collective.broadcast_from_rank_zero(decide() if world.rank == 0 else None)


def _start(launch: Launch, run: str) -> dict[str, Any] | None:
    """Open an attempt at a run; None if there is nothing (more) to do for it."""
    storage = launch.storage
    if launch.stopping or storage.exists(layout.outcome(run)):
        return None
    names = storage.list(f"runs/{run}/attempts")
    earlier = [storage.read_json(f"runs/{run}/attempts/{name}", {}) for name in names if name.endswith(".json")]
    attempt = 1 + max((record.get("attempt", 0) for record in earlier), default=0)
    start = {"attempt": attempt, "launch": launch.epoch, "started_at": time.time(), "host": host(), "pid": os.getpid()}
    if storage.exists(layout.stop(run)):
        _end(launch, run, start, World(), _STOPPED)
        return None
    deaths = sum(record.get("launch") == launch.epoch for record in earlier)
    if deaths >= DEATHS:
        _end(launch, run, start, World(), _cause_of_death(storage, run, deaths, names))
        return None
    while (newest := layout.newest_checkpoint(storage, run)) and read_checkpoint(storage, newest[1]) is None:
        storage.remove(newest[1])  # damaged: an older one or the start serves as well, and the replay is told apart
    start |= {"resumed_at": newest[0] if newest else 0, "checkpoint": newest[1] if newest else None}
    launch.check()
    storage.write_json(f"runs/{run}/attempts/{attempt:04d}.json", start)
    return start


def _cause_of_death(storage: Storage, run: str, deaths: int, names: list[str]) -> dict[str, Any]:
    """The outcome of a run whose group died too often: what the first rank to fail said, if one could still speak."""
    told = [storage.read_json(f"runs/{run}/attempts/{name}", {}) for name in names if ".rank-" in name]
    first = min(told, key=lambda record: record["at"], default={})
    cause = f"its worker group died {deaths} times while it was training"
    cause += f"; rank {first['rank']}: {first['cause']}" if first else f"; see the attempts in runs/{run}"
    return {"state": "failed", "cause": cause, "traceback": first.get("traceback")}


def _end(launch: Launch, run: str, start: dict[str, Any], world: World, outcome: dict[str, Any]) -> None:
    launch.check()
    known = {key: start[key] for key in ("attempt", "started_at", "host")}
    known |= {"ended_at": time.time(), "seconds": time.time() - start["started_at"]}
    known |= {"device": str(world.device), "workers": world.size}
    launch.storage.write_json(layout.outcome(run), known | outcome)


def _train_run(
    record: dict[str, Any], start: dict[str, Any], launch: Launch, world: World, config: dict[str, Any]
) -> dict[str, Any]:
    what = training_of(record)
    data = load_data(record, config["data_dir"])
    checkpoint = read_checkpoint(launch.storage, start["checkpoint"]) if start["checkpoint"] else None

    def notify(notice: Notice) -> None:
        config["hub"].notice.remote(notice)  # not waited for: the hub looks at storage too

    module = initialise(what, data, world.device)
    recorder = (
        Recorder(launch, record["run"], start["attempt"], what.epoch_steps, start["resumed_at"], module, notify)
        if world.rank == 0
        else None
    )
    with recorder or nullcontext():
        wrap = ray.train.torch.prepare_model if world.size > 1 else (lambda module: module)
        _, costs = train(what, data, recorder, world, wrap, checkpoint, config["checkpoint_seconds"])
    return {"state": "finished", "cause": None, **vars(costs)}


def load_data(record: dict[str, Any], data_dir: str | None) -> TaskData:
    """A run's data on this worker, checked to be those of the plan.

    Raises:
        UserError: Other data lie here than where the study was planned.
    """
    task = restore(record["config"])[0]
    data = _load(task, data_dir)
    if data.fingerprint != (planned := record["data"]["fingerprint"]):
        raise UserError(f"data on {host()}: {data.source}: fingerprint {data.fingerprint}, but {planned} was planned")
    return data


@lru_cache(maxsize=2)
def _load(task: Any, data_dir: str | None) -> TaskData:
    return task.load(Path(data_dir) if data_dir else None)
