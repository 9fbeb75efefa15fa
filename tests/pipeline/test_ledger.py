import itertools

import pytest
from ledger_cases import PLAN, done, notice, plan_of, rows_of, taken, tombstone

from tangentscope.pipeline.probing.ledger import Ledger
from tangentscope.pipeline.store.layout import Notice


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(plan_of(PLAN))


def test_a_snapshot_is_wanted_with_all_planned_variables_and_is_done_after(ledger: Ledger):
    assert ledger.take("one") is None
    ledger.notice(notice("a", 5))
    job = taken(ledger)
    assert job.key == ("a", 5)
    assert job.wanted == {"p": ("trace", "entropy"), "q": ("trace",)}
    assert not ledger.idle
    assert done(ledger, job) == job
    assert ledger.idle
    assert ledger.measured_by_run() == {"a": 3, "b": 0}
    ledger.notice(notice("a", 5))
    assert ledger.idle


@pytest.mark.parametrize(("run", "step"), [("a", 4), ("c", 0)])
def test_what_the_plan_does_not_name_is_not_measured(run: str, step: int, ledger: Ledger):
    ledger.notice(notice(run, step))
    assert ledger.idle


def test_saying_it_twice_changes_nothing_at_any_time(ledger: Ledger):
    for _ in range(2):
        ledger.notice(notice("a", 0))
    job = taken(ledger)
    ledger.notice(notice("a", 0))
    assert ledger.take("two") is None
    ledger.deliver(job.ticket)
    ledger.notice(notice("a", 0))
    assert ledger.take("two") is None, "delivered rows may yet be stored"
    assert done(ledger, job) == job
    ledger.notice(notice("a", 0))
    assert ledger.idle
    assert done(ledger, job) is None


def test_jobs_are_handed_out_in_the_order_they_came(ledger: Ledger):
    for run, step in (("a", 5), ("b", 0), ("a", 0)):
        ledger.notice(notice(run, step))
    assert [taken(ledger).key for _ in range(3)] == [("a", 5), ("b", 0), ("a", 0)]


def test_a_dead_probers_work_goes_back_but_for_what_it_delivered(ledger: Ledger):
    for run, step in (("a", 5), ("b", 0), ("a", 0)):
        ledger.notice(notice(run, step))
    jobs = [taken(ledger, prober) for prober in ("one", "one", "two")]
    ledger.deliver(jobs[0].ticket)
    assert ledger.held_by("one") == [jobs[1].ticket]
    assert ledger.held_by("two") == [jobs[2].ticket]
    assert ledger.held_by("three") == []
    assert ledger.give_back(jobs[1].ticket, "died") == []
    again = taken(ledger, "three")
    assert (again.key, again.tries) == (jobs[1].key, 1)
    assert again.ticket != jobs[1].ticket
    assert ledger.give_back(jobs[1].ticket, "said twice") == []
    assert ledger.held_by("three") == [again.ticket]


def test_after_a_restart_only_what_is_missing_is_wanted(ledger: Ledger):
    ledger.notice(notice("a", 5))
    rows = rows_of(taken(ledger))
    again = Ledger(plan_of(PLAN))
    again.restore(
        [
            rows[0],
            rows[1] | {"version": 2},  # of an older definition of the entropy
            rows[2] | {"state": "failed", "version": 0},  # so has its failure
        ]
    )
    again.notice(notice("a", 5))
    job = taken(again)
    assert job.wanted == {"p": ("entropy",), "q": ("trace",)}
    assert done(again, job) == job
    assert again.measured_by_run()["a"] == 3


def test_a_variable_that_the_plan_knows_no_longer_is_nobodys(ledger: Ledger):
    ledger.notice(notice("b", 0))
    [row] = rows_of(taken(ledger))
    again = Ledger(plan_of(PLAN))
    again.restore([row | {"variable": "rank"}, row | {"probe": "old"}, row | {"run": "c"}, row | {"step": 3}])
    assert again.measured_by_run() == {"a": 0, "b": 0}
    again.notice(notice("b", 0))
    assert taken(again).wanted == {"q": ("trace",)}


def test_a_replay_is_known_to_have_left_as_early_as_anybody_says(ledger: Ledger):
    ledger.notice(notice("a", 5))
    ledger.leave("a", {2: 7})
    assert ledger.waiting
    ledger.leave("a", {2: 0})
    ledger.leave("a", {2: 7})
    ledger.notice(notice("a", 5))
    assert not ledger.waiting


@pytest.mark.parametrize("when", ["waiting", "in hand", "delivered", "measured"])
def test_a_replaced_snapshot_is_measured_anew_and_the_old_one_no_longer(when: str, ledger: Ledger):
    ledger.notice(notice("a", 5))
    old = taken(ledger) if when != "waiting" else None
    if old and when == "measured":
        done(ledger, old)
    if old and when == "delivered":
        ledger.deliver(old.ticket)
    ledger.notice(notice("a", 5, attempt=2))
    ledger.notice(notice("a", 5, attempt=1))  # late, or said again
    new = taken(ledger, "two")
    assert (new.name.attempt, new.wanted) == (2, {"p": ("trace", "entropy"), "q": ("trace",)})
    if old and when == "in hand":
        assert ledger.give_back(old.ticket, "gone") == []
        assert not ledger.waiting, "nobody needs it any more"
    if old and when == "delivered":
        ledger.settle(old.ticket, rows_of(old))
    assert ledger.give_back(new.ticket, "died") == []
    new = taken(ledger, "two")
    assert new.name.attempt == 2
    assert done(ledger, new) == new
    assert ledger.idle
    assert ledger.measured_by_run()["a"] == 3


def test_tickets_of_a_hub_that_died_are_not_taken_for_new_ones(ledger: Ledger):
    for run, step in (("a", 0), ("a", 5), ("b", 0)):
        ledger.notice(notice(run, step))
    old = [taken(ledger) for _ in range(3)]
    again = Ledger(plan_of(PLAN))
    for run, step in (("b", 0), ("a", 5), ("a", 0)):
        again.notice(notice(run, step))
    new = [taken(again, "two") for _ in range(3)]
    for job in old:
        again.give_back(job.ticket, "to the hub there was")
        again.deliver(job.ticket)
    assert again.held_by("two") == [job.ticket for job in new]
    assert again.settle(old[0].ticket, rows_of(old[0])) is None
    again.notice(notice("a", 0))
    assert again.measured_by_run()["a"] == 3


def test_which_snapshots_are_still_to_be_read(ledger: Ledger):
    assert ledger.to_read("a") == {0, 5}
    ledger.notice(notice("a", 0))
    assert ledger.to_read("a") == {0, 5}
    done(ledger, taken(ledger))
    assert ledger.to_read("a") == {5}
    ledger.notice(notice("a", 5))
    done(ledger, taken(ledger))
    assert ledger.to_read("a") == set()
    ledger.notice(notice("a", 5, attempt=2))
    assert ledger.to_read("a") == {5}


def test_a_snapshot_that_was_freed_is_not_measured_again(ledger: Ledger):
    ledger.notice(tombstone(notice("a", 5)))
    assert ledger.idle
    assert ledger.to_read("a") == {0, 5}
    ledger.notice(notice("a", 5, attempt=2))  # a replay wrote it again
    assert taken(ledger).name.attempt == 2


@pytest.mark.parametrize(("keep", "freed"), [("all", []), ("ends", [5]), ("none", [0, 5, 10])])
def test_what_is_measured_may_be_freed_unless_it_is_to_be_kept(keep: str, freed: list[int]):
    run = {"run": "a", "schedule": [0, 5, 10], "steps": 10, "epoch_steps": 5, "probes": ["p", "q"]}
    ledger = Ledger(plan_of(PLAN | {"keep": keep, "runs": [run]}))
    for step in (0, 5, 10):
        ledger.notice(notice("a", step))
        assert ledger.to_free("a", [step]) == []
    for step in (0, 5, 10):
        done(ledger, taken(ledger))
        assert [name.step for name in ledger.to_free("a", [step])] == [step] * (step in freed)
    for name in ledger.to_free("a", [0, 5, 10]):
        ledger.notice(tombstone(Notice("a", name)))
    assert ledger.to_free("a", [0, 5, 10]) == []


@pytest.mark.parametrize("order", list(itertools.permutations([("a", 0), ("a", 5), ("b", 0)])))
def test_whatever_the_order_of_notices_all_is_measured_once(order: tuple, ledger: Ledger):
    for run, step in order:
        ledger.notice(notice(run, step))
        ledger.notice(notice(*order[0]))
    keys = []
    while (job := ledger.take("one")) is not None:
        keys += [(row["run"], row["step"], row["probe"], row["variable"]) for row in rows_of(job)]
        assert done(ledger, job) == job
    assert len(keys) == len(set(keys)) == 7
