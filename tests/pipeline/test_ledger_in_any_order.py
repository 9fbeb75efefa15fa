"""Whatever happens in whatever order: each value of each snapshot is measured once or has failed three times."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule
from ledger_cases import notice, plan_of, rows_of
from study_on_disk import Row

from tangentscope.pipeline.probing.ledger import TRIES, Job, Ledger
from tangentscope.pipeline.store.layout import Notice, SnapshotName

COMPARES = {"distance": ["initial"], "velocity": ["previous"]}
VARIABLES = {"p": ["trace", *COMPARES], "q": ["trace"]}
SCHEDULES = {"a": [0, 5, 10], "b": [0]}
PLAN: Row = {
    "runs": [
        {"run": run, "schedule": steps, "steps": steps[-1], "epoch_steps": 5, "probes": ["p", "q"]}
        for run, steps in SCHEDULES.items()
    ],
    "probes": [
        {"probe": probe, "variables": names, "split": "train", "outputs": "full", "draws": 2, "size": 9}
        for probe, names in VARIABLES.items()
    ],
    "versions": dict.fromkeys(VARIABLES["p"], 1),
    "compares": COMPARES,
    "keep": "none",
}
RUNS, PROBERS = st.sampled_from([*SCHEDULES]), st.sampled_from(["one", "two", "three"])


class World(RuleBasedStateMachine):
    """The ledger, and beside it what really happened."""

    said: Bundle = Bundle("said")

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(plan_of(PLAN))
        self.attempts = dict.fromkeys(SCHEDULES, 1)
        self.begun = dict(self.attempts)  # when there came to be this hub
        self.present: dict[tuple[str, int], SnapshotName] = {}  # of the present trajectories
        self.replays: dict[str, dict[int, int]] = {run: {} for run in SCHEDULES}  # as storage knows them
        self.freed: set[tuple[str, SnapshotName]] = set()
        self.measuring: dict[int, tuple[str, Job]] = {}
        self.delivered: dict[int, Job] = {}
        self.stored: list[Row] = []
        self.failed: list[Row] = []
        self.tries: Counter = Counter()

    @rule(target=said, run=RUNS, lost=st.booleans())
    def training_goes_on(self, run: str, lost: bool) -> Notice:
        """The next snapshot of a run lies on storage, or the last one once more."""
        steps = [step for step in SCHEDULES[run] if (run, step) not in self.present]
        news = notice(run, (steps or SCHEDULES[run][-1:])[0], self.attempts[run])
        self.present.setdefault((news.run, news.name.step), news.name)
        news = Notice(run, self.present[run, news.name.step])
        if not lost:
            self.ledger.leave(run, self.replays[run])
            self.ledger.notice(news)
        return news

    @rule(target=said, run=RUNS, at=st.integers(0, 2))
    def a_replay_diverges(self, run: str, at: int) -> Notice:
        """A later attempt comes to another state than the one that was there, and what was after it is void."""
        known = sorted(step for other, step in self.present if other == run)[at:]
        if not known:
            return self.training_goes_on(run, lost=False)
        self.attempts[run] += 1
        self.replays[run][self.attempts[run]] = known[0] - 1
        for step in known:
            del self.present[run, step]
        return self.training_goes_on(run, lost=False)

    @rule(news=said)
    def a_notice_comes_again(self, news: Notice) -> None:
        if self.present.get((news.run, news.name.step)) != news.name and news.name.attempt < self.begun[news.run]:
            return  # of a snapshot that had been replaced before there was this hub: nobody tells it of such
        self.ledger.notice(Notice(news.run, replace(news.name, freed=(news.run, news.name) in self.freed)))

    @rule()
    def storage_is_looked_through(self) -> None:
        """For snapshots whose notice was lost."""
        for (run, _), name in sorted(self.present.items()):
            self.ledger.notice(Notice(run, replace(name, freed=(run, name) in self.freed)))

    @rule()
    def what_need_not_be_kept_is_freed(self) -> None:
        for run, steps in SCHEDULES.items():
            for name in self.ledger.to_free(run, steps):
                self.freed.add((run, name))
                self.ledger.notice(Notice(run, replace(name, freed=True)))

    @rule(prober=PROBERS)
    def a_prober_asks(self, prober: str) -> None:
        job = self.ledger.take(prober)
        if job is None:
            assert not self.ledger.waiting
            return
        assert self.present[job.key] == job.name, "only present snapshots are handed out"
        for way, name in job.earlier.items():
            assert self.present[job.run, name.step] == name, "and compared with those before them"
            assert name.step == (
                0 if way == "initial" else SCHEDULES[job.run][SCHEDULES[job.run].index(job.name.step) - 1]
            )
        self.measuring[job.ticket] = prober, job

    @precondition(lambda self: self.measuring)
    @rule(data=st.data())
    def a_prober_delivers(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.measuring)))
        self.delivered[ticket] = self.measuring.pop(ticket)[1]
        self.ledger.deliver(ticket)

    @precondition(lambda self: self.measuring)
    @rule(data=st.data())
    def a_measurement_fails(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.measuring)))
        self._give_back(ticket)

    @rule()
    def a_prober_breaks_on_all_there_is(self) -> None:
        while (job := self.ledger.take("broken")) is not None:
            self.measuring[job.ticket] = "broken", job
            self._give_back(job.ticket)

    @rule(prober=PROBERS)
    def a_prober_dies(self, prober: str) -> None:
        held = self.ledger.held_by(prober)
        assert held == [ticket for ticket, (holder, _) in self.measuring.items() if holder == prober]
        for ticket in held:
            self._give_back(ticket)

    @precondition(lambda self: self.delivered)
    @rule(data=st.data(), twice=st.booleans())
    def rows_are_stored(self, data: st.DataObject, twice: bool) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.delivered)))
        job = self.delivered.pop(ticket)
        self.stored += rows_of(job, PLAN)
        assert self.ledger.settle(ticket, rows_of(job, PLAN)) == job
        if twice:
            assert self.ledger.settle(ticket, rows_of(job, PLAN)) is None

    @rule()
    def the_hub_dies(self) -> None:
        """And with it what its probers had in hand and had delivered; storage is looked through by the next one."""
        self.measuring.clear()
        self.delivered.clear()
        self.tries.clear()
        self.begun = dict(self.attempts)
        self.ledger = Ledger(plan_of(PLAN))
        self.ledger.restore(self.stored + self.failed)
        self.storage_is_looked_through()

    def _give_back(self, ticket: int) -> None:
        job = self.measuring.pop(ticket)[1]
        self.tries[job.run, job.name] += 1
        rows = self.ledger.give_back(ticket, "broke")
        self.failed += [row | {"recorded_at": 1.0} for row in rows]
        gone = self.present.get(job.key) != job.name
        assert bool(rows) == (not gone and self.tries[job.run, job.name] == TRIES)

    @invariant()
    def nothing_is_measured_twice(self) -> None:
        under_way = [job for _, job in self.measuring.values()] + list(self.delivered.values())
        rows = self.stored + [row for job in under_way for row in rows_of(job, PLAN)]
        assert all(count == 1 for count in Counter(map(self._key, rows)).values())
        assert all(tries <= TRIES for tries in self.tries.values())

    @invariant()
    def what_somebody_measures_can_be_read(self) -> None:
        for _, job in self.measuring.values():
            assert not {(job.run, name) for name in (job.name, *job.earlier.values())} & self.freed

    def teardown(self) -> None:
        for ticket in list(self.measuring):
            self._give_back(ticket)
        self.storage_is_looked_through()
        while self.delivered or self.ledger.waiting:
            while (job := self.ledger.take("last")) is not None:
                self.delivered[job.ticket] = job
            ticket, job = self.delivered.popitem()
            self.stored += rows_of(job, PLAN)
            self.ledger.settle(ticket, rows_of(job, PLAN))
        assert self.ledger.idle
        there = set(map(self._key, self.stored))
        for (run, step), name in self.present.items():
            steps = SCHEDULES[run]
            earlier = {"initial": self.present[run, 0]}
            earlier |= {"previous": self.present[run, steps[steps.index(step) - 1]]} if step else {}
            wanted = set(
                map(self._key, rows_of(Job(run, name, {p: tuple(v) for p, v in VARIABLES.items()}, earlier), PLAN))
            )
            failed = {self._key(row)[:-1] for row in self.failed}
            assert {key for key in wanted - there if key[:-1] not in failed} == set() or self.tries[run, name] == TRIES

    @staticmethod
    def _key(row: Row) -> tuple:
        return tuple(row.get(key) for key in ("run", "step", "checksum", "probe", "variable", "compared_with"))


class TestWorld(World.TestCase):
    settings = settings(max_examples=50, stateful_step_count=50, deadline=None)


@pytest.mark.slow
class TestWorldForLong(World.TestCase):
    settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
