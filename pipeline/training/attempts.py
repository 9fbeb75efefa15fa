"""Attempts at runs: how one begins, from where it resumes, and what is told of its end. All of it lies on storage."""

import logging
import os
import time
from collections.abc import Sequence
from contextlib import suppress

from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.store.checkpoints import checkpoint_fault, state_in
from tangentscope.pipeline.store.faults import set_aside
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.launch import Launch
from tangentscope.pipeline.store.outcome import Ending, Outcome
from tangentscope.pipeline.store.run_files import Attempt
from tangentscope.pipeline.system.provenance import host
from tangentscope.pipeline.training.learner import World

_LOG = logging.getLogger(__name__)
DEATHS = 2
STOPPED = Ending("stopped", "stopped on request")


def is_together(storage: Storage, run: str) -> bool | None:
    """Whether a run trains together with others; None if nobody has begun it."""
    earlier = run_files.attempts(storage, run)
    return earlier[0].together if earlier else None


def resume_point(storage: Storage, run: str) -> tuple[int, str | None]:
    """Step and name of the checkpoint from which a run goes on; 0 and None at its start.

    One that is damaged or of another run or step is set aside, with a note: an older one or the start serves as well,
    and the replay is told apart.
    """
    while newest := run_files.newest_checkpoint(storage, run):
        if (fault := checkpoint_fault(storage, run, *newest)) is None:
            return newest
        _LOG.warning("%s; set aside, training goes on from an earlier checkpoint or from its start", fault)
        set_aside(storage, fault)
    return 0, None


def read_checkpoint(storage: Storage, attempt: Attempt) -> bytes | None:
    """What an attempt resumes from, for `torch.load`; None if it begins at the start."""
    return None if attempt.checkpoint is None else state_in(storage.read(attempt.checkpoint))


def begin(launch: Launch, run: str, together: bool = False, start: int = 0) -> Attempt | None:
    """Open an attempt at a run; None if there is nothing (more) to do for it."""
    storage = launch.storage
    if launch.stopping or storage.exists(run_files.outcome(run)):
        return None
    earlier = run_files.attempts(storage, run)
    attempt = _next(launch, run, earlier, *resume_point(storage, run), together, start)
    if storage.exists(run_files.stop(run)):
        end(launch, attempt, World(), STOPPED)
        return None
    deaths = _deaths(launch, earlier, start)
    if deaths >= DEATHS:
        end(launch, attempt, World(), _cause_of_death(storage, run, deaths))
        return None
    _open(launch, attempt)
    return attempt


def begin_anew(launch: Launch, run: str, step: int) -> Attempt:
    """Open an attempt, from this step on, at a run of which the launch does not ask whether there is more to do."""
    attempt = _next(launch, run, run_files.attempts(launch.storage, run), step)
    _open(launch, attempt)
    return attempt


def end(launch: Launch, attempt: Attempt, world: World, ending: Ending) -> None:
    """Say how a run ended."""
    launch.check()
    now = time.time()
    outcome = Outcome(
        ending.state,
        now,
        started_at=attempt.started_at,
        seconds=now - attempt.started_at,
        attempt=attempt.attempt,
        host=attempt.host,
        device=str(world.device),
        workers=world.size,
    ).ended(ending)
    launch.storage.write_json(run_files.outcome(attempt.run), outcome.to_json())


def keep_log(launch: Launch, attempt: Attempt, log: str) -> None:
    """Keep what a training said, if it said anything."""
    if log:
        with suppress(OSError):  # a full disk has worse to say than a log
            launch.storage.write(run_files.attempt(attempt.run, attempt.attempt, "log"), log.encode())


def keep_cause(launch: Launch, attempt: Attempt, rank: int, ending: Ending) -> None:
    """Keep what one of several ranks died of, for the outcome if the run's group dies too often."""
    launch.check()
    cause = {"state": ending.state, "cause": ending.cause, "traceback": ending.traceback}
    file = run_files.attempt(attempt.run, attempt.attempt, f"rank-{rank}")
    launch.storage.write_json(file, {**cause, "at": time.time(), "rank": rank})


def _next(
    launch: Launch,
    run: str,
    earlier: Sequence[Attempt],
    step: int,
    checkpoint: str | None = None,
    together: bool = False,
    start: int = 0,
) -> Attempt:
    number = 1 + max((each.attempt for each in earlier), default=0)
    return Attempt(run, number, launch.epoch, time.time(), host(), os.getpid(), step, checkpoint, together, start)


def _open(launch: Launch, attempt: Attempt) -> None:
    launch.check()
    launch.storage.write_json(run_files.attempt(attempt.run, attempt.attempt), attempt.to_json())


def _deaths(launch: Launch, earlier: Sequence[Attempt], start: int) -> int:
    """How often a run was current when its worker group died, in this launch.

    What ended a start of the group, a death beside its workers, took the run along that was current:
    no blame of its own. Nor of what ended an earlier launch.
    """
    starts = [each.start for each in earlier if each.launch == launch.epoch]
    return len(starts) - len({*starts} - {start})


def _cause_of_death(storage: Storage, run: str, deaths: int) -> Ending:
    """The end of a run whose group died too often: what the first rank to fail said, if one could still speak."""
    first = min(run_files.causes(storage, run), key=lambda record: record["at"], default={})
    cause = f"its worker group died {deaths} times while it was training"
    seen = f"see the attempts in {run_files.folder(run)}"
    cause += f"; rank {first['rank']}: {first['cause']}" if first else f"; {seen}"
    return Ending("failed", cause, first.get("traceback"))
