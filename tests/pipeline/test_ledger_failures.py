"""What fails is tried again a few times, then by a retry or the next launch only."""

import pytest
from ledger_cases import PLAN, notice, plan_of, rows_of, taken
from study_on_disk import checksum

from tangentscope.pipeline.probing.ledger import TRIES, Ledger
from tangentscope.pipeline.store.failures import FAILED, INTERRUPTED


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(plan_of(PLAN))


def test_after_three_tries_all_that_was_wanted_has_failed(ledger: Ledger):
    ledger.notice(notice("a", 5))
    for _ in range(TRIES - 1):
        assert ledger.give_back(taken(ledger).ticket, "out of memory") == []
    rows = ledger.give_back(taken(ledger).ticket, "out of memory")
    assert [(row["probe"], row["variable"], row["version"]) for row in rows] == [
        ("p", "trace", 1),
        ("p", "entropy", 3),
        ("q", "trace", 1),
    ]
    for row in rows:
        assert row["value"] != row["value"]
        assert {key: row[key] for key in ("run", "step", "attempt", "epoch", "state", "cause", "checksum")} == {
            "run": "a", "step": 5, "attempt": 1, "epoch": 1.0, "state": "failed", "cause": "out of memory",
            "checksum": checksum(5),
        }  # fmt: skip
        assert (row["draws"], row["size"], row["outputs"]) == (2, 9, "full")
    assert ledger.idle
    assert ledger.failed_by_run() == {"a": 3, "b": 0}
    ledger.notice(notice("a", 5))
    assert ledger.idle, "three tries, however often storage is looked through"


def test_a_variable_that_fails_alone_is_not_tried_again_before_a_retry(ledger: Ledger):
    ledger.notice(notice("a", 5))
    job = taken(ledger)
    ledger.deliver(job.ticket)
    trace, entropy, other = rows_of(job)
    ledger.settle(job.ticket, [trace, entropy | {"state": "failed"}, other])
    assert (ledger.measured_by_run()["a"], ledger.failed_by_run()["a"]) == (2, 1)
    ledger.notice(notice("a", 5))
    assert ledger.idle
    retry = Ledger(plan_of(PLAN | {"retried": {"a": 2}}))
    retry.restore(row | {"launch": 1} for row in (trace, entropy | {"state": "failed"}, other))
    retry.notice(notice("a", 5))
    assert taken(retry).wanted == {"p": ("entropy",)}


def test_a_failure_is_not_done_and_waits_for_a_retry(ledger: Ledger):
    ledger.notice(notice("a", 5))
    for _ in range(TRIES):
        failed = ledger.give_back(taken(ledger).ticket, "out of memory")
    assert ledger.measured_by_run()["a"] == 0
    failed = [row | {"launch": 3} for row in failed]
    next_launch = Ledger(plan_of(PLAN))
    next_launch.restore(failed[:1])
    next_launch.notice(notice("a", 5))
    assert taken(next_launch).wanted == {"p": ("entropy",), "q": ("trace",)}
    assert next_launch.failed_by_run() == {"a": 1, "b": 0}
    assert next_launch.to_read("a") == {0, 5}
    for retried, tried in (({"b": 4}, False), ({"a": 2}, False), ({"a": 3}, False), ({"a": 4}, True)):
        assert is_tried(failed, {"retried": retried}) == tried


def test_a_retry_does_not_hang_on_clocks(ledger: Ledger):
    """A launch whose clock is ahead dates failures after every retry to come."""
    failed = [row | {"recorded_at": 4e9} for row in given_up(ledger, FAILED)]
    assert is_tried([row | {"launch": 1} for row in failed], {"retried": {"a": 2}})
    # Rows and plans from before launches told.
    assert is_tried([row | {"launch": None} for row in failed], {"retried": {"a": 2}})
    assert not is_tried([row | {"launch": float("nan")} for row in failed], {})
    assert not is_tried(failed, {"retried_at": {"a": 1e9}})
    assert is_tried(failed, {"retried_at": {"a": 5e9}})


def test_what_was_interrupted_is_tried_again_by_the_next_launch(ledger: Ledger):
    rows = given_up(ledger, INTERRUPTED)
    assert {row["state"] for row in rows} == {"interrupted"}
    ledger.notice(notice("a", 5))
    assert ledger.idle, "not in this one"
    assert ledger.failed_by_run()["a"] == 3
    assert is_tried([row | {"launch": 1} for row in rows], {})


def given_up(ledger: Ledger, state: str) -> list[dict]:
    """The rows of a job that was given back as often as it is tried."""
    ledger.notice(notice("a", 5))
    return [row for _ in range(TRIES) for row in ledger.give_back(taken(ledger).ticket, "no luck", state)]


def is_tried(rows: list[dict], changes: dict) -> bool:
    """Whether a launch with a plan that was changed so tries to measure again what these rows say."""
    launch = Ledger(plan_of(PLAN | changes))
    launch.restore(rows)
    launch.notice(notice("a", 5))
    assert launch.failed_by_run() == {"a": 3 if launch.idle else 0, "b": 0}
    return not launch.idle


def test_what_was_measured_at_another_try_has_not_failed(ledger: Ledger):
    ledger.notice(notice("a", 5))
    rows = rows_of(taken(ledger))
    again = Ledger(plan_of(PLAN))
    again.restore([row | {"state": "failed", "recorded_at": 1.0} for row in rows] + rows[:2])
    assert (again.measured_by_run()["a"], again.failed_by_run()["a"]) == (2, 1)
