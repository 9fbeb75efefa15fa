"""Stores that the code of before the typed plan wrote are read, and written again just as they were."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tangentscope.pipeline.cli import progress
from tangentscope.pipeline.config.components import PARTS, dump, restore
from tangentscope.pipeline.driver.outlook import outlook
from tangentscope.pipeline.probing.settled import ledger_of
from tangentscope.pipeline.store import layout, run_files
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.further import FurtherRequest, requests
from tangentscope.pipeline.store.layout import Notice
from tangentscope.pipeline.store.outcome import Outcome
from tangentscope.pipeline.store.plan import Plan, count_values
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.study.plan import study_plan
from tangentscope.pipeline.study.runs import make_runs
from tangentscope.pipeline.study.spec import read_study

STORES = Path(__file__).parent / "stores"
KINDS = ("study", "attached", "further", "game")


def files(kind: str, pattern: str) -> list[tuple[str, Any]]:
    found = [(path.relative_to(STORES / kind).as_posix(), json.loads(path.read_text()))
             for path in sorted((STORES / kind).glob(pattern))]  # fmt: skip
    assert found, f"no {pattern} in {kind}"
    return found


def plain(value: Any) -> Any:
    """As JSON has it."""
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_is_written_as_it_was(kind: str, tmp_path: Path):
    ((_, record),) = files(kind, "plan.json")
    assert plain(Plan.from_json(record).to_json()) == record
    storage = Storage.at(tmp_path)
    Plan.from_json(record).write(storage)
    assert storage.read(layout.PLAN) == (STORES / kind / "plan.json").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_an_outcome_is_written_as_it_was(kind: str):
    for _, record in files(kind, "runs/*/outcome.json"):
        assert plain(Outcome.from_json(record).to_json()) == record


@pytest.mark.parametrize(
    "more",
    [
        {"state": "failed", "cause": "ValueError: NaN", "traceback": "Traceback …"},
        {"state": "failed", "cause": "its worker group died 2 times while it was training", "traceback": None},
        {"state": "stopped", "cause": "stopped on request"},
    ],
)
def test_an_outcome_of_another_end_is_written_as_it_was(more: dict[str, Any]):
    about = {"attempt": 1, "started_at": 1.0, "ended_at": 3.0, "seconds": 2.0, "host": "node"}
    record = about | {"device": "cpu", "workers": 2} | more
    assert plain(Outcome.from_json(record).to_json()) == record


@pytest.mark.parametrize("kind", ["further", "game"])
def test_a_further_request_is_written_as_it_was(kind: str):
    for file, record in files(kind, "further/*.json"):
        request = FurtherRequest.from_json(record)
        assert plain(request.to_json()) == record
        assert request.file == file, "the same request is not asked for a second time"


@pytest.mark.parametrize("kind", KINDS)
def test_an_attempt_is_read(kind: str):
    storage = Storage.at(STORES / kind)
    for run in Store(storage).runs:
        (attempt,) = run_files.attempts(storage, run.id)
        record = storage.read_json(run_files.attempt(run.id, 1))
        assert attempt.to_json().items() >= record.items()


def test_what_was_asked_for_further_is_wanted_of_the_game():
    plan = Plan.from_json(files("game", "plan.json")[0][1])
    (run,) = plan.runs
    assert {step: len(probes) for step, probes in plan.wanted(run).items()} == {0: 2, 1: 4, 2: 4} or run.further
    assert {probe.part for probe in plan.further} == {"actor", "critic"}
    assert all(probe.source and probe.source.startswith("8 states of 4 games") for probe in plan.further)
    assert count_values(plan.wanted(run)) == sum(len(probes) for probes in plan.wanted(run).values())


@pytest.fixture
def interrupted(tmp_path: Path) -> Storage:
    """A study of two runs: one is trained and measured, the other has a checkpoint of step 61 of 7500."""
    with tarfile.open(STORES / "interrupted.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return Storage.at(tmp_path / "interrupted")


FINISHED, BEGUN = "7e099ba18753", "a06c6614e215"


def test_the_plan_of_a_study_in_mid_run_is_made_as_before(interrupted: Storage):
    study = read_study(Path(interrupted.path(layout.STUDY)), ())
    runs = make_runs(study, None)
    held = interrupted.read_json(layout.PLAN)
    for run in held["runs"]:  # fields that there were not then have the values that they had
        parts = dict(zip(PARTS, restore(run["config"]), strict=True))
        run["config"] |= {kind: dump(part) for kind, part in parts.items()}
    assert plain(study_plan(study, runs, 1, Plan.read(interrupted), further=requests(interrupted)).to_json()) == held


def test_a_study_in_mid_run_goes_on(interrupted: Storage):
    study = read_study(Path(interrupted.path(layout.STUDY)), ())
    ahead = outlook(interrupted, study, make_runs(study, None))
    assert (ahead.train, ahead.done) == (["width=3 seed=0"], ["width=12 seed=0"])
    assert not [*ahead.measure, *ahead.retrain, *ahead.ended]
    store = Store(interrupted)
    shown = {run.name: (run.state, run.snapshots, run.measured) for run in progress.now(store)}
    measured = store.measurements()
    assert shown == {
        "width=12 seed=0": ("finished", 6, int((measured["run"] == FINISHED).sum())),
        "width=3 seed=0": ("interrupted", 3, int((measured["run"] == BEGUN).sum())),
    }
    assert run_files.newest_checkpoint(interrupted, BEGUN) == (61, run_files.checkpoint(BEGUN, 61, 1))


def test_what_is_missing_of_a_study_in_mid_run_is_measured_and_nothing_else(interrupted: Storage):
    store = Store(interrupted)
    ledger = ledger_of(store.plan, store.recorded())
    for run in (FINISHED, BEGUN):
        for name in run_files.current_snapshots(interrupted, run):
            ledger.notice(Notice(run, name))
    jobs = [*iter(lambda: ledger.take("one"), None)]
    missing = [(j.run, j.name.step, p, v) for j in jobs for p, names in j.wanted.items() for v in names]
    rows = store.measurements()
    measured = list(zip(rows["run"], rows["step"], rows["probe"], rows["variable"], strict=True))
    wanted = [
        (run.id, step, probe, variable)
        for run in store.runs
        for step, probes in store.wanted(run).items()
        if run.id == FINISHED or step in (0, 1, 9)
        for probe, names in probes.items()
        for variable in names
    ]
    assert measured
    assert missing
    assert sorted([*measured, *missing]) == sorted(wanted)
