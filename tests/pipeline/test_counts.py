"""Counts from manifests: the same as the rows would give, and without reading them."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from object_storage import object_store
from study_on_disk import START, Row, measurement_rows, replay, small_plan, write_plan

from tangentscope.pipeline.probing.settled import ledger_of
from tangentscope.pipeline.store import layout, manifest, run_files, tables
from tangentscope.pipeline.store.failures import stands
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.plan import Plan
from tangentscope.pipeline.store.reader import Store

Study = tuple[Storage, Row]

VARIABLES = ("trace", "entropy", "effective_rank")
PARTS = st.fixed_dictionaries(
    {
        "do": st.just("publish"),
        "run": st.integers(0, 1),
        "step": st.sampled_from([0, 1, 2, 3, 4]),
        "attempt": st.integers(1, 3),
        "state": st.sampled_from(["measured", "failed", "interrupted"]),
        "launch": st.sampled_from([None, 1, 2]),  # older rows name none
        "version": st.sampled_from([0, 0, 0, 1]),  # above the plan's
        "at": st.integers(0, 3),
        "variables": st.sets(st.sampled_from(VARIABLES), min_size=1),
        "writer": st.sampled_from(["hub-000001", "hub-000002"]),
        "dies": st.booleans(),  # before it has written the manifest
    }
)
DEEDS = st.lists(st.one_of(PARTS, st.sampled_from([{"do": "compact"}, {"do": "remove"}])), max_size=10)


def do(study: Study, deed: Mapping[str, Any]) -> None:
    storage, plan = study
    names = tables.part_names(storage, "measurements")
    if deed["do"] == "compact":
        Store(storage).publish("compact-000001")
    elif deed["do"] == "remove":
        for name in names[:1]:
            storage.remove(name)
    else:
        run = plan["runs"][deed["run"]]
        changes = {"recorded_at": START + deed["at"], "launch": deed["launch"], "state": deed["state"]}
        changes |= {} if deed["state"] == "measured" else {"value": math.nan}
        rows = measurement_rows(plan, run, deed["step"], deed["attempt"], **changes)
        rows = [row | {"version": row["version"] + deed["version"]} for row in rows]
        file = manifest.Manifest("measurements", deed["writer"]).file
        before = storage.read(file) if storage.exists(file) else None
        rows = [row for row in rows if row["variable"] in deed["variables"]]
        tables.write_part(storage, "measurements", rows, deed["writer"])
        if deed["dies"]:
            storage.remove(file) if before is None else storage.write(file, before)


def by_rows(storage: Storage, plan: Row) -> dict[str, tuple[int, int]]:
    """Values measured and failed by run, from every row."""
    rows, typed = tables.read_parts(storage, "measurements").frame.to_dict("records"), Plan.from_json(plan)
    found = {}
    for run in plan["runs"]:
        wanted = typed.wanted(typed.run_of[run["run"]])
        planned = {(s, p, v) for s, probes in wanted.items() for p, names in probes.items() for v in names}
        replayed = run_files.replays(storage, run["run"])
        of_run = [
            row for row in rows if row["run"] == run["run"] and plan["versions"][row["variable"]] == row["version"]
        ]
        of_run = [row for row in of_run if not run_files.superseded(row["attempt"], row["step"], replayed)]
        places = {True: set(), False: set()}
        for row in of_run:
            if row["state"] == "measured" or stands(row, typed):
                places[row["state"] == "measured"].add((row["step"], row["probe"], row["variable"]))
        found[run["run"]] = len(planned & places[True]), len(planned & places[False] - places[True])
    return found


@pytest.mark.parametrize("examples", [pytest.param(10, id="few"), pytest.param(40, id="many", marks=pytest.mark.slow)])
def test_counts_are_those_of_the_rows_whatever_happened(examples: int, tmp_path_factory: pytest.TempPathFactory):
    @settings(max_examples=examples, deadline=None)
    @given(
        DEEDS,
        st.dictionaries(st.integers(2, 3), st.sampled_from([0, 1, 2]), max_size=2),
        st.sampled_from([{}, {"retried_at": START}, {"retried_at": START + 2}, {"retried": 1}, {"retried": 2}]),
        st.sampled_from([(0, 1, 2, 4), (0, 4), (1, 3)]),
    )
    def holds(deeds: list[dict], replayed: dict[int, int], retried: dict[str, float], schedule: tuple[int, ...]):
        storage, plan = write_plan(tmp_path_factory.mktemp("study"))
        first = plan["runs"][0]["run"]
        runs = [plan["runs"][0] | {"schedule": schedule}, *plan["runs"][1:]]
        plan = plan | {"runs": runs, **{key: {first: value} for key, value in retried.items()}}
        storage.write_json(layout.PLAN, plan)
        for attempt, after in replayed.items():
            replay(storage, first, attempt, after)
        for deed in deeds:
            do((storage, plan), deed)
        found = Store(storage).counts()
        assert {run: (count.measured, count.failed) for run, count in found.items()} == by_rows(storage, plan)
        for count in found.values():
            assert sum(each.measured for each in count.of.values()) == count.measured
            assert sum(each.failed for each in count.of.values()) == count.failed

    holds()


def test_counts_are_the_ledgers(finished: Study):
    storage, plan = finished
    rows = measurement_rows(plan, plan["runs"][1], 2, attempt=2, state="failed", value=math.nan)
    tables.write_part(storage, "measurements", rows, "hub")
    replay(storage, plan["runs"][1]["run"], attempt=2, after_step=1)
    store = Store(storage)
    ledger = ledger_of(store.plan, store.recorded())
    found = Store(storage).counts()
    assert {run: count.measured for run, count in found.items()} == ledger.measured_by_run()
    assert {run: count.failed for run, count in found.items()} == ledger.failed_by_run()
    assert [(count.measured, count.failed) for count in found.values()] == [(24, 0), (12, 6)]


def test_no_part_is_opened(finished: Study, monkeypatch: pytest.MonkeyPatch):
    storage, _ = finished
    opened: list[str] = []
    real = Storage.read
    monkeypatch.setattr(Storage, "read", lambda self, name: opened.append(name) or real(self, name))
    for parts in (8, 1):
        assert len(tables.part_names(storage, "measurements")) == parts
        assert [count.measured for count in Store(storage).counts().values()] == [24, 24]
        assert [name for name in opened if name.endswith(".parquet")] == []
        assert len([name for name in opened if name.endswith(".manifest")]) == 1
        Store(storage).publish("compact-000001")
        opened.clear()


def test_counts_on_an_object_store(monkeypatch: pytest.MonkeyPatch):
    storage, plan = object_store(monkeypatch), small_plan()
    storage.write_json(layout.PLAN, plan)
    for run in plan["runs"]:
        for step in run["schedule"]:
            tables.write_part(storage, "measurements", measurement_rows(plan, run, step), "hub")
    for _ in range(2):
        assert [count.measured for count in Store(storage).counts().values()] == [24, 24]
        Store(storage).publish("compact-000001")
    storage.remove(tables.part_names(storage, "measurements")[0])
    assert [count.measured for count in Store(storage).counts().values()] == [0, 0]


def test_a_store_of_before_there_were_manifests_is_counted_by_its_rows(finished: Study):
    storage, _ = finished
    storage.remove("manifests/measurements/hub.manifest")
    assert [count.measured for count in Store(storage).counts().values()] == [24, 24]
