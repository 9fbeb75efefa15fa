import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from study_on_disk import checksum, small_plan, small_study, write_study

from tangentscope.pipeline import cli
from tangentscope.pipeline.driver import execution, finish
from tangentscope.pipeline.driver import run as study
from tangentscope.pipeline.driver.standing import clear, standings
from tangentscope.pipeline.store import layout, run_files, tables
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.launch import Launch
from tangentscope.pipeline.store.layout import SnapshotName
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.system.errors import Fenced, Stopped, UserError

Study = tuple[Storage, dict[str, Any]]


def files(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob("*")}


def test_runs_that_no_group_ended_have_not_failed(planned: Study):
    storage, plan = planned
    first, second = (run["run"] for run in plan["runs"])
    work = execution.Work(None, Launch(storage, 1), Store(storage), [first, second], None, lambda: None)  # pyright: ignore
    storage.write_json(run_files.outcome(first), {"state": "finished"})
    with pytest.raises(Stopped, match=r"^error: 1 runs of .*: no room in the cluster; run the same command again"):
        execution._check_all_ended(work, ["no room in the cluster"])
    assert not storage.exists(run_files.outcome(second)), "the same command goes on"
    storage.write_json(run_files.outcome(second), {"state": "failed"})
    execution._check_all_ended(work, [])


@pytest.mark.parametrize(
    ("freed", "asked", "trained"),
    [
        ([], ["trace", "kernel_velocity"], False),  # measured on what was kept
        ([1], ["trace", "kernel_velocity"], True),
        ([1], ["trace"], False),
        ([], ["trace", "kernel_distance"], False),
        ([0], ["trace", "kernel_distance"], True),
    ],
)
def test_a_new_comparison_trains_again_what_was_not_kept(freed: list[int], asked: list[str], trained: bool, tmp_path):
    storage, plan = write_study(tmp_path, "probes.variables=[trace]")
    for run, step in ((run["run"], step) for run in plan["runs"] for step in freed):
        name = SnapshotName(step, 1, checksum(step))
        storage.write(run_files.snapshot(run, replace(name, freed=True)), b"")
        storage.remove(run_files.snapshot(run, name))
    variables = f"probes.variables=[{', '.join(asked)}]"
    storage.write_json(layout.PLAN, small_plan(variables))
    before = files(tmp_path)
    found = standings(Store(storage))
    assert files(tmp_path) == before, "asking changes nothing"
    assert not any(each.faults for each in found)
    assert [each.trains for each in found] == [trained] * 2
    assert all(each.kind == ("retrain" if trained else "done" if asked == ["trace"] else "measure") for each in found)
    assert trained or [each.unread for each in found] == [0 if asked == ["trace"] else 4] * 2
    clear(storage, found)
    assert all(storage.exists(run_files.outcome(run["run"])) != trained for run in plan["runs"])


@pytest.mark.parametrize("freed", [[], [1]])
def test_what_is_trained_again_is_told_before(freed: list[int], tmp_path, monkeypatch: pytest.MonkeyPatch):
    storage, plan = write_study(tmp_path, "probes.variables=[trace]")
    for run in (run["run"] for run in plan["runs"][1:]):
        for name in (SnapshotName(step, 1, checksum(step)) for step in freed):
            storage.write(run_files.snapshot(run, replace(name, freed=True)), b"")
            storage.remove(run_files.snapshot(run, name))
    monkeypatch.setattr(study, "execute", lambda works, *given: [Stopped()])  # nothing is trained here
    told: list[str] = []
    order = study.Order(small_study("probes.variables=[trace, entropy_cosine]")[0], "small.yaml", tmp_path)
    study.run_studies([order], offline=True, tell=told.append)
    names = ", ".join(run["name"] for run in plan["runs"][1:])
    again = f"{plan['study']}: retrain {names}: a snapshot that is wanted now was not taken or not kept"
    assert told == ([again] if freed else [])


def test_snapshots_of_two_runs_exchanged_are_set_aside_and_trained_again(tmp_path, monkeypatch: pytest.MonkeyPatch):
    storage, plan = write_study(tmp_path, "probes.variables=[trace]")
    files = [run_files.snapshot(run["run"], SnapshotName(2, 1, checksum(2))) for run in plan["runs"]]
    contents = [storage.read(file) for file in files]
    for file, content in zip(files, reversed(contents), strict=True):
        storage.write(file, content)
    monkeypatch.setattr(study, "execute", lambda works, *given: [Stopped()])  # nothing is trained here
    told: list[str] = []
    order = study.Order(small_study("probes.variables=[trace]")[0], "small.yaml", tmp_path)
    study.run_studies([order], offline=True, tell=told.append)
    assert told == [], "nothing is to be read of them: all has been measured"
    order = study.Order(small_study("probes.variables=[trace, entropy]")[0], "small.yaml", tmp_path)
    study.run_studies([order], offline=True, tell=told.append)
    for file, run, other, content, line in zip(
        files, plan["runs"], reversed(plan["runs"]), reversed(contents), told[:2], strict=True
    ):
        assert line == f"quickstart: {file}: foreign (its run is {other['run']}, expected {run['run']}); set aside"
        assert storage.read(f"{file}.foreign") == content
        assert not storage.exists(file)
        assert not storage.exists(run_files.outcome(run["run"])), "it is trained again"
    names = ", ".join(run["name"] for run in plan["runs"])
    assert told[2:] == [f"quickstart: retrain {names}: a snapshot that is wanted now was not taken or not kept"]


@pytest.mark.parametrize("table", ["spectra", "profiles"])
def test_values_whose_spectrum_or_profile_is_gone_are_measured_again(
    table: str, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    storage, plan = write_study(tmp_path, "probes.variables=[trace, projection_factors]")
    run = plan["runs"][0]["run"]
    freed = SnapshotName(4, 1, checksum(4))
    run_files.bury(storage, layout.Notice(run, freed))
    for name in tables.part_names(storage, table):
        storage.remove(name)
    left: list[dict[str, Any]] = []
    monkeypatch.setattr(study, "execute", lambda works, *given: left.append(works[0].store.counts()) or [Stopped()])
    told: list[str] = []
    order = study.Order(small_study("probes.variables=[trace, projection_factors]")[0], "small.yaml", tmp_path)
    study.run_studies([order], offline=True, tell=told.append)
    again = "its values are measured again where snapshots are kept"
    assert len(told) == 8
    assert all(line.endswith(f"missing (2 rows); {again}") for line in told)
    # On two probes each, of eight snapshots: the values on the one that was freed stand as they are.
    gone = 7 * 2 * (2 if table == "spectra" else 1)
    assert sum(counts.planned - counts.measured for counts in left[0].values()) == gone


def test_what_mlflow_refuses_is_told_in_one_line(finished: Study):
    storage, _ = finished
    with pytest.raises(UserError, match=r"^MLflow at nowhere://there: .*; mend it and sync again$"):
        finish.sync(storage, "nowhere://there")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "plan.json"),
            "No space left on device: 'plan.json'; results",
        ),
        (Fenced("launch 1 has been taken over"), "launch 1 has been taken over; this launch has published nothing"),
    ],
)
def test_a_launch_that_cannot_go_on_says_why(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    def run_study(*given: Any, **how: Any) -> None:
        raise error

    monkeypatch.setattr(study, "run_studies", run_study)
    monkeypatch.setattr("sys.argv", ["tangentscope", "run", "quickstart"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert said in printed
    assert printed.count("\n") == 1
