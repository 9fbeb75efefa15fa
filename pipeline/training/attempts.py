"""Attempts at runs: how one begins, from where it resumes, and what is told of its end. All of it lies on storage."""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from tangentscope.pipeline.store import layout, records
from tangentscope.pipeline.store.checkpoints import checkpoint_fault, state_in
from tangentscope.pipeline.store.faults import set_aside
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.launch import Launch
from tangentscope.pipeline.system.provenance import host
from tangentscope.pipeline.training.learner import World

_LOG = logging.getLogger(__name__)
DEATHS = 2
STOPPED = {"state": "stopped", "cause": "stopped on request"}


@dataclass(frozen=True)
class Attempt:
    """One start of a run's training, as its file has it.

    `together` says whether the run trains in one pass with others of its kind. The first attempt settles it for all.
    `start` counts how often the launch had started the worker group again that trains it.
    """

    run: str
    attempt: int
    launch: int
    started_at: float
    host: str
    pid: int
    resumed_at: int  # step
    checkpoint: str | None  # name of its file
    together: bool = False
    start: int = 0

    @property
    def place(self) -> str:
        """What the names of its files begin with."""
        return f"runs/{self.run}/attempts/{self.attempt:04d}"


def is_together(storage: Storage, run: str) -> bool | None:
    """Whether a run trains together with others; None if nobody has begun it."""
    names = _names(storage, run)
    return bool(records.read(storage, names[0], "attempt", {}).get("together")) if names else None


def resume_point(storage: Storage, run: str) -> tuple[int, str | None]:
    """Step and name of the checkpoint from which a run goes on; 0 and None at its start.

    One that is damaged or of another run or step is set aside, with a note: an older one or the start serves as well,
    and the replay is told apart.
    """
    while newest := layout.newest_checkpoint(storage, run):
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
    if launch.stopping or storage.exists(layout.outcome(run)):
        return None
    earlier = [records.read(storage, name, "attempt", {}) for name in _names(storage, run)]
    number = 1 + max((record.get("attempt", 0) for record in earlier), default=0)
    point = resume_point(storage, run)
    attempt = Attempt(run, number, launch.epoch, time.time(), host(), os.getpid(), *point, together, start)
    if storage.exists(layout.stop(run)):
        end(launch, attempt, World(), STOPPED)
        return None
    deaths = _deaths(launch, earlier, start)
    if deaths >= DEATHS:
        end(launch, attempt, World(), _cause_of_death(storage, run, deaths))
        return None
    launch.check()
    storage.write_json(f"{attempt.place}.json", asdict(attempt))
    return attempt


def end(launch: Launch, attempt: Attempt, world: World, outcome: Mapping[str, Any]) -> None:
    """Say how a run ended: `outcome` has its ``state`` and ``cause``."""
    launch.check()
    now = time.time()
    known = {"attempt": attempt.attempt, "started_at": attempt.started_at, "host": attempt.host}
    known |= {"ended_at": now, "seconds": now - attempt.started_at}
    known |= {"device": str(world.device), "workers": world.size}
    launch.storage.write_json(layout.outcome(attempt.run), known | dict(outcome))


def keep_log(launch: Launch, attempt: Attempt, log: str) -> None:
    """Keep what a training said, if it said anything."""
    if log:
        with suppress(OSError):  # a full disk has worse to say than a log
            launch.storage.write(f"{attempt.place}.log", log.encode())


def keep_cause(launch: Launch, attempt: Attempt, rank: int, outcome: Mapping[str, Any]) -> None:
    """Keep what one of several ranks died of, for the outcome if the run's group dies too often."""
    launch.check()
    launch.storage.write_json(f"{attempt.place}.rank-{rank}", {**outcome, "at": time.time(), "rank": rank})


def _deaths(launch: Launch, earlier: Sequence[Mapping[str, Any]], start: int) -> int:
    """How often a run was current when its worker group died, in this launch.

    What ended a start of the group, a death beside its workers, took the run along that was current:
    no blame of its own. Nor of what ended an earlier launch.
    """
    starts = [record.get("start", 0) for record in earlier if record.get("launch") == launch.epoch]
    return len(starts) - len({*starts} - {start})


def _cause_of_death(storage: Storage, run: str, deaths: int) -> dict[str, Any]:
    """The outcome of a run whose group died too often: what the first rank to fail said, if one could still speak."""
    told = [records.read(storage, name, "rank") for name in _names(storage, run, ".rank-")]
    first = min(told, key=lambda record: record["at"], default={})
    cause = f"its worker group died {deaths} times while it was training"
    cause += f"; rank {first['rank']}: {first['cause']}" if first else f"; see the attempts in runs/{run}"
    return {"state": "failed", "cause": cause, "traceback": first.get("traceback")}


def _names(storage: Storage, run: str, kind: str = ".json") -> list[str]:
    found = (name for name in storage.list(f"runs/{run}/attempts") if kind in name)
    return [f"runs/{run}/attempts/{name}" for name in sorted(found)]
