"""What is to be measured, by whom it is being measured, and what has been: the hub's bookkeeping, without the actor.

Everything here can be rebuilt from storage: the plan, the snapshots that lie there and the rows already published.
"""

import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.layout import Notice, SnapshotName

TRIES = 3


@dataclass(frozen=True)
class Job:
    """One snapshot and what is still to be measured on it, by probe: the variables wanted."""

    run: str
    name: SnapshotName
    wanted: Mapping[str, tuple[str, ...]]
    tries: int = 0
    ticket: int = 0

    @property
    def key(self) -> tuple[str, int]:
        """Run and step: there is one present snapshot for each."""
        return self.run, self.name.step


@dataclass
class Ledger:
    """Hands out jobs and keeps each measurement from being made twice.

    Args:
        plan: The content of ``plan.json``.
    """

    plan: Mapping[str, Any]
    measured: dict[tuple[str, int], set[tuple[str, str, str]]] = field(default_factory=dict)
    waiting: "OrderedDict[tuple[str, int], Job]" = field(default_factory=OrderedDict)
    in_hand: dict[int, tuple[str, Job]] = field(default_factory=dict)  # by ticket: who has it, and what
    # A hub that starts again must not take a ticket of its predecessor's for one of its own: they start at the time.
    tickets: int = field(default_factory=time.time_ns)
    present: dict[tuple[str, int], SnapshotName] = field(default_factory=dict)  # the newest noticed, by run and step
    given_up: set[tuple[str, SnapshotName]] = field(default_factory=set)  # after three tries, for this launch
    failed: int = 0

    def __post_init__(self) -> None:
        self._runs = {run["run"]: run for run in self.plan["runs"]}
        self._schedules = {run["run"]: frozenset(run["schedule"]) for run in self.plan["runs"]}
        self._variables = {probe["probe"]: probe["variables"] for probe in self.plan["probes"]}

    def restore(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take over measurements that are on storage: those that succeeded, of the variables' present versions."""
        versions = self.plan["versions"]
        for row in rows:
            if row["state"] == "measured" and versions.get(row["variable"]) == row["version"]:
                self._done(row)

    def notice(self, notice: Notice) -> None:
        """A snapshot lies on storage: queue what is still to be measured on it. Saying it twice changes nothing."""
        if notice.run not in self._runs or notice.name.step not in self._schedules[notice.run]:
            return
        job = Job(notice.run, notice.name, self.missing(notice))
        if (job.run, job.name) in self.given_up or self.present.get(job.key, job.name).attempt > job.name.attempt:
            return
        self.present[job.key] = job.name
        if (known := self.waiting.get(job.key)) is not None and not _same(known, job):
            del self.waiting[job.key]  # of a snapshot that this one replaces
        in_hand = any(other.key == job.key and _same(other, job) for _, other in self.in_hand.values())
        if job.wanted and not in_hand:
            self.waiting.setdefault(job.key, job)

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
        """A job's rows are on storage. The job, if its snapshot has now been measured entirely."""
        _, job = self.in_hand.pop(ticket, ("", None))
        for row in rows:
            self._done(row)
        return job if job is not None and not self.missing(Notice(job.run, job.name)) else None

    def give_back(self, ticket: int, cause: str) -> list[dict[str, Any]]:
        """A prober failed or died: queue its job again, or after three tries the rows that say it failed."""
        _, job = self.in_hand.pop(ticket, ("", None))
        if job is None or self.present[job.key].checksum != job.name.checksum:
            return []  # nobody's, or of a snapshot that has been replaced meanwhile
        job = replace(job, tries=job.tries + 1)
        if job.tries < TRIES:
            self.waiting.setdefault(job.key, job)
            return []
        self.failed += 1
        self.given_up.add((job.run, job.name))
        return self._failed_rows(job, cause)

    def measured_by_run(self) -> dict[str, int]:
        """How many of the values planned for each run are on storage."""
        counts = dict.fromkeys(self._runs, 0)
        for (run, step), keys in self.measured.items():
            if run in counts and step in self._schedules[run]:
                planned = {(p, v) for p in self._runs[run]["probes"] for v in self._variables[p]}
                counts[run] += len(planned & {(probe, variable) for _, probe, variable in keys})
        return counts

    def unmeasured(self, run: str, present: Iterable[SnapshotName]) -> set[int]:
        """The scheduled steps of a run on which something is still to be measured, given its present snapshots."""
        names = {name.step: name for name in present}
        missing = {step for step in self._schedules[run] if step not in names}
        return missing | {s for s in self._schedules[run] - missing if self.missing(Notice(run, names[s]))}

    def missing(self, notice: Notice) -> dict[str, tuple[str, ...]]:
        """What is still to be measured on a snapshot: variables by probe."""
        done = self.measured.get((notice.run, notice.name.step), set())
        checksum = notice.name.checksum
        wanted = {
            probe: tuple(v for v in self._variables[probe] if (checksum, probe, v) not in done)
            for probe in self._runs[notice.run]["probes"]
        }
        return {probe: variables for probe, variables in wanted.items() if variables}

    @property
    def in_work(self) -> bool:
        """Something waits or is being measured, not only waiting to be stored."""
        return bool(self.waiting) or any(prober for prober, _ in self.in_hand.values())

    @property
    def idle(self) -> bool:
        """Nothing waits and nobody measures."""
        return not self.waiting and not self.in_hand

    def _done(self, row: Mapping[str, Any]) -> None:
        key = (row["checksum"], row["probe"], row["variable"])
        self.measured.setdefault((row["run"], row["step"]), set()).add(key)

    def _failed_rows(self, job: Job, cause: str) -> list[dict[str, Any]]:
        run, name = self._runs[job.run], job.name
        probes = {probe["probe"]: probe for probe in self.plan["probes"]}
        rows = []
        for probe, variables in job.wanted.items():
            about = {key: probes[probe][key] for key in ("split", "outputs", "draws", "size")}
            for variable in variables:
                row = {"run": job.run, "attempt": name.attempt, "step": name.step, "checksum": name.checksum}
                row |= {"epoch": name.step / run["epoch_steps"], "probe": probe, "variable": variable, **about}
                row |= {"version": self.plan["versions"][variable], "state": "failed", "cause": cause}
                rows.append(row | {"value": float("nan")})
        return rows


def _same(one: Job, other: Job) -> bool:
    return one.name.checksum == other.name.checksum
