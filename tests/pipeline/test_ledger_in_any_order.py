"""Whatever happens in whatever order: each value of each snapshot is measured once or has failed three times."""

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule
from test_ledger import PLAN, notice, rows_of

from pipeline.layout import Notice, SnapshotName
from pipeline.ledger import TRIES, Job, Ledger

KEYS = [("a", 0), ("a", 5), ("b", 0)]
PROBERS = st.sampled_from(["one", "two", "three"])


class World(RuleBasedStateMachine):
    """The ledger, and beside it what really happened."""

    said: Bundle = Bundle("said")

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(PLAN)
        self.present: dict[tuple[str, int], SnapshotName] = {}
        self.measuring: dict[int, tuple[str, Job]] = {}
        self.delivered: dict[int, Job] = {}
        self.stored: list[dict] = []
        self.failed: list[dict] = []
        self.tries: Counter = Counter()

    @rule(target=said, key=st.sampled_from(KEYS))
    def a_snapshot_comes(self, key: tuple[str, int]) -> Notice:
        """The first of its step, or one that replaces it after a replay."""
        attempt = self.present[key].attempt + 1 if key in self.present else 1
        news = notice(*key, attempt)
        self.present[key] = news.name
        self.ledger.notice(news)
        return news

    @rule(news=said)
    def a_notice_comes_again(self, news: Notice) -> None:
        self.ledger.notice(news)

    @rule()
    def storage_is_looked_through(self) -> None:
        """For snapshots whose notice was lost."""
        for (run, _), name in self.present.items():
            self.ledger.notice(Notice(run, name))

    @rule(prober=PROBERS)
    def a_prober_asks(self, prober: str) -> None:
        job = self.ledger.take(prober)
        if job is None:
            assert not self.ledger.waiting
            return
        assert self.present[job.key] == job.name, "only present snapshots are handed out"
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
        self.stored += rows_of(job)
        assert self.ledger.settle(ticket, rows_of(job)) == job
        if twice:
            assert self.ledger.settle(ticket, rows_of(job)) is None

    @rule()
    def the_hub_dies(self) -> None:
        """And with it what its probers had in hand and had delivered; storage is looked through by the next one."""
        self.measuring.clear()
        self.delivered.clear()
        self.tries.clear()
        self.failed.clear()
        self.ledger = Ledger(PLAN)
        self.ledger.restore(self.stored)
        for (run, _), name in self.present.items():
            self.ledger.notice(Notice(run, name))

    def _give_back(self, ticket: int) -> None:
        job = self.measuring.pop(ticket)[1]
        self.tries[job.run, job.name] += 1
        rows = self.ledger.give_back(ticket, "broke")
        gone = self.present[job.key] != job.name
        assert bool(rows) == (not gone and self.tries[job.run, job.name] == TRIES)
        self.failed += rows

    @invariant()
    def nothing_is_measured_twice(self) -> None:
        under_way = [job for _, job in self.measuring.values()] + list(self.delivered.values())
        rows = self.stored + [row for job in under_way for row in rows_of(job)]
        counts = Counter((row["run"], row["step"], row["checksum"], row["probe"], row["variable"]) for row in rows)
        assert all(count == 1 for count in counts.values())
        assert all(tries <= TRIES for tries in self.tries.values())

    def teardown(self) -> None:
        for ticket in list(self.measuring):
            self._give_back(ticket)
        while (job := self.ledger.take("last")) is not None:
            self.delivered[job.ticket] = job
        for ticket, job in self.delivered.items():
            self.stored += rows_of(job)
            self.ledger.settle(ticket, rows_of(job))
        assert self.ledger.idle
        for (run, _), name in self.present.items():
            mine = [row for row in self.stored if (row["run"], row["checksum"]) == (run, name.checksum)]
            lost = [row for row in self.failed if (row["run"], row["checksum"]) == (run, name.checksum)]
            wanted = {"a": 3, "b": 1}[run]
            assert (len(mine), len(lost)) in {(wanted, 0), (0, wanted)}
            assert bool(lost) == (self.tries[run, name] == TRIES)


World.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
TestWorld = World.TestCase
