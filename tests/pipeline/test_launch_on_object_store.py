"""Claims where nothing is created exclusively: never do two launches hold a storage, in whatever order they act."""

import itertools
import json
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from launch_race import Claimant, race
from object_storage import object_store

from tangentscope.pipeline.store import launch
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.launch import Launch, ask_to_stop, claim, claimed_at, holder
from tangentscope.pipeline.system.errors import Fenced, UserError

REFUSED = "was claimed by another launch just now", "is held by another launch (process "


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody watches a heartbeat that looks old."""
    monkeypatch.setattr(launch, "WATCH_SECONDS", 0.0)
    monkeypatch.setattr(launch, "GLANCE_SECONDS", 0.0)


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Storage:
    return object_store(monkeypatch)


def written(storage: Storage, name: str, **changes: Any) -> None:
    """A claim as a launch elsewhere has left it."""
    record = {"host": "elsewhere", "pid": 1, "created": 1.0, "at": time.time()} | changes
    storage.write(f"launches/{name}.json", json.dumps(record).encode())


def claims(storage: Storage) -> list[str]:
    return [name for name in storage.list("launches") if name.endswith(".json")]


def test_each_launch_has_its_epoch_and_excludes_others(storage: Storage):
    for epoch in (1, 2, 3):
        assert holder(storage) is None
        with claim(storage) as mine:
            assert mine.epoch == epoch
            assert claimed_at(storage, epoch) == pytest.approx(time.time(), abs=60)
            mine.check()
            with pytest.raises(UserError, match="held by another launch"), claim(storage):
                pass
        assert claimed_at(storage, epoch) is None
    with pytest.raises(Fenced, match=r"launch 1 of .* taken over"):
        Launch(storage, 1).check()
    assert len(claims(storage)) == 3


def test_a_launch_can_be_asked_to_stop(storage: Storage):
    assert not ask_to_stop(storage)
    with claim(storage) as first:
        assert not first.stopping
        assert ask_to_stop(storage)
        assert first.stopping
    with claim(storage) as second:
        assert not second.stopping


def test_a_claim_of_an_older_version_is_read(storage: Storage):
    written(storage, "000001")
    assert str(holder(storage)).startswith("process 1 on elsewhere")
    assert ask_to_stop(storage)
    assert Launch(storage, 1).stopping
    with pytest.raises(UserError, match="process 1 on elsewhere, heard of"), claim(storage):
        pass
    written(storage, "000001", at=0.0)
    with claim(storage) as mine:
        assert mine.epoch == 2
        with pytest.raises(Fenced):
            Launch(storage, 1).check()


def test_a_launch_that_died_before_it_could_withdraw_is_in_nobodys_way(storage: Storage):
    written(storage, "000001", at=0.0)
    written(storage, "000002-0a", at=0.0)
    written(storage, "000002-0b", at=0.0)
    assert holder(storage) is None
    with claim(storage) as mine:
        assert mine.epoch == 3
        storage.remove("launches/000002-0a.json")  # it lived, and withdraws now
        storage.remove("launches/000002-0b.json")
        with pytest.raises(Fenced):
            Launch(storage, 1).check()


def test_a_rival_that_died_does_not_hide_who_holds(storage: Storage):
    with claim(storage) as mine:
        written(storage, "000001-00", at=0.0)
        written(storage, "000001-ffffffffffffffffff", at=0.0)
        assert "on elsewhere" not in str(holder(storage))
        assert claimed_at(storage, 1) is not None
        mine.check()


@pytest.mark.parametrize(("before", "operations"), [(None, 4), ({"at": 0.0}, 6)], ids=["new storage", "a dead launch"])
def test_of_two_launches_at_once_never_two_hold_in_any_order(
    before: dict[str, Any] | None, operations: int, monkeypatch: pytest.MonkeyPatch
):
    holding: Counter[int] = Counter()
    for first in itertools.combinations(range(2 * operations), operations):
        storage = object_store(monkeypatch)
        if before:
            written(storage, "000001", **before)
        claimants = [Claimant(storage), Claimant(storage)]
        held = race(claimants, [int(k not in first) for k in range(2 * operations)])
        holding[len(held)] += 1
        assert all(any(line in each.refused for line in REFUSED) for each in claimants if each.refused)
        assert len(claims(storage)) == len(held) + bool(before), "who was refused leaves nothing behind"
        for each in claimants:
            each.release()
        with claim(storage) as next_one:
            assert next_one.epoch == len(held) + 1 + bool(before)
    assert holding.keys() == {0, 1}, "in some orders both withdraw"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(silent=st.lists(st.booleans(), min_size=4, max_size=4), order=st.lists(st.integers(0, 3), max_size=40))
# One that looks dead to the third withdraws for the second, which then goes on before the third has claimed.
@example(silent=[True, False, False, False], order=[1, 0, 0, 2, 2, 2, 1, 0, 0, 1, 1, 2, 2])
def test_of_many_launches_one_goes_on_beside_those_that_look_dead(
    silent: list[bool], order: list[int], monkeypatch: pytest.MonkeyPatch
):
    storage = object_store(monkeypatch)
    claimants = [Claimant(storage, each) for each in silent]
    held = race(claimants, order)
    for other in held:
        dead = next(each.silent for each in claimants if each.launch is other)
        assert dead or other is held[-1], "who is alive is not taken over"
    assert len({other.epoch for other in held}) == len(held)
    for each in claimants:
        each.release()
    for other in held[:-1]:
        with pytest.raises(Fenced):
            other.check()
    for other in held[-1:]:
        other.check()
    assert sorted(claims(storage)) == sorted(other.file("json").removeprefix("launches/") for other in held)
