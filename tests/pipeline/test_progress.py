import io
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from rich.console import Console
from study_on_disk import Row, checksum, measurement_rows, outcome, write_study

from tangentscope.pipeline.cli import progress, summary
from tangentscope.pipeline.driver.finish import Ended
from tangentscope.pipeline.store import run_files, tables
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.launch import claim
from tangentscope.pipeline.store.layout import SnapshotName
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.store.status import NO_ANSWER, HubStatus

Study = tuple[Storage, Row]


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=200, soft_wrap=True)


def by_name(storage: Storage) -> dict[str, progress.RunProgress]:
    return {run.name: run for run in progress.now(Store(storage))}


def test_a_study_that_has_not_begun(planned: Study):
    runs = progress.now(Store(planned[0]))
    assert [(run.state, run.snapshots, run.measured) for run in runs] == [("waiting", 0, 0)] * 2
    assert progress.summary(runs) == "2 waiting; 0 of 8 snapshots, 0 of 48 values measured"


def test_a_study_that_has_finished(finished: Study):
    runs = progress.now(Store(finished[0]))
    assert [(run.state, run.snapshots, run.measured) for run in runs] == [("finished", 4, 24)] * 2
    assert progress.summary(runs) == "2 finished; 8 of 8 snapshots, 48 of 48 values measured"


def test_a_run_between_its_start_and_its_outcome(finished: Study):
    storage, plan = finished
    storage.remove(run_files.outcome(plan["runs"][0]["run"]))
    assert by_name(storage)["width=3 seed=0"].state == "interrupted"
    with claim(storage):
        assert by_name(storage)["width=3 seed=0"].state == "running"
    storage.write_json(run_files.outcome(plan["runs"][0]["run"]), outcome("failed", "ValueError: NaN"))
    failed = by_name(storage)["width=3 seed=0"]
    assert (failed.state, failed.cause) == ("failed", "ValueError: NaN")


def test_a_trained_run_is_measured_until_all_planned_values_are_there(finished: Study):
    storage, plan = finished
    run = plan["runs"][0]
    for part in tables.part_names(storage, "measurements"):
        storage.remove(part)
    rows = [row for step in run["schedule"] for row in measurement_rows(plan, run, step)]
    others = [row | change for row in rows[:3] for change in ({"probe": "old"}, {"variable": "old"}, {"step": 3})]
    failed = [row | {"state": "failed"} for row in rows[-1:]]
    tables.write_part(storage, "measurements", rows[:-2] + others + failed, "hub")
    found = by_name(storage)["width=3 seed=0"]
    assert (found.state, found.measured, found.failed_values, found.planned_values) == ("interrupted", 22, 1, 24)
    with claim(storage):
        assert by_name(storage)["width=3 seed=0"].state == "measuring"
    tables.write_part(storage, "measurements", rows[-2:-1], "hub")
    found = by_name(storage)["width=3 seed=0"]
    assert found.state == "finished"
    assert progress.summary([found]) == "1 finished; 4 of 4 snapshots, 23 of 24 values measured, 1 failed"


def test_the_table_shows_what_goes_on_first_and_counts_all(finished: Study, console: Console):
    storage, plan = finished
    storage.write_json(run_files.outcome(plan["runs"][1]["run"]), outcome("failed", "ValueError: NaN"))
    runs = progress.now(Store(storage))
    console.print(progress.table(runs, title="quickstart"))
    lines = text_of(console).splitlines()
    rows = [line for line in lines if "seed=0" in line]
    assert ["width=5" in rows[0], "width=3" in rows[1]] == [True, True]
    assert "failed: ValueError: NaN" in rows[0]
    assert "4/4" in rows[1]
    assert "24/24" in rows[1]
    assert "1 failed, 1 finished; 8 of 8 snapshots, 48 of 48 values measured" in text_of(console)
    many = progress.table(runs * 30)
    assert many.row_count == 31  # the last one says how many more there are
    assert "30 failed, 30 finished" in str(many.title)


def test_without_a_terminal_each_change_is_a_plain_line(finished: Study, console: Console):
    storage, plan = finished
    store = Store(storage)
    for run in plan["runs"]:
        storage.remove(run_files.outcome(run["run"]))
    everything = HubStatus(measured={run["run"]: 24 for run in plan["runs"]})
    with progress.shown(console) as watch:
        watch(store, NO_ANSWER)
        watch(store, NO_ANSWER)
        storage.write_json(run_files.outcome(plan["runs"][0]["run"]), outcome())
        storage.write_json(run_files.outcome(plan["runs"][1]["run"]), outcome("failed", "ValueError: [NaN]"))
        watch(store, everything)
    assert text_of(console).splitlines() == [
        "width=3 seed=0: running",
        "width=5 seed=0: running",
        "width=3 seed=0: finished",
        "width=5 seed=0: failed: ValueError: [NaN]",
    ]


def test_on_a_terminal_there_is_one_table(finished: Study):
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with progress.shown(console) as watch:
        watch(Store(finished[0]), HubStatus(trouble="No space left"))
    assert "quickstart  (storage: No space left)" in text_of(console)
    assert "2 measuring" in text_of(console)
    assert text_of(console).rindex("2 finished; 8 of 8 snapshots, 48 of 48") > text_of(console).rindex("No space left")


def test_the_snapshots_of_a_trajectory_that_was_left_are_not_counted(finished: Study):
    storage, plan = finished
    run = plan["runs"][0]["run"]
    storage.write_json(f"runs/{run}/replays/0002.json", {"after_step": 1})
    assert by_name(storage)["width=3 seed=0"].snapshots == 2
    storage.write(run_files.snapshot(run, SnapshotName(2, 2, checksum(2, 2))), b"")
    assert by_name(storage)["width=3 seed=0"].snapshots == 3


def ended(**changes: Any) -> Ended:
    known = {"finished": 2, "stopped": 0, "failed": {}, "failed_measurements": 0, "seconds": 61.2, "tracking_uri": None}
    return Ended(**{**known, "interrupted": {}, "nonfinite": 0, "experiment": None, "trouble": None, **changes})


def test_where_nothing_was_missing_one_line_says_so(console: Console):
    summary.tell(console, "results", ended(tracking_uri="sqlite:///mlflow.db", experiment="7", idle=True))
    (line,) = text_of(console).splitlines()
    assert line.startswith("nothing to do: 2 runs finished, 0 failed, and no snapshot waits to be measured; report ")
    failed = ended(idle=True, finished=1, failed={"width=3 seed=0": "ValueError: no"}, trouble="gone")
    summary.tell(console, "results", failed)
    text = text_of(console)
    for words in ("nothing to do: 1 runs finished, 1 failed", "ValueError: no", "scope retry", "is behind (gone)"):
        assert words in text


def test_no_password_is_among_the_last_words(console: Console):
    for uri in ("http://me:hunter2@there:5000", "postgresql+psycopg://me:hunter2@there/db"):
        summary.tell(console, "results", ended(tracking_uri=uri, experiment="7"))
    text = text_of(console)
    assert "hunter2" not in text
    assert "open MLflow:      http://there:5000/#/experiments/7" in text
    assert 'mlflow server --host 127.0.0.1 --port 5000 --workers 1 --backend-store-uri "$MLFLOW_TRACKING_URI"' in text


def test_the_last_words_say_where_everything_is(tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "my results"
    summary.tell(console, "my results", ended(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="7"))
    text = text_of(console)
    assert text.startswith("2 runs finished, 0 failed, in 61 s\n")
    assert f"report    {out}/report.html" in text
    assert f"python -m webbrowser {out.as_uri()}/report.html" in text
    assert """python -c 'import tangentscope; print(tangentscope.load("my results"))'""" in text
    assert "--backend-store-uri sqlite:///mlflow.db\n" in text
    (page,) = (line for line in text.splitlines() if "http://127.0.0.1:5000/#/experiments/7/runs?" in line)
    assert parse_qs(page.partition("?")[2])["searchFilter"] == ["tags.`tangentscope.run` != ''"], "no report in charts"
    assert "tangentscope sync" not in text


def test_the_last_words_after_trouble(tmp_path: Path, console: Console):
    trouble = {"tracking_uri": "http://there:5000/", "trouble": "connection refused", "failed": {"seed=0": "NaN"}}
    summary.tell(console, str(tmp_path / "a b"), ended(failed_measurements=3, nonfinite=9, **trouble))
    text = text_of(console)
    assert "  failed: seed=0: NaN\n" in text
    assert "3 values could not be measured" in text
    assert f"take these up again:  tangentscope retry '{tmp_path}/a b'" in text
    assert "9 values, losses or scores are NaN or infinite" in text
    assert "open MLflow" not in text  # nobody knows which experiment it would be
    assert f"MLflow is behind (connection refused); nothing is lost: tangentscope sync '{tmp_path}/a b'" in text


def test_the_last_words_on_values_that_a_damaged_file_kept_from_being_measured(tmp_path: Path, console: Console):
    summary.tell(console, str(tmp_path), ended(interrupted={"a.safetensors: damaged; remove it": 24}))
    text = text_of(console)
    assert "  24 values have not been measured: a.safetensors: damaged; remove it\n  the same command takes" in text
    assert "retry" not in text


def test_the_last_words_offline(tmp_path: Path, console: Console):
    write_study(tmp_path)
    summary.tell(console, str(tmp_path), ended())
    assert f"put it into MLflow:  tangentscope sync {tmp_path}" in text_of(console)
    assert "retry" not in text_of(console)
    assert "open MLflow" not in text_of(console)
