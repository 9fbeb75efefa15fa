"""Training on Ray Train workers: a group of workers takes units of runs from the hub until there are no more.

A group is disposable: the runs' checkpoints and outcomes are on storage, and a group that Ray starts again goes on
where the last one was. A run's exception fails that run only (with several workers it ends the group, since the others
wait for gradients; of runs that train together it fails all); a run that was current at two deaths of its group is
failed and passed over. A storage that has no room is nobody's failure: the hub deals no more.
"""

import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any

import ray
import ray.exceptions
import ray.train
import ray.train.collective
import ray.train.torch
import torch

from tangentscope.pipeline.cluster.group import Group
from tangentscope.pipeline.config.components import restore
from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.store.layout import Notice
from tangentscope.pipeline.store.outcome import Ending
from tangentscope.pipeline.store.planned import PlannedRun
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.store.run_files import Attempt
from tangentscope.pipeline.system import logs, memory
from tangentscope.pipeline.system.errors import Fenced, Stopped, UserError, is_no_room, one_line
from tangentscope.pipeline.system.provenance import host
from tangentscope.pipeline.system.redaction import redacted
from tangentscope.pipeline.training import attempts
from tangentscope.pipeline.training.learner import Training, World, initialise, training_of
from tangentscope.pipeline.training.loop import Costs, train, train_together
from tangentscope.pipeline.training.recorder import Recorder
from tangentscope.pipeline.training.vectorised_trial import better_together
from tangentscope.tasks import Game, TaskData


def train_units(group: Group) -> None:
    """What each worker of a group does."""
    context = ray.train.get_context()
    world = World(context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device())
    memory.keep_freed()
    torch.set_num_threads(group.pool.cpu)
    planned = Store(group.launch.storage).plan.run_of
    try:
        while unit := _shared(world, group.next):
            for runs, together in _portions(group, [planned[run] for run in unit], world):
                if begun := _shared(world, lambda r=runs, t=together: _begin(group, r, t)):
                    _attempt(group, world, [planned[attempt.run] for attempt in begun], begun)
    except (Stopped, Fenced):
        # Alone, there is nothing more to do. Of several ranks this one may be the only one to know, while the others
        # wait for its gradients: the error ends them all, and a new group sees for itself that it is not wanted.
        if world.size > 1:
            raise
    except OSError as error:
        if not is_no_room(error):
            raise
        ray.get(group.hub.halt.remote(str(error)))
        if world.size > 1:
            raise


def _shared(world: World, decide: Callable[[], Any]) -> Any:
    """Rank 0's decision, on every rank."""
    if world.size == 1:
        return decide()
    return ray.train.collective.broadcast_from_rank_zero(decide() if world.rank == 0 else None)


def _portions(group: Group, planned: Sequence[PlannedRun], world: World) -> Iterator[tuple[Sequence[str], bool]]:
    """A unit's runs in parts that train at once, and whether that is in one pass over all of them."""
    if len(planned) == 1:  # which a game always is, see `tangentscope.pipeline.training.groups`
        yield [planned[0].id], bool(attempts.is_together(group.launch.storage, planned[0].id))
        return
    storage = group.launch.storage
    left = [run for run in planned if not storage.exists(run_files.outcome(run.id))]
    modes = {run.id: attempts.is_together(storage, run.id) for run in left}
    if new := [run for run in left if modes[run.id] is None]:
        modes |= dict.fromkeys((run.id for run in new), _try(group, new, world))
    at_step: dict[int, list[str]] = defaultdict(list)
    for run in (run for run, together in modes.items() if together):
        at_step[attempts.resume_point(storage, run)[0]].append(run)
    yield from ((runs, True) for runs in at_step.values())
    yield from (([run], False) for run, together in modes.items() if not together)


def _try(group: Group, planned: Sequence[PlannedRun], world: World) -> bool:
    try:
        data = load_data(planned[0], group.data_dir)
    except Exception:  # each run will say it for itself
        return False
    return better_together([training_of(run) for run in planned], data, world.device)


def _begin(group: Group, runs: Sequence[str], together: bool) -> list[Attempt]:
    begun = (attempts.begin(group.launch, run, together, group.start) for run in runs)
    return [attempt for attempt in begun if attempt is not None]


def _attempt(group: Group, world: World, planned: Sequence[PlannedRun], begun: Sequence[Attempt]) -> None:
    """Train runs, all in one pass if there are several, and say how each ended."""
    launch = group.launch
    try:
        with logs.kept() as log:
            try:
                endings = _train(group, world, planned, begun)
            finally:
                for attempt in begun if world.rank == 0 else ():
                    attempts.keep_log(launch, attempt, log.text)
    except (Stopped, Fenced):
        raise
    except ray.exceptions.RayActorError:  # of those beside this worker: a new group goes on from the checkpoint
        raise
    except Exception as error:
        if is_no_room(error):
            raise
        failed = Ending("failed", one_line(error), redacted(traceback.format_exc()))
        if world.size > 1:
            # It may be this run's own mistake, or what a rank is told when another one dies: which, two deaths tell.
            attempts.keep_cause(launch, begun[0], world.rank, failed)
            raise
        endings = [failed] * len(begun)
    if world.rank == 0:
        for attempt, ending in zip(begun, endings, strict=True):
            attempts.end(launch, attempt, world, ending)


def _train(group: Group, world: World, planned: Sequence[PlannedRun], begun: Sequence[Attempt]) -> list[Ending]:
    """How each ended. Raises Stopped if there are none, because the launch stops or other ranks have to be told."""
    launch, pace = group.launch, group.pool.checkpoint_seconds
    whats = [training_of(run) for run in planned]
    data = load_data(planned[0], group.data_dir)
    found = [attempts.read_checkpoint(launch.storage, attempt) for attempt in begun]
    checkpoints = [checkpoint for checkpoint in found if checkpoint is not None] if begun[0].resumed_at else None

    def notify(notice: Notice) -> None:
        group.hub.notice.remote(notice)  # not waited for: the hub looks at storage too

    with ExitStack() as stack:
        recorders: list[Recorder | None] = [None] * len(begun)
        if world.rank == 0:
            for k, (what, attempt) in enumerate(zip(whats, begun, strict=True)):
                module = initialise(what, data, world.device)
                recorder = Recorder(
                    launch, attempt.run, attempt.attempt, what.epoch_steps, attempt.resumed_at, module, notify
                )
                recorders[k] = stack.enter_context(recorder)
        if isinstance(whats[0].task, Game):
            costs = [_play(group, whats[0], data, recorders[0], world.device, found[0])]
        elif begun[0].together:
            _, costs = train_together(whats, data, recorders, world.device, checkpoints, pace)
        else:
            wrap = ray.train.torch.prepare_model if world.size > 1 else (lambda module: module)
            try:
                costs = [train(whats[0], data, recorders[0], world, wrap, found[0], pace)[1]]
            except Stopped:
                costs = [None]
    if None in costs and (launch.stopping or world.size > 1):
        # Of several ranks only this one knows; the error ends them all, and a new group sees for itself.
        raise Stopped
    return [attempts.STOPPED if cost is None else Ending("finished", costs=vars(cost)) for cost in costs]


def _play(
    group: Group,
    what: Training,
    data: TaskData,
    recorder: Recorder | None,
    device: torch.device,
    checkpoint: bytes | None,
) -> Costs | None:
    """What a training by playing cost; None if it was asked to stop."""
    # RLlib takes seconds to load, and who trains on data needs nothing of it.
    from tangentscope.pipeline.cluster.games import train_by_playing

    try:
        return train_by_playing(what, data, recorder, device, checkpoint, group.pool)[1]
    except Stopped:
        return None


def load_data(run: PlannedRun, data_dir: str | None) -> TaskData:
    """A run's data on this worker, checked to be those of the plan.

    Raises:
        UserError: Other data lie here than where the study was planned.
    """
    task = restore(run.config)[0]
    data = _load(task, data_dir)
    if data.fingerprint != (planned := run.data.fingerprint):
        raise UserError(f"data on {host()}: {data.source}: fingerprint {data.fingerprint}, but {planned} was planned")
    return data


@lru_cache(maxsize=2)
def _load(task: Any, data_dir: str | None) -> TaskData:
    return task.load(Path(data_dir) if data_dir else None)
