"""Which runs share a unit, and how units are dealt to groups that come, die and come again."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.launch import Launch
from tangentscope.pipeline.store.planned import PlannedRun
from tangentscope.pipeline.system.errors import Fenced
from tangentscope.pipeline.training.groups import pack
from tangentscope.pipeline.training.queue import Dealer


def record(width: int, seed: int, parameters: int = 100, steps: int = 10, **fields: Any) -> PlannedRun:
    known = {"run": f"{width}-{seed}", "name": f"seed={seed}", "seed": seed, "varied": {}, "steps": steps}
    known |= {"config": {"model": {"width": width}, "seed": seed}, "data": {"fingerprint": "f"}, "epoch_steps": 1}
    known |= {"schedule": [0, steps], "parameters": parameters, "batch_size": 5}
    return PlannedRun.from_json(known | fields)


def test_seeds_of_one_network_share_a_unit_and_the_longest_goes_first() -> None:
    runs = [record(width, seed, parameters=width) for seed in range(3) for width in (10, 30)]
    assert pack(runs, 1, together=True) == [("30-0", "30-1", "30-2"), ("10-0", "10-1", "10-2")]
    assert pack(runs, 1, together=False) == [("30-0",), ("30-1",), ("30-2",), ("10-0",), ("10-1",), ("10-2",)]


def test_every_group_has_some_of_the_seeds() -> None:
    runs = [record(1, seed) for seed in range(5)]
    assert sorted(map(len, pack(runs, 2, together=True))) == [2, 3]
    assert sorted(map(len, pack(runs, 9, together=True))) == [1] * 5


def test_what_differs_by_more_than_its_seed_stays_apart() -> None:
    other_data = record(1, 1, data={"fingerprint": "g"})
    other_schedule = record(1, 2, schedule=[0, 5, 10])
    assert len(pack([record(1, 0), other_data, other_schedule], 1, together=True)) == 3


def test_large_networks_make_small_units() -> None:
    runs = [record(1, seed, parameters=3_000_000) for seed in range(4)]
    assert sorted(map(len, pack(runs, 1, together=True))) == [2, 2]
    assert pack([record(1, 0, parameters=10**9), record(1, 1, parameters=10**9)], 1, together=True) == [
        ("1-0",),
        ("1-1",),
    ]


@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.integers(0, 60), st.integers(1, 10**8)), unique_by=lambda t: t[:2], max_size=80
    ),
    st.integers(1, 5),
    st.booleans(),
)
def test_every_run_stands_in_one_unit(drawn: list[tuple[int, int, int]], groups: int, together: bool) -> None:
    parameters = {width: size for width, _, size in drawn}
    runs = [record(width, seed, parameters=parameters[width]) for width, seed, _ in drawn]
    units = pack(runs, groups, together)
    assert sorted(run for unit in units for run in unit) == sorted(run.id for run in runs)
    assert all(len({run.partition("-")[0] for run in unit}) == 1 for unit in units)
    assert all(4 * parameters[int(unit[0].partition("-")[0])] * len(unit) <= 2**25 or len(unit) == 1 for unit in units)


UNITS = [("a", "b"), ("c",), ("d",)]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.at(tmp_path)


@pytest.fixture
def dealer(storage: Storage) -> Dealer:
    return Dealer(Launch(storage, 1), UNITS)


def ended(dealer: Dealer, *runs: str) -> None:
    for run in runs:
        dealer.launch.storage.write_json(run_files.outcome(run), {"state": "finished"})


def test_groups_take_one_unit_after_another(dealer: Dealer) -> None:
    assert (dealer.deal(0), dealer.deal(1)) == (("a", "b"), ("c",))
    ended(dealer, "c")
    assert dealer.deal(1) == ("d",)
    ended(dealer, "a", "b", "d")
    assert dealer.deal(0) == dealer.deal(1) == dealer.deal(2) == ()


def test_a_group_that_comes_again_has_what_it_left(dealer: Dealer) -> None:
    assert dealer.deal(0) == ("a", "b")
    ended(dealer, "a")
    assert dealer.deal(0) == ("a", "b")
    ended(dealer, "b")
    assert dealer.deal(0) == ("c",)


def test_another_dealer_goes_on_where_one_ended(dealer: Dealer) -> None:
    dealer.deal(0)
    again = Dealer(dealer.launch, UNITS)
    assert (again.deal(1), again.deal(0)) == (("c",), ("a", "b"))


def test_another_launch_deals_anew_and_an_older_one_no_more(dealer: Dealer, storage: Storage) -> None:
    dealer.deal(0)
    storage.create("launches/000002.json", b"{}")
    assert Dealer(Launch(storage, 2), UNITS).deal(0) == ("a", "b")
    with pytest.raises(Fenced):
        dealer.deal(1)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["ask", "end", "die"]), st.integers(0, 2)), max_size=40))
def test_no_unit_is_in_two_hands_and_none_is_lost(happens: list[tuple[str, int]]) -> None:
    with TemporaryDirectory() as directory:
        check_dealing(Storage.at(directory), happens)


def check_dealing(storage: Storage, happens: list[tuple[str, int]]) -> None:
    dealer, held = Dealer(Launch(storage, 1), UNITS), dict[int, Any]()
    for what, group in happens:
        if what == "ask" or (what == "end" and group not in held):
            unit = dealer.deal(group)
            assert unit == held.get(group, unit)
            held[group] = unit
        elif what == "end":
            ended(dealer, *held.pop(group))
        else:
            dealer = Dealer(dealer.launch, UNITS)
        in_hands = [unit for unit in held.values() if unit]
        assert len(set(in_hands)) == len(in_hands)
    for group in (*held, 0):
        while unit := dealer.deal(group):
            ended(dealer, *unit)
    assert all(storage.exists(run_files.outcome(run)) for unit in UNITS for run in unit)
