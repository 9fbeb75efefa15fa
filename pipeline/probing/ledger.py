"""What is to be measured, by whom it is being measured, and what has been: the hub's bookkeeping, without the actor.

All of it can be rebuilt from storage: the plan, the snapshots that lie there and the rows already published.

Some variables compare a network with an earlier one of its run, of step 0 (``initial``) or of the scheduled step before
(``previous``): once that snapshot can be read, which is not given back before. Their rows say which snapshots they
compared with: where a replay or another schedule puts others in their place, the comparison is made anew.
"""

import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tangentscope.pipeline.store.failures import FAILED, stands
from tangentscope.pipeline.store.layout import Notice, SnapshotName
from tangentscope.pipeline.store.plan import Plan
from tangentscope.pipeline.store.rows import Row, unmeasured_rows
from tangentscope.pipeline.store.run_files import superseded
from tangentscope.pipeline.store.tables import NOTHING

TRIES = 3


@dataclass(frozen=True)
class Job:
    """One snapshot and what is still to be measured on it, by probe: the variables wanted.

    `earlier` are the snapshots that these compare with, ``initial`` and ``previous``; at the first step there is no
    previous one.
    """

    run: str
    name: SnapshotName
    wanted: Mapping[str, tuple[str, ...]]
    earlier: Mapping[str, SnapshotName] = field(default_factory=dict)
    tries: int = 0
    ticket: int = 0

    @property
    def key(self) -> tuple[str, int]:
        """Run and step: there is one present snapshot for each."""
        return self.run, self.name.step


def compared_with(ways: Iterable[str], earlier: Mapping[str, SnapshotName]) -> str | None:
    """What the row of a variable says that compares in these ways, ``initial`` and ``previous``; None if in none."""
    if not (ways := tuple(ways)):
        return None
    return " ".join(f"{earlier[way].step}-{earlier[way].checksum}" for way in ways if way in earlier) or NOTHING


@dataclass
class Ledger:
    """Hands out jobs and keeps each measurement from being made twice.

    Args:
        plan: The study's.
    """

    plan: Plan
    measured: dict[tuple[str, int], set[tuple[str, str, str, str | None]]] = field(default_factory=dict)
    waiting: "OrderedDict[tuple[str, int], Job]" = field(default_factory=OrderedDict)
    in_hand: dict[int, tuple[str, Job]] = field(default_factory=dict)  # by ticket: who has it, and what
    # A hub that starts again must not take a ticket of its predecessor's for one of its own: they start at the time.
    tickets: int = field(default_factory=time.time_ns)
    present: dict[tuple[str, int], SnapshotName] = field(default_factory=dict)  # the newest noticed, by run and step
    replayed: dict[str, dict[int, int]] = field(default_factory=dict)  # by run, as `run_files.replays`; those seen here
    given_up: set[tuple[str, SnapshotName]] = field(default_factory=set)  # after three tries, for this launch
    # What failed, as in `measured` but for what it compares with: nobody tries it before a `retry`, or, interrupted,
    # in this launch.
    failures: dict[tuple[str, int], set[tuple[str, str, str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._counts: dict[tuple[str, int], tuple[int, ...]] = {}
        runs = self.plan.runs
        self._wanted = {run.id: self.plan.wanted(run) for run in runs}
        self._previous = {run.id: dict(zip(run.schedule[1:], run.schedule, strict=False)) for run in runs}
        self._compares = self.plan.compares
        self._ways = {way for ways in self._compares.values() for way in ways}

    def restore(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take over rows that are on storage, of the variables' present versions: measured, or failed since a retry."""
        versions = self.plan.versions
        for row in rows:
            if versions.get(row["variable"]) != row["version"]:
                continue
            if row["state"] == "measured":
                self._done(row)
            elif stands(row, self.plan):
                self._failed(row)

    def notice(self, notice: Notice) -> None:
        """A snapshot lies on storage, or its tombstone: queue what is still to be measured on it and compared with it.

        Saying it twice changes nothing.
        """
        run, name = notice.run, notice.name
        if name.step not in self._wanted.get(run, ()):
            return
        known = self.present.get((run, name.step), name)
        if known.attempt > name.attempt or superseded(name.attempt, name.step, self.replayed.get(run, {})):
            return
        if known.checksum != name.checksum:
            self.leave(run, {name.attempt: name.step - 1})
        news = self.present.get((run, name.step)) != name
        self.present[run, name.step] = name
        for step in (name.step, *(self._comparing(run, name.step) if news else ())):
            self._queue(run, step)

    def leave(self, run: str, replayed: Mapping[int, int]) -> None:
        """Attempts left their predecessors' trajectory, by attempt the step after which: nothing beyond it counts.

        Told of what storage knows (`store.run_files.replays`), because the notice that would have shown it can be lost.
        """
        known = self.replayed.setdefault(run, {})
        for attempt, after in replayed.items():
            known[attempt] = min(known.get(attempt, after), after)
        for step in self._wanted.get(run, ()):
            if superseded(self._at(run, step).attempt, step, known):
                for place in (self.present, self.waiting, self.measured, self.failures, self._counts):
                    place.pop((run, step), None)

    def take(self, prober: str) -> Job | None:
        """The job that has waited longest, now in this prober's hands; None if nothing waits."""
        if not self.waiting:
            return None
        _, job = self.waiting.popitem(last=False)
        self.tickets += 1
        job = replace(job, ticket=self.tickets)
        self.in_hand[job.ticket] = prober, job
        return job

    def held_by(self, prober: str) -> list[int]:
        """Tickets of the jobs in a prober's hands."""
        return [ticket for ticket, (holder, _) in self.in_hand.items() if holder == prober]

    def deliver(self, ticket: int) -> None:
        """A job's rows have come; its prober has nothing more to do with it, even if it dies before they are stored."""
        if ticket in self.in_hand:
            self.in_hand[ticket] = "", self.in_hand[ticket][1]

    def settle(self, ticket: int, rows: Iterable[Mapping[str, Any]]) -> Job | None:
        """A job's rows are on storage. The job, if it was still somebody's."""
        _, job = self.in_hand.pop(ticket, ("", None))
        for row in rows:
            if row["state"] == "measured":
                self._done(row)
            else:  # this variable alone could not be computed
                self._failed(row)
        if job is not None:
            self._queue(*job.key)  # what it compares with may have come, or have been replaced, meanwhile
        return job

    def give_back(self, ticket: int, cause: str, state: str = FAILED) -> list[Row]:
        """A prober failed or died: queue its job again, or after three tries the rows that say so, of this state."""
        _, job = self.in_hand.pop(ticket, ("", None))
        if job is None or self._at(*job.key).checksum != job.name.checksum:
            return []  # nobody's, or of a snapshot that has been replaced meanwhile
        job = replace(job, tries=job.tries + 1)
        if job.tries < TRIES:
            self.waiting.setdefault(job.key, job)
            return []
        self.given_up.add((job.run, job.name))
        run = self.plan.run_of[job.run]
        rows = unmeasured_rows(self.plan, run, job.name, job.wanted, cause, state)
        for row in rows:
            self._failed(row)
        return rows

    def measured_by_run(self) -> dict[str, int]:
        """How many of the values planned for each run are on storage."""
        return {run: sum(self._counts_of(run, step)[0] for step in steps) for run, steps in self._wanted.items()}

    def failed_by_run(self) -> dict[str, int]:
        """How many of the values planned for each run have failed, and were not measured by another try."""
        return {run: sum(self._counts_of(run, step)[1] for step in steps) for run, steps in self._wanted.items()}

    def _counts_of(self, run: str, step: int) -> tuple[int, ...]:
        """Measured and failed values of a step; counted again only once there is something new of it."""
        if (run, step) not in self._counts:
            planned = {(p, v) for p, variables in self._wanted[run][step].items() for v in variables}
            done = {key[:3] for key in self.measured.get((run, step), ())}
            lost = self.failures.get((run, step), set()) - done
            self._counts[run, step] = tuple(len(planned & {key[1:] for key in keys}) for keys in (done, lost))
        return self._counts[run, step]

    def missing(self, run: str, step: int) -> dict[str, tuple[str, ...]]:
        """What is still to be measured on the snapshot of a step: variables by probe."""
        done, checksum = self.measured.get((run, step), set()), self._at(run, step).checksum
        tags = self.tags(run, step)
        missing = {
            probe: tuple(v for v in variables if (checksum, probe, v, tags.get(v)) not in done)
            for probe, variables in self._wanted[run].get(step, {}).items()
        }
        return {probe: variables for probe, variables in missing.items() if variables}

    def tags(self, run: str, step: int) -> dict[str, str | None]:
        """What rows of a step say that they compare with, by variable that compares."""
        earlier = self._earlier(run, step)
        return {variable: compared_with(ways, earlier) for variable, ways in self._compares.items()}

    def open(self, run: str, step: int) -> dict[str, tuple[str, ...]]:
        """What of the missing is still to be tried: it has not failed three times."""
        failed, checksum = self.failures.get((run, step), set()), self._at(run, step).checksum
        missing = self.missing(run, step).items()
        left = {p: tuple(v for v in variables if (checksum, p, v) not in failed) for p, variables in missing}
        return {p: variables for p, variables in left.items() if variables}

    def to_read(self, run: str) -> set[int]:
        """The steps of a run whose snapshots are still to be read: to be measured or to compare with."""
        found: set[int] = set()
        for step in self._wanted[run]:
            if left := self.open(run, step):
                earlier = self._earlier(run, step)
                found |= {step, *(earlier[way].step for way in self._ways_of(left) if way in earlier)}
        return found

    def to_free(self, run: str, steps: Iterable[int]) -> list[SnapshotName]:
        """Of the snapshots of these steps and those they compare with: what need not be kept and nobody will read."""
        if self.plan.keep == "all":
            return []
        kept = {0, self.plan.run_of[run].steps} if self.plan.keep == "ends" else set()
        names = {n for step in steps for n in (self._at(run, step), *self._earlier(run, step).values())}
        return [n for n in sorted(names) if not n.freed and n.step not in kept and self._is_spent(run, n.step)]

    @property
    def in_work(self) -> bool:
        """Something waits or is being measured, not only waiting to be stored."""
        return bool(self.waiting) or any(prober for prober, _ in self.in_hand.values())

    @property
    def idle(self) -> bool:
        """Nothing waits and nobody measures."""
        return not self.waiting and not self.in_hand

    def _done(self, row: Mapping[str, Any]) -> None:
        tag = row["compared_with"] if row["variable"] in self._compares else None
        key = (row["checksum"], row["probe"], row["variable"], tag)
        self.measured.setdefault((row["run"], row["step"]), set()).add(key)
        self._counts.pop((row["run"], row["step"]), None)

    def _failed(self, row: Mapping[str, Any]) -> None:
        key = (row["checksum"], row["probe"], row["variable"])
        self.failures.setdefault((row["run"], row["step"]), set()).add(key)
        self._counts.pop((row["run"], row["step"]), None)

    def _queue(self, run: str, step: int) -> None:
        """Queue what is to be measured on the present snapshot of a step and can be, unless somebody has it in hand."""
        name, earlier = self._at(run, step), self._earlier(run, step)
        if name.freed or (run, name) in self.given_up:
            return
        lost = {way for way, other in earlier.items() if other.freed}
        possible = {
            probe: tuple(v for v in variables if lost.isdisjoint(self._compares.get(v, ())))
            for probe, variables in self.open(run, step).items()
        }
        left = {probe: variables for probe, variables in possible.items() if variables}
        ways = self._ways_of(left)
        job = Job(run, name, left, {way: other for way, other in earlier.items() if way in ways})
        in_hand = any(
            other.key == job.key and other.name.checksum == name.checksum for _, other in self.in_hand.values()
        )
        if left and not in_hand:
            known = self.waiting.get(job.key)
            self.waiting[job.key] = replace(job, tries=known.tries) if known else job

    def _at(self, run: str, step: int) -> SnapshotName:
        """The present snapshot of a step; where none has been noticed, one that nobody can read or has measured."""
        return self.present.get((run, step), SnapshotName(step, 0, "", freed=True))

    def _earlier(self, run: str, step: int) -> dict[str, SnapshotName]:
        """The snapshots that variables of the plan compare that of a step with; at step 0 the initial one is itself."""
        steps = {"initial": next(iter(self._wanted[run])), "previous": self._previous[run].get(step)}
        return {way: self._at(run, s) for way, s in steps.items() if way in self._ways and s is not None}

    def _comparing(self, run: str, step: int) -> tuple[int, ...]:
        """The later steps of which something compares with this one."""
        later = tuple(s for s in self._wanted[run] if s > step)
        if "initial" in self._ways and step == next(iter(self._wanted[run])):
            return later
        return tuple(s for s in later if self._previous[run].get(s) == step) if "previous" in self._ways else ()

    def _is_spent(self, run: str, step: int) -> bool:
        # The latest first: it is the one most likely to be missing.
        return not any(self.missing(run, s) for s in (*reversed(self._comparing(run, step)), step))

    def _ways_of(self, left: Mapping[str, tuple[str, ...]]) -> set[str]:
        return {way for variables in left.values() for v in variables for way in self._compares.get(v, ())}
