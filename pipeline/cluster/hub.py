"""The hub: one actor that hands runs to worker groups and snapshots to probers, and publishes what they measured.

It is the one writer of measurements. It holds nothing that storage does not: when it dies, Ray starts it again and it
rebuilds its ledger from the plan, the snapshots and the rows already published.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from statistics import fmean
from typing import Any

from tangentscope.pipeline.probing.ledger import Job
from tangentscope.pipeline.probing.settled import ledger_of, settled
from tangentscope.pipeline.store import run_files, tables
from tangentscope.pipeline.store.failures import state_of
from tangentscope.pipeline.store.launch import Launch
from tangentscope.pipeline.store.layout import Notice
from tangentscope.pipeline.store.plan import count_values
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.store.status import HubStatus
from tangentscope.pipeline.store.tables import Rows
from tangentscope.pipeline.system.errors import is_no_room, no_room
from tangentscope.pipeline.system.redaction import redacted
from tangentscope.pipeline.training.groups import Unit
from tangentscope.pipeline.training.queue import Dealer

_RESCAN_SECONDS = 10.0
_LATEST = 20  # jobs that tell how long the next ones will take
_PATIENCE_SECONDS = 60.0  # with a storage that takes nothing, once all else is done


class Hub:
    """The hub's methods, each called from other processes; made an actor by the scheduler.

    Args:
        launch: The right to publish.
        units: The runs to train, in portions for worker groups.
    """

    def __init__(self, launch: Launch, units: Sequence[Unit] = ()) -> None:
        self.launch, self.storage = launch, launch.storage
        self._dealer, self._dealing = Dealer(launch, units), asyncio.Lock()
        self._groups: set[int] = set()  # that have asked
        store = Store(self.storage)
        self.plan = store.plan
        rows, names = store.recorded(), store.snapshot_names()
        whole = settled(self.plan, rows, names, store.outcomes())
        # A loop of a user's own may go through a training that has ended once more.
        whole -= {run.id for run in self.plan.runs if run.is_attached}
        at_work = set(self.plan.run_of) - whole
        # All of these runs' values are measured, and no more is to be done for them: nothing of them is looked at.
        self._whole = {run.id: count_values(self.plan.wanted(run)) for run in self.plan.runs if run.id in whole}
        # Those at rest are not measured: their networks are not here.
        self._to_scan = [run.id for run in self.plan.runs if run.id in at_work and not run.at_rest]
        self.ledger = ledger_of(self.plan, rows, at_work)
        self._delivered: list[tuple[int, Rows]] = []
        self._failed: list[dict[str, Any]] = []
        self._changed = asyncio.Condition()
        self._lives: dict[str, str] = {}
        self._taken: dict[int, float] = {}  # when, by ticket
        self._took: deque[float] = deque(maxlen=_LATEST)  # seconds of a job
        self._closed = False
        self._begun = time.monotonic()
        self._publishing = asyncio.Lock()
        self._trouble: str | None = None
        self._halted: str | None = None  # why no more runs are dealt
        self._troubled_since: float | None = None
        self._task = asyncio.get_event_loop().create_task(self._publish_for_ever())

    async def next_unit(self, group: int) -> Unit:
        """The runs that a worker group is to train now; empty when there are no more."""
        self._groups.add(group)
        async with self._dealing:
            try:
                return () if self._halted else await asyncio.to_thread(self._dealer.deal, group)
            except OSError as error:
                if not is_no_room(error):
                    raise
                self._halted = str(error)
                return ()

    async def halt(self, cause: str) -> None:
        """Deal no more runs: a worker group has nowhere to put what it makes."""
        self._halted = cause

    async def notice(self, notice: Notice) -> None:
        """A snapshot lies on storage."""
        replayed = {}
        if notice.name.attempt > 1:  # only a later attempt can have left the trajectory
            replayed = await asyncio.to_thread(run_files.replays, self.storage, notice.run)
        async with self._changed:
            self.ledger.leave(notice.run, replayed)
            self.ledger.notice(notice)
            self._changed.notify_all()
        await self._free([(notice.run, notice.name.step)])

    async def rescan(self, run: str) -> None:
        """Look for snapshots of a run whose notice was lost."""
        names = await asyncio.to_thread(run_files.current_snapshots, self.storage, run)
        async with self._changed:
            for name in names:
                self.ledger.notice(Notice(run, name))
            self._changed.notify_all()
        await self._free([(run, name.step) for name in names])  # a freeing may have been cut short

    async def hello(self, prober: str, life: str) -> None:
        """A prober starts, maybe again after its death: what it had in hand in an earlier life goes back."""
        async with self._changed:
            self._lives[prober] = life
            self._changed.notify_all()
        for ticket in self.ledger.held_by(prober):
            cause = "the prober's process died while it was measuring (out of memory?)"
            await self.give_back(ticket, cause, state_of(None))

    async def take(self, prober: str, life: str) -> Job | None:
        """Wait for a job; None when there will be no more."""
        async with self._changed:
            # A call outlives its caller: one that a dead prober left waiting must not take a job into its grave.
            self._lives.setdefault(prober, life)
            await self._changed.wait_for(lambda: self._closed or self.ledger.waiting or self._lives[prober] != life)
            job = None if self._closed or self._lives[prober] != life else self.ledger.take(prober)
            if job is not None:
                self._taken[job.ticket] = time.monotonic()
            return job

    async def deliver(self, ticket: int, rows: Rows) -> None:
        """A prober's rows for a job; they count as measured once they are on storage."""
        self.ledger.deliver(ticket)
        if ticket in self._taken:  # else another hub, now dead, handed it out
            self._took.append(time.monotonic() - self._taken.pop(ticket))
        self._delivered.append((ticket, rows))

    async def give_back(self, ticket: int, cause: str, state: str) -> None:
        """A job that could not be measured; what is then said of it, see `tangentscope.pipeline.store.failures`."""
        self._taken.pop(ticket, None)
        async with self._changed:
            now = time.time()
            self._failed += [row | {"recorded_at": now} for row in self.ledger.give_back(ticket, cause, state)]
            self._changed.notify_all()

    async def drain(self) -> None:
        """Return once every snapshot on storage has been measured or has failed, and all rows are on storage.

        Raises:
            Stopped: Storage has taken nothing for a minute.
        """
        for run in self._to_scan:
            await self.rescan(run)
        while not (self.ledger.idle and not self._delivered and not self._failed):
            if not self.ledger.in_work:
                await self._publish()  # the last rows need not wait for their turn
            if self._troubled_since and time.monotonic() - self._troubled_since > _PATIENCE_SECONDS:
                raise no_room(str(self._trouble))
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        """Send the probers home and publish what they delivered."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()
        await self._publish()

    async def status(self) -> HubStatus:
        """Counts, and what is wrong."""
        waiting = len(self.ledger.waiting)
        return HubStatus(
            groups=len(self._groups),
            waiting=waiting,
            backlog=waiting * self._seconds_a_job,
            in_hand=len(self.ledger.in_hand),
            measured=self._whole | self.ledger.measured_by_run(),
            failed=self.ledger.failed_by_run(),
            trouble=self._trouble,
            halted=self._halted,
        )

    @property
    def _seconds_a_job(self) -> float:
        """As the latest ones took, and at least as long as any has been in hand."""
        now = time.monotonic()
        return max([fmean(self._took or [0.0]), *(now - begun for begun in self._taken.values())])

    async def _publish_for_ever(self) -> None:
        scanned = time.monotonic()
        while True:
            now = time.monotonic()
            await asyncio.sleep(tables.flush_interval(now - self._begun))
            await self._publish()
            if now - scanned > _RESCAN_SECONDS and self.ledger.idle:
                with suppress(OSError):  # the next round looks again
                    for run in self._to_scan:
                        await self.rescan(run)
                scanned = now

    async def _publish(self) -> None:
        async with self._publishing:
            delivered, failed = list(self._delivered), list(self._failed)
            if not delivered and not failed:
                return
            try:
                await asyncio.to_thread(self._write, delivered, failed)
            except OSError as error:  # storage full or away: keep the rows, say so, try again
                self._trouble = redacted(str(error))
                self._troubled_since = self._troubled_since or time.monotonic()
                return
            self._trouble = self._troubled_since = None
            del self._delivered[: len(delivered)], self._failed[: len(failed)]
            async with self._changed:
                settled = [self.ledger.settle(ticket, rows["measurements"]) for ticket, rows in delivered]
                self._changed.notify_all()
            with suppress(OSError):  # what is not freed now is measured, and freed at the next rescan
                await self._free(job.key for job in settled if job is not None)

    def _write(self, delivered: list[tuple[int, Rows]], failed: list[dict[str, Any]]) -> None:
        self.launch.check()
        # Measurements last: a row that counts as measured has its spectrum and profile beside it.
        for table in ("spectra", "profiles", "measurements"):
            rows = [row for _, by_table in delivered for row in by_table[table]]
            if table == "measurements":
                rows = [row | {"launch": self.launch.epoch} for row in rows + failed]
            tables.write_part(self.storage, table, rows, f"hub-{self.launch.epoch:06d}")

    async def _free(self, places: Iterable[tuple[str, int]]) -> None:
        """Free what need not be kept of the snapshots at these runs and steps, and of those they compare with."""
        steps: dict[str, set[int]] = defaultdict(set)
        for run, step in places:
            steps[run].add(step)
        notices = [Notice(run, name) for run in steps for name in self.ledger.to_free(run, steps[run])]
        for notice in notices:
            await asyncio.to_thread(run_files.bury, self.storage, notice)
            self.ledger.notice(Notice(notice.run, replace(notice.name, freed=True)))
