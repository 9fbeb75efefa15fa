"""JSON files of a study that somebody has changed: every command that reads them says which and what to do."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from study_on_disk import outcome, write_plan, write_study

from tangentscope.pipeline.cli import progress
from tangentscope.pipeline.driver.free import free
from tangentscope.pipeline.driver.load import load
from tangentscope.pipeline.report import write_report
from tangentscope.pipeline.store import launch, layout, records, run_files
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.further import requests
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.system.errors import UserError
from tangentscope.pipeline.training.attempts import begin

READERS: dict[str, Callable[[Storage], object]] = {
    "load": lambda storage: load(storage.uri),
    "status": lambda storage: progress.now(Store(storage)),
    "report": write_report,
    "gc": free,
}


def without(record: dict[str, Any], *path: Any) -> dict[str, Any]:
    """A copy of a record that lacks what stands at this path."""
    changed = copy.deepcopy(record)
    inner: Any = changed
    for part in path[:-1]:
        inner = inner[part]
    del inner[path[-1]]
    return changed


def with_value(record: dict[str, Any], value: Any, *path: Any) -> dict[str, Any]:
    """A copy of a record with another value at this path."""
    changed = copy.deepcopy(record)
    inner: Any = changed
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    return changed


PLANS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "empty mapping": (lambda plan: {}, "it has no study"),
    "list": (lambda plan: [], "it: got [], expected: a mapping"),
    "null": (lambda plan: None, "it: got None, expected: a mapping"),
    "number": (lambda plan: 3, "it: got 3"),
    "schema as text": (lambda plan: plan | {"schema": "1"}, "schema: got '1', expected: input should be a valid int"),
    "schema as null": (lambda plan: plan | {"schema": None}, "schema: got None"),
    "runs as a mapping": (lambda plan: plan | {"runs": {}}, "runs: got {}"),
    "a run as text": (lambda plan: plan | {"runs": ["a"]}, "runs.0: got 'a', expected: a mapping"),
    "no schedule": (lambda plan: without(plan, "runs", 1, "schedule"), "it has no runs.1.schedule"),
    "step as text": (lambda plan: with_value(plan, "1", "runs", 0, "schedule", 0), "runs.0.schedule.0: got '1'"),
    "a negative step": (lambda plan: with_value(plan, -1, "runs", 0, "schedule", 0), "runs.0.schedule.0: got -1"),
    "no steps in an epoch": (lambda plan: with_value(plan, 0, "runs", 0, "epoch_steps"), "runs.0.epoch_steps: got 0"),
    "no config": (lambda plan: without(plan, "runs", 0, "config"), "it has no runs.0.config"),
    "no model's name": (lambda plan: without(plan, "runs", 0, "config", "model", "name"), "runs.0.config.model.name"),
    "an id that is a path": (lambda plan: with_value(plan, "../x", "runs", 0, "run"), "runs.0.run: got '../x'"),
    "no variables": (lambda plan: without(plan, "probes", 0, "variables"), "it has no probes.0.variables"),
    "varied as text": (lambda plan: plan | {"varied": "model.width"}, "varied: got 'model.width'"),
    "keep": (lambda plan: plan | {"keep": "some"}, "keep: got 'some'"),
}


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_of_another_shape_is_refused_in_one_line(name: str, tmp_path: Path):
    storage, plan = write_plan(tmp_path / "study")
    change, said = PLANS[name]
    storage.write(layout.PLAN, json.dumps(change(plan)).encode())
    for read in READERS.values():
        with pytest.raises(UserError) as caught:
            read(storage)
        line = str(caught.value)
        assert line.startswith(f"{storage.path(layout.PLAN)}: damaged (")
        assert said in line
        assert line.endswith("; remove it and `run` the study again, which writes it anew")


OUTCOMES: dict[str, tuple[Any, str]] = {
    "empty mapping": ({}, "it has no state"),
    "list": ([], "expected: a mapping"),
    "null": (None, "expected: a mapping"),
    "unknown state": (outcome() | {"state": "done"}, "state: got 'done'"),
    "no end": ({"state": "finished"}, "it has no ended_at"),
    "end as text": (outcome() | {"ended_at": "now"}, "ended_at: got 'now'"),
    "no cause": ({"state": "failed", "ended_at": 1.0}, "a failed run has a cause"),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_an_outcome_of_another_shape_is_refused_in_one_line(name: str, tmp_path: Path):
    storage, plan = write_plan(tmp_path / "study")
    value, said = OUTCOMES[name]
    file = run_files.outcome(plan["runs"][0]["run"])
    storage.write(file, json.dumps(value).encode())
    for read in (READERS["status"], READERS["report"]):
        with pytest.raises(UserError) as caught:
            read(storage)
        line = str(caught.value)
        assert line.startswith(f"{storage.path(file)}: damaged (")
        assert said in line
        assert "takes the run up from its checkpoint" in line


@pytest.mark.parametrize("name", [layout.PLAN, "runs/{run}/outcome.json", layout.PROVENANCE])
def test_a_directory_where_a_file_belongs_is_named(name: str, tmp_path: Path):
    storage, plan = write_study(tmp_path / "study")
    file = name.format(run=plan["runs"][0]["run"])
    storage.remove(file)
    (tmp_path / "study" / file).mkdir()
    with pytest.raises(UserError, match=rf"{file}: a directory, expected a file; remove it"):
        write_report(storage)


def test_json_nested_without_end_is_damaged(tmp_path: Path):
    storage, _ = write_plan(tmp_path / "study")
    storage.write(layout.PLAN, b"[" * 100_000)
    with pytest.raises(UserError, match=r"plan\.json: damaged"):
        Store(storage)


def test_a_study_file_that_is_no_text_is_damaged(tmp_path: Path):
    storage, _ = write_plan(tmp_path / "study")
    storage.write(layout.STUDY, b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"study\.yaml: damaged \(not text\)"):
        Store(storage).study_yaml()


# What else is read as JSON: its file, a reader of it, and values that are not what it holds.
OTHERS: dict[str, tuple[str, Callable[[Storage, str], object]]] = {
    "claim": ("launches/000001.json", lambda storage, run: launch.holder(storage)),
    "beat": ("launches/000002.beat", lambda storage, run: launch.holder(storage)),
    "provenance": (layout.PROVENANCE, lambda storage, run: Store(storage).provenance()),
    "attempt": ("runs/{run}/attempts/0001.json", lambda storage, run: begin(launch.Launch(storage, 1), run)),
    "replay": ("runs/{run}/replays/0002.json", lambda storage, run: run_files.replays(storage, run)),
    "asked": ("further/0123.json", lambda storage, run: requests(storage)),
}


@pytest.mark.parametrize("value", [[], None, 3, "text", {"at": "x", "attempt": "x", "versions": 3}])
@pytest.mark.parametrize("kind", OTHERS)
def test_whatever_else_is_read_is_named_if_it_is_damaged(kind: str, value: Any, tmp_path: Path):
    storage, plan = write_plan(tmp_path / "study")
    run = plan["runs"][0]["run"]
    storage.remove(run_files.outcome(run))
    if kind == "beat":
        claim = {"host": "elsewhere", "pid": 1, "created": 0.0, "at": 0.0}
        storage.write_json("launches/000002.json", claim)
    file, reader = OTHERS[kind]
    storage.write(file.format(run=run), json.dumps(value).encode())
    with pytest.raises(UserError, match=rf"{file.format(run=run)}: damaged \(.+\); \w+"):
        reader(storage, run)


def test_what_an_earlier_version_wrote_is_read(tmp_path: Path):
    """The first plans had neither schema nor retries nor comparisons, and runs no layers."""
    storage, plan = write_study(tmp_path / "study")
    runs = [without(without(run, "layers"), "snapshots") for run in plan["runs"]]
    left_out = ("schema", "retried_at", "compares")
    storage.write_json(layout.PLAN, {k: v for k, v in plan.items() if k not in left_out} | {"runs": runs})
    assert len(progress.now(Store(storage))) == len(runs)
    assert records.read(storage, "nowhere.json", "plan", {"a": 1}) == {"a": 1}
