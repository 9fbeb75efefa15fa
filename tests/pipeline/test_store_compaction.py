"""Compaction, and readers and followers beside it: nothing is lost and nothing counts twice."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from study_on_disk import put, replay, write_plan

from tangentscope.pipeline.store import tables
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.reader import Store

Study = tuple[Storage, dict[str, Any]]

STEPS = st.lists(
    st.tuples(st.sampled_from([0, 1, 2, 4]), st.integers(1, 3), st.booleans(), st.integers(0, 3)), max_size=12
)


@pytest.mark.parametrize("examples", [pytest.param(8, id="few"), pytest.param(25, id="many", marks=pytest.mark.slow)])
def test_one_row_a_key_whatever_parts_there_are_and_compaction_changes_nothing(
    examples: int, tmp_path_factory: pytest.TempPathFactory
):
    @settings(max_examples=examples, deadline=None)
    @given(STEPS, st.dictionaries(st.integers(2, 3), st.sampled_from([0, 1, 2]), max_size=2))
    @example([(1, 1, False, 0)], {2: 0})  # no row is left
    def holds(parts: list, replayed: dict[int, int]):
        study = write_plan(tmp_path_factory.mktemp("study"))
        run = study[1]["runs"][0]["run"]
        for attempt, after in replayed.items():
            replay(study[0], run, attempt, after)
        for step, attempt, failed, at in parts:
            put(study, step, attempt, recorded_at=float(at), state="failed" if failed else "measured")
        frame = Store(study[0]).measurements()
        alive = [p for p in parts if not any(p[1] < a and p[0] > s for a, s in replayed.items())]
        best = {step: max((not f, a, t) for s, a, f, t in alive if s == step) for step in {p[0] for p in alive}}
        found = {
            (row["step"], row["state"] == "measured", row["attempt"], int(row["recorded_at"]))
            for row in frame.to_dict("records")
        }
        assert found == {(step, *row) for step, row in best.items()}
        assert len(frame) == 6 * len(best)
        Store(study[0]).publish("end")
        assert_frame_equal(Store(study[0]).measurements(), frame)

    holds()


@pytest.mark.parametrize("survivors", [0, 1, 5])
def test_a_compaction_cut_short_changes_nothing(survivors: int, finished: Study, monkeypatch: pytest.MonkeyPatch):
    storage = finished[0]
    before = {table: getattr(Store(storage), table)() for table in tables.SCHEMAS}
    removed: list[str] = []
    real = Storage.remove

    def remove(self: Storage, name: str) -> None:
        if len(removed) == survivors:
            raise KeyboardInterrupt
        removed.append(name)
        real(self, name)

    monkeypatch.setattr(Storage, "remove", remove)
    with pytest.raises(KeyboardInterrupt):
        Store(storage).publish("end")
    monkeypatch.undo()
    assert len(removed) == survivors
    for table, frame in before.items():
        assert_frame_equal(getattr(Store(storage), table)(), frame)
    Store(storage).publish("end")
    assert [len(tables.part_names(storage, table)) for table in tables.SCHEMAS] == [1] * 5


def test_what_is_published_whole_reads_as_the_store_does(finished: Study):
    storage = finished[0]
    put(finished, 4, state="failed", cause="out of memory", value=float("nan"), peak_memory=None, draw_values=None)
    replay(storage, finished[1]["runs"][1]["run"], attempt=2, after_step=1)
    for _ in range(2):
        Store(storage).publish("end")
        for table in tables.SCHEMAS:
            assert_frame_equal(pd.read_parquet(f"{storage.uri}/{table}.parquet"), getattr(Store(storage), table)())
            assert len(tables.part_names(storage, table)) == 1


def test_a_single_part_is_left_alone(planned: Study):
    put(planned, 4)
    before = tables.part_names(planned[0], "measurements")
    Store(planned[0]).publish("end")
    assert tables.part_names(planned[0], "measurements") == before


@dataclass(frozen=True)
class Compacting(Storage):
    """A storage that somebody compacts between each listing of a table's parts and the first reading."""

    def list(self, directory: str) -> list[str]:
        found = super().list(directory)
        if directory == "tables/measurements" and TIMES:
            TIMES.pop()
            Store(Storage(self.uri)).publish("end")
        return found


TIMES: list[None] = []


@pytest.fixture
def compacting(finished: Study) -> Iterator[Storage]:
    TIMES.append(None)
    yield Compacting(finished[0].uri)
    TIMES.clear()


def test_readers_live_with_a_compaction_under_way(compacting: Storage, finished: Study):
    assert len(Store(compacting).measurements()) == 48
    assert TIMES == []


def test_followers_live_with_a_compaction_under_way(compacting: Storage):
    frame, names = Store(compacting).parts_since("measurements", set())
    assert (len(frame), len(names), TIMES) == (48, 1, [])


def test_followers_see_each_part_once(planned: Study):
    store = Store(planned[0])
    put(planned, 0)
    frame, seen = store.parts_since("measurements", set())
    assert set(frame["step"]) == {0}
    put(planned, 1)
    put(planned, 1)
    frame, seen = store.parts_since("measurements", seen)
    assert (set(frame["step"]), len(frame)) == ({1}, 6)
    frame, seen = store.parts_since("measurements", seen)
    assert len(frame) == 0
