"""Variables that compare with earlier snapshots: when they are wanted, what is kept for them, what makes them void."""

from typing import Any

import pytest
from ledger_cases import done, notice, plan_of, rows_of, taken, tombstone
from study_on_disk import Row, checksum

from tangentscope.pipeline.probing.ledger import TRIES, Ledger
from tangentscope.pipeline.store.layout import Notice, SnapshotName

STEPS = [0, 5, 10, 20]


def plan(schedule: list[int] = STEPS, keep: str = "none", **compares: list[str]) -> Row:
    """A run with the trace and variables that compare in the ways given."""
    return {
        "runs": [{"run": "a", "schedule": schedule, "steps": schedule[-1], "epoch_steps": 5, "probes": ["p"]}],
        "probes": [{"probe": "p", "variables": ["trace", *compares], "split": "train", "outputs": "full",
                    "draws": 2, "size": 9}],
        "versions": dict.fromkeys(["trace", *compares], 1),
        "compares": compares,
        "keep": keep,
    }  # fmt: skip


DISTANCE, VELOCITY = {"distance": ["initial"]}, {"velocity": ["previous"]}
BOTH = {**DISTANCE, **VELOCITY}


def ledger_of(**about: Any) -> Ledger:
    return Ledger(plan_of(plan(**about)))


def measure_all(ledger: Ledger) -> list[Row]:
    """Take and settle whatever there is; its rows."""
    rows = []
    while (job := ledger.take("one")) is not None:
        rows += rows_of(job, ledger.plan)
        done(ledger, job)
    return rows


def steps(names: list[SnapshotName]) -> list[int]:
    return [name.step for name in names]


def test_a_job_names_the_snapshots_it_compares_with():
    ledger = ledger_of(**BOTH)
    for step in STEPS:
        ledger.notice(notice("a", step))
    jobs = {step: taken(ledger) for step in STEPS}
    assert all(job.wanted == {"p": ("trace", "distance", "velocity")} for job in jobs.values())
    found = {step: {way: name.step for way, name in job.earlier.items()} for step, job in jobs.items()}
    assert found == {
        0: {"initial": 0},
        5: {"initial": 0, "previous": 0},
        10: {"initial": 0, "previous": 5},
        20: {"initial": 0, "previous": 10},
    }
    said = {step: [row["compared_with"] for row in rows_of(job, plan(**BOTH))] for step, job in jobs.items()}
    assert said[20] == [None, f"0-{checksum(0)}", f"10-{checksum(10)}"]
    assert said[0] == [None, f"0-{checksum(0)}", "nothing"]


@pytest.mark.parametrize("late", ["waiting", "in hand", "measured"])
def test_a_comparison_waits_for_its_snapshot_and_holds_nothing_else_up(late: str):
    """As after a hub's death, when the newest snapshot is noticed before storage is looked through."""
    ledger = ledger_of(**VELOCITY)
    ledger.notice(notice("a", 10))
    if late == "waiting":
        ledger.notice(notice("a", 5))
        assert {job.key: job.wanted for job in (taken(ledger), taken(ledger))} == {
            ("a", 10): {"p": ("trace", "velocity")},
            ("a", 5): {"p": ("trace",)},
        }
        return
    job = taken(ledger)
    assert (job.wanted, job.earlier) == ({"p": ("trace",)}, {})
    if late == "measured":
        done(ledger, job)
        assert ledger.idle, "nobody waits for what may never come"
    ledger.notice(notice("a", 5))
    if late == "in hand":
        assert taken(ledger).key == ("a", 5)
        assert ledger.take("two") is None
        done(ledger, job)
    jobs = {job.key: job for job in iter(lambda: ledger.take("one"), None)}
    assert jobs["a", 10].wanted == {"p": ("velocity",)}
    assert jobs["a", 10].earlier == {"previous": notice("a", 5).name}


def test_when_the_first_snapshot_comes_last_all_compare_with_it():
    ledger = ledger_of(**DISTANCE)
    for step in (5, 10, 20):
        ledger.notice(notice("a", step))
    assert all(job.wanted == {"p": ("trace",)} for job in iter(lambda: ledger.take("one"), None))
    for ticket, (_, job) in list(ledger.in_hand.items()):
        ledger.settle(ticket, rows_of(job))
    ledger.notice(notice("a", 0))
    wanted = {job.name.step: job.wanted for job in iter(lambda: ledger.take("one"), None)}
    assert wanted == {0: {"p": ("trace", "distance")}} | {step: {"p": ("distance",)} for step in (5, 10, 20)}


def test_a_snapshot_whose_bytes_were_given_back_cannot_be_compared_with():
    ledger = ledger_of(**VELOCITY)
    ledger.notice(tombstone(notice("a", 5)))
    ledger.notice(notice("a", 10))
    assert taken(ledger).wanted == {"p": ("trace",)}
    # Training writes it again, under a name of its own.
    again = Notice("a", SnapshotName(5, 2, checksum(5)))
    ledger.notice(again)
    ledger.settle(ledger.held_by("one")[0], [])
    assert {job.key: job.earlier for job in iter(lambda: ledger.take("one"), None)}["a", 10] == {"previous": again.name}


@pytest.mark.parametrize(
    ("compares", "kept"),
    [
        ({}, []),
        (VELOCITY, [0, 5, 10]),
        (DISTANCE, [0]),
        (BOTH, [0, 5, 10]),
    ],
)
def test_a_snapshot_is_kept_until_all_that_compares_with_it_is_measured(compares: dict, kept: list[int]):
    """Each when it has been measured itself and nothing after it has: with `kept`, something still compares."""
    for step in STEPS[:-1]:
        ledger = ledger_of(**compares)
        for earlier in STEPS[: STEPS.index(step) + 1]:
            ledger.notice(notice("a", earlier))
        measure_all(ledger)
        assert (step in steps(ledger.to_free("a", [step]))) == (step not in kept)


def test_what_is_measured_releases_what_it_compares_with():
    ledger, freed = ledger_of(**BOTH), []
    for step in STEPS:
        ledger.notice(notice("a", step))
        measure_all(ledger)
        for name in ledger.to_free("a", [step]):
            freed.append(name.step)
            ledger.notice(tombstone(Notice("a", name)))
    assert freed == [5, 0, 10, 20]
    assert ledger.idle
    assert ledger.to_read("a") == set()


def test_ends_are_kept_whoever_compares_with_them():
    ledger = ledger_of(keep="ends", **BOTH)
    for step in STEPS:
        ledger.notice(notice("a", step))
    measure_all(ledger)
    assert steps(ledger.to_free("a", STEPS)) == [5, 10]


def test_a_measurement_that_failed_still_needs_its_snapshots():
    ledger = ledger_of(**VELOCITY)
    ledger.notice(notice("a", 0))
    measure_all(ledger)
    ledger.notice(notice("a", 5))
    for _ in range(TRIES):
        rows = ledger.give_back(taken(ledger).ticket, "out of memory")
    assert [row["variable"] for row in rows] == ["trace", "velocity"]
    assert ledger.to_free("a", [0, 5]) == []


@pytest.mark.parametrize(
    ("compares", "asked", "read"),
    [
        ({}, {}, set()),
        ({}, DISTANCE, {0, 5, 10, 20}),
        (DISTANCE, VELOCITY | DISTANCE, {0, 5, 10, 20}),
    ],
)
def test_a_variable_asked_for_later_reads_earlier_snapshots_again(compares: dict, asked: dict, read: set[int]):
    ledger = ledger_of(**compares)
    for step in STEPS:
        ledger.notice(notice("a", step))
    rows = measure_all(ledger)
    again = ledger_of(**asked)
    again.restore(rows)
    for step in STEPS:
        again.notice(tombstone(notice("a", step)))
    assert again.to_read("a") == read
    assert again.idle, "what was freed cannot be measured: the run is to be trained again"


def test_one_missing_comparison_reads_its_two_snapshots():
    ledger = ledger_of(**BOTH)
    for step in STEPS:
        ledger.notice(notice("a", step))
    rows = [row for row in measure_all(ledger) if (row["step"], row["variable"]) != (20, "velocity")]
    again = ledger_of(**BOTH)
    again.restore(rows)
    for step in STEPS:
        again.notice(notice("a", step))
    assert again.to_read("a") == {10, 20}
    assert taken(again).wanted == {"p": ("velocity",)}


def test_after_a_restart_a_comparison_counts_only_with_the_snapshots_it_was_made_with():
    ledger = ledger_of(**BOTH)
    for step in STEPS:
        ledger.notice(notice("a", step))
    rows = measure_all(ledger)
    again = ledger_of(**BOTH)
    again.restore(rows)
    for step in STEPS:
        again.notice(notice("a", step))
    assert again.idle
    # Another schedule puts a step between: what came after it has another predecessor now.
    denser = ledger_of(schedule=[0, 5, 7, 10, 20], **BOTH)
    denser.restore(rows)
    for step in (0, 5, 7, 10, 20):
        denser.notice(notice("a", step))
    wanted = {job.name.step: job.wanted["p"] for job in iter(lambda: denser.take("one"), None)}
    assert wanted == {7: ("trace", "distance", "velocity"), 10: ("velocity",)}


@pytest.mark.parametrize("stage", ["waiting", "in hand", "delivered", "measured"])
def test_a_replay_that_diverges_takes_what_came_after_it_along(stage: str):
    ledger = ledger_of(**VELOCITY)
    for step in (0, 5, 10):
        ledger.notice(notice("a", step))
    jobs = [taken(ledger) for _ in range(2)]
    for job in jobs:
        done(ledger, job)
    old = taken(ledger) if stage != "waiting" else None
    if old and stage == "delivered":
        ledger.deliver(old.ticket)
    if old and stage == "measured":
        done(ledger, old)
    ledger.notice(notice("a", 5, attempt=2))
    new = taken(ledger, "two")
    assert (new.key, new.name.attempt, new.earlier) == (("a", 5), 2, {"previous": notice("a", 0).name})
    if old and stage == "in hand":
        assert ledger.give_back(old.ticket, "gone") == []
    if old and stage == "delivered":
        ledger.settle(old.ticket, rows_of(old, plan(**VELOCITY)))
    ledger.notice(notice("a", 10))  # late, or said again
    assert ledger.take("two") is None, "the old step 10 is of another trajectory"
    done(ledger, new)
    assert ledger.to_free("a", [0, 5, 10]) == [notice("a", 0).name], "the new step 10 will compare with step 5"
    # It may even come by the same state: what was compared with the old step 5 does not count.
    ledger.notice(Notice("a", SnapshotName(10, 2, checksum(10))))
    job = taken(ledger, "two")
    assert "velocity" in job.wanted["p"]
    assert job.earlier == {"previous": notice("a", 5, attempt=2).name}


def test_an_equal_replay_makes_no_comparison_void():
    ledger = ledger_of(**BOTH)
    for step in STEPS:
        ledger.notice(notice("a", step))
    measure_all(ledger)
    for step in STEPS:
        for name in ledger.to_free("a", [step]):
            ledger.notice(tombstone(Notice("a", name)))
    for step in STEPS:
        ledger.notice(Notice("a", SnapshotName(step, 2, checksum(step))))
        assert ledger.idle
    assert steps(ledger.to_free("a", STEPS)) == STEPS


def test_a_comparison_made_with_a_snapshot_that_was_replaced_unnoticed_is_made_again():
    """The notice of the new step 5 is lost and step 10 compares with the old one; looking at storage mends it."""
    ledger = ledger_of(**VELOCITY)
    for step in (0, 5):
        ledger.notice(notice("a", step))
    measure_all(ledger)
    ledger.notice(notice("a", 10, attempt=2))
    measure_all(ledger)
    ledger.notice(notice("a", 5, attempt=2))
    wanted = {job.name.step: job.wanted["p"] for job in iter(lambda: ledger.take("one"), None)}
    assert wanted == {5: ("trace", "velocity"), 10: ("velocity",)}
