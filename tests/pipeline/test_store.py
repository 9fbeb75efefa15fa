from pathlib import Path
from typing import Any

import pytest
from study_on_disk import checksum, history_rows, profile_rows, put, replay, small_plan, spectrum_rows, value_of

from tangentscope import pipeline
from tangentscope.pipeline.store import layout, tables
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.system.errors import UserError

Study = tuple[Storage, dict[str, Any]]

ISSUE = "study run task model seed step epoch split outputs variable value stderr draws probe_seconds lag_seconds"


def values(study: Study) -> dict[int, set[float]]:
    """By step: the values of the train split's first variable."""
    rows = Store(study[0]).measurements()
    rows = rows.loc[(rows["variable"] == "trace") & (rows["split"] == "train")]
    return {int(step): set(found["value"]) for step, found in rows.groupby("step")}


def test_columns_have_one_type_whatever_was_measured(planned: Study):
    types = [Store(planned[0]).measurements().dtypes]
    for step, length in ((0, 3), (4, None)):  # profiles only, then numbers too
        put(planned, step, length=length)
        types.append(Store(planned[0]).measurements().dtypes)
    assert {str(found["length"]) for found in types} == {"float64"}


def test_parts_are_written_and_read(planned: Study):
    storage, plan = planned
    rows = spectrum_rows(plan["runs"][0], 4)
    name = tables.write_part(storage, "spectra", iter(rows), "me")
    assert name is not None
    assert name.startswith("tables/spectra/me-")
    assert tables.part_names(storage, "spectra") == [name]
    assert tables.read_parts(storage, "spectra").frame.drop(columns=["eigenvalues", "part"]).to_dict("records") == [
        {key: value for key, value in row.items() if key != "eigenvalues"} for row in rows
    ]
    assert tables.read_parts(storage, "spectra").frame["eigenvalues"][0].tolist() == [3.0, 1.0, 0.0]
    assert tables.write_part(storage, "spectra", [], "me") is None
    assert len(tables.part_names(storage, "spectra")) == 1


def test_the_latest_launchs_value_counts_whatever_its_clock_said(planned: Study):
    """Also over a row from before rows said of which launch they are."""
    for launch, value, clock in ((None, 1.0, 5e9), (1, 2.0, 4e9), (2, 3.0, 3e9)):
        put(planned, 4, launch=launch, value=value, recorded_at=clock)
    assert values(planned) == {4: {3.0}}


def test_the_latest_profile_of_a_draw_and_variable_counts(planned: Study):
    storage, plan = planned
    run = plan["runs"][0]
    for number, variable in ((1.0, "projection_factors"), (2.0, "projection_factors"), (3.0, "kinetic_energies")):
        rows = profile_rows(run, 4, variable=variable, values=[number, 0.0], recorded_at=number)
        tables.write_part(storage, "profiles", rows, "hub")
    frame = pipeline.load(storage.uri, "profiles")
    assert [(row.variable, row["values"].tolist()) for _, row in frame.iterrows()] == [
        ("kinetic_energies", [3.0, 0.0]),
        ("projection_factors", [2.0, 0.0]),
    ] * len(run["probes"])


@pytest.mark.parametrize("table", tables.SCHEMAS)
def test_a_table_without_rows_has_its_columns(table: str, planned: Study):
    frame = getattr(Store(planned[0]), table)()
    assert len(frame) == 0
    assert {*tables.SCHEMAS[table].names, "study", "task", "model", "seed", "model.width"} == set(frame.columns)


def test_measurements_come_in_the_promised_order_with_the_varied_fields(finished: Study):
    frame = pipeline.load(finished[0].uri)
    assert list(frame.columns[:16]) == [*ISSUE.split(), "model.width"]
    assert len(frame) == 2 * 4 * 2 * 3
    for run in finished[1]["runs"]:
        rows = frame.loc[frame["run"] == run["run"]]
        assert set(rows["model.width"]) == {run["config"]["model"]["width"]}
        assert (set(rows["study"]), set(rows["task"]), set(rows["model"])) == ({"quickstart"}, {"mnist"}, {"mlp"})
        assert set(rows["step"]) == {0, 1, 2, 4}
        assert set(rows["epoch"]) == {0.0, 0.5, 1.0, 2.0}
    assert not frame.duplicated(tables.KEYS["measurements"]).any()


def test_the_same_rows_in_several_parts_count_once(planned: Study):
    for _ in range(3):
        put(planned, 4)
    assert len(tables.read_parts(planned[0], "measurements").frame) == 18
    frame = Store(planned[0]).measurements()
    assert len(frame) == 6
    assert not frame.duplicated(tables.KEYS["measurements"]).any()


@pytest.mark.parametrize("failed_first", [True, False])
@pytest.mark.parametrize("failed_attempt", [1, 2])
def test_a_failed_row_gives_way_to_a_measured_one(failed_first: bool, failed_attempt: int, planned: Study):
    failed = {"state": "failed", "cause": "out of memory", "value": float("nan"), "recorded_at": 1e12}
    for fail in (failed_first, not failed_first):
        put(planned, 4, **({"attempt": failed_attempt, **failed} if fail else {"recorded_at": 1.0}))
    assert set(Store(planned[0]).measurements()["state"]) == {"measured"}
    assert values(planned) == {4: {value_of(4, 1, 0)}}


def test_a_failed_row_alone_stays_with_its_cause(planned: Study):
    put(planned, 4, state="failed", cause="out of memory", value=float("nan"), peak_memory=None)
    frame = Store(planned[0]).measurements()
    assert set(frame["cause"]) == {"out of memory"}
    assert frame["value"].isna().all()


def test_the_latest_attempt_wins_then_the_latest_row(planned: Study):
    put(planned, 4, attempt=2, value=2.0, recorded_at=1.0)
    put(planned, 4, attempt=1, value=1.0, recorded_at=9.0)
    assert values(planned) == {4: {2.0}}
    put(planned, 4, attempt=2, value=3.0, recorded_at=2.0)
    assert values(planned) == {4: {3.0}}


def test_no_curve_is_spliced_from_two_trajectories(planned: Study):
    for step in (0, 1, 2, 4):
        put(planned, step, attempt=1)
    put(planned, 2, attempt=2)
    run = planned[1]["runs"][0]["run"]
    replay(planned[0], run, attempt=2, after_step=1)
    assert values(planned) == {step: {value_of(step, attempt, 0)} for step, attempt in ((0, 1), (1, 1), (2, 2))}
    assert set(Store(planned[0]).measurements()["checksum"]) == {checksum(0), checksum(1), checksum(2, 2)}


def test_a_replay_of_one_run_leaves_the_others_alone(finished: Study):
    one, other = (run["run"] for run in finished[1]["runs"])
    replay(finished[0], one, attempt=2, after_step=1)
    for table in tables.SCHEMAS:
        frame = pipeline.load(finished[0].uri, table)
        assert set(frame.loc[frame["run"] == one, "step"]) == {0, 1}
        assert set(frame.loc[frame["run"] == other, "step"]) == {0, 1, 2, 4}


def test_runs_that_the_plan_has_no_longer_are_not_shown_but_kept(finished: Study):
    storage, plan = finished
    storage.write_json("plan.json", plan | {"runs": plan["runs"][:1]})
    assert set(pipeline.load(storage.uri)["run"]) == {plan["runs"][0]["run"]}
    Store(storage).publish("end")
    storage.write_json("plan.json", plan)
    assert len(pipeline.load(storage.uri)) == 48


def test_history_is_deduplicated_by_its_own_key(planned: Study):
    storage, plan = planned
    for value in (1.0, 2.0):
        rows = history_rows(plan["runs"][0], 4, recorded_at=value, value=value)
        tables.write_part(storage, "history", rows, "train")
    frame = pipeline.load(storage.uri, "history")
    assert frame["value"].tolist() == [2.0] * 4
    assert set(zip(frame["split"], frame["variable"], strict=True)) == {
        (split, variable) for split in ("train", "test") for variable in ("loss", "accuracy")
    }


def test_outcomes_and_provenance(finished: Study):
    store = Store(finished[0])
    assert {run: outcome.state for run, outcome in store.outcomes().items()} == {
        run.id: "finished" for run in store.runs
    }
    assert store.provenance()["git_commit"] == "0123abcd" * 5
    assert (store.name, store.varied, store.study_yaml()) == ("quickstart", ("model.width",), "name: quickstart\n")
    assert store.plan.to_json() == small_plan()


@pytest.mark.parametrize("place", ["nothing", "."])
def test_a_place_without_a_study(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no study here \(no plan.json\); give the --out directory"):
        pipeline.load(place)


def test_a_table_that_is_none(finished: Study):
    with pytest.raises(
        UserError, match='table "measurement" unknown; allowed: measurements, spectra, profiles, history'
    ):
        pipeline.load(finished[0].uri, "measurement")


@pytest.mark.parametrize(("elapsed", "seconds"), [(0, 2), (100, 2), (200, 4), (3000, 60), (10**6, 60)])
def test_parts_grow_rarer(elapsed: float, seconds: float):
    assert tables.flush_interval(elapsed) == seconds


def test_what_a_newer_version_wrote_is_refused_and_what_an_older_one_wrote_is_read(planned: Study):
    storage, plan = planned
    assert plan["schema"] == layout.SCHEMA
    storage.write_json(layout.PLAN, {key: value for key, value in plan.items() if key != "schema"})
    assert len(Store(storage).runs) == 2
    storage.write_json(layout.PLAN, plan | {"schema": layout.SCHEMA + 1})
    with pytest.raises(UserError, match=r"by a newer tangentscope \(schema 2, this one reads up to 1\); upgrade"):
        Store(storage)
