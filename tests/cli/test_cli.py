import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from command_line import Command, Said
from study_on_disk import spectrum_rows

from tangentscope import pipeline
from tangentscope.models import MODELS
from tangentscope.pipeline.config.features import MEASURED
from tangentscope.pipeline.config.optimisers import OPTIMISERS
from tangentscope.pipeline.driver import costs
from tangentscope.pipeline.store import layout, tables
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.study.runs import make_runs
from tangentscope.pipeline.study.spec import read_study
from tangentscope.pipeline.system.errors import Stopped
from tangentscope.probes import kernel_plan
from tangentscope.probes.kernels.gradients import observation
from tangentscope.studies import shipped
from tangentscope.tasks import TASKS

TABLES = {"tasks": TASKS, "models": MODELS, "optimisers": OPTIMISERS, "variables": MEASURED, "studies": shipped()}


@pytest.mark.parametrize("what", TABLES)
def test_ls(what: str, command: Command):
    said = command("ls", what)
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert [line.split()[0] for line in lines] == list(TABLES[what])
    assert all(re.match(r"\S+ +\S.{20,}", line) for line in lines)


def test_ls_tells_what_a_variable_is_and_needs(command: Command):
    lines = {line.split()[0]: line for line in command("ls", "variables").out.splitlines()}
    assert lines["trace"].endswith("[number]")
    assert lines["kernel_velocity"].endswith("[number; needs previous_kernel, previous_step, step]")
    assert lines["projection_factors"].endswith("[profile; needs residual]")


def test_ls_alone_lists_the_studies(command: Command):
    assert command("ls").out == command("ls", "studies").out


def test_cite_version_and_help(command: Command):
    assert "@misc{tovey2024collective" in command("cite").out
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", command("--version").out)
    said = command("--help")
    assert said.code == 0
    commands = (
        "quickstart",
        "plan",
        "run",
        "submit",
        "status",
        "stop",
        "retry",
        "gc",
        "report",
        "sync",
        "export",
        "ls",
        "data",
        "doctor",
        "cite",
    )
    assert [name for name in commands if name not in said.out] == []


def test_doctor(command: Command):
    said = command("doctor")
    lines = said.out.splitlines()
    # Packages that were upgraded since the installation are the machine's own affair.
    assert [line for line in lines if not line.startswith(("ok ", "–")) and "packages" not in line] == []
    assert all("absent (optional)" in line for line in lines if line.startswith("–"))
    assert len(lines) >= 10
    assert (said.code, said.err) == (int("WRONG" in said.out), "")


def test_doctor_finds_something_wrong(command: Command, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    said = command("doctor")
    assert said.code == 1
    assert "WRONG ray auth" in said.out


@pytest.mark.parametrize("table", tables.SCHEMAS)
def test_export(table: str, command: Command, finished: Path, tmp_path: Path):
    stored = pipeline.load(finished, table)
    for ending, read in ((".parquet", pd.read_parquet), (".csv", pd.read_csv)):
        file = tmp_path / f"table{ending}"
        said = command("export", finished, "--to", file, "--table", table)
        assert (said.code, said.out) == (0, f"{len(stored)} rows in {file}\n")
        exported = read(file)
        assert list(exported.columns) == list(stored.columns)
        plain = [column for column in stored if pd.api.types.is_numeric_dtype(stored[column])]
        pd.testing.assert_frame_equal(exported[plain], stored[plain], check_dtype=False)


def test_lists_in_csv_are_whole_and_exact(command: Command, finished: Path, tmp_path: Path):
    run = Store(Storage.at(finished)).runs[0].to_json()
    rows = [{**row, "step": 3, "eigenvalues": np.geomspace(1, 1e-9, 3000) / 3} for row in spectrum_rows(run, 3)]
    tables.write_part(Storage.at(finished), "spectra", rows, "hub")
    for table, column in (("spectra", "eigenvalues"), ("profiles", "values"), ("measurements", "draw_values")):
        stored = pipeline.load(finished, table)
        assert command("export", finished, "--to", "a.csv", "--table", table).code == 0
        exported = pd.read_csv("a.csv")
        assert [json.loads(text) for text in exported[column]] == [list(values) for values in stored[column]]


def test_export_takes_the_measurements_unless_told(command: Command, finished: Path):
    assert command("export", finished, "--to", "a.csv").code == 0
    assert len(pd.read_csv("a.csv")) == len(Store(Storage.at(finished)).measurements())


def test_status(command: Command, finished: Path):
    said = command("status", finished)
    assert (said.code, said.err) == (0, "")
    assert "quickstart, not running" in said.out
    assert re.search(r"width=5 seed=0 .* finished .* 4/4 .* 24/24", said.out)
    assert "2 finished; 8 of 8 snapshots, 48 of 48 values measured" in " ".join(said.out.split())


def test_report(command: Command, finished: Path):
    said = command("report", finished)
    assert (said.code, said.err) == (0, "")
    written = [Path(line) for line in said.out.splitlines()]
    assert written[0] == finished / layout.REPORT
    assert {path.suffix for path in written} == {".html", ".png", ".pdf"}
    assert all(path.stat().st_size > 1000 for path in written)


def test_sync(command: Command, finished: Path, monkeypatch: pytest.MonkeyPatch):
    sent: list[tuple] = []
    monkeypatch.setattr(
        "tangentscope.pipeline.driver.finish.sync", lambda *what, live: sent.append((*what, live)) or "7"
    )
    said = command("sync", finished)
    uri = f"sqlite:///{finished.parent}/mlflow.db"
    assert said == Said(0, f"{uri}: experiment 7 is up to date\n", "")
    assert sent == [(Storage.at(finished), uri, False)]


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """A calibration of one repetition each."""
    monkeypatch.setattr(costs, "_SECONDS", 1e-9)
    monkeypatch.setattr(costs, "_import_seconds", lambda: 1.0)


@pytest.mark.usefixtures("brief")
def test_plan_tells_what_the_quickstart_would_do(command: Command):
    said = command("plan", "quickstart")
    assert (said.code, said.err) == (0, "")
    runs = make_runs(read_study(shipped()["quickstart"]), None)
    assert f"quickstart: {len(runs)} runs" in said.out
    for run in runs:
        [line] = [line for line in said.out.splitlines() if run.id in line]
        assert [run.name in line, f"{run.parameters:,}" in line, f"{run.steps:,}" in line] == [True] * 3
        assert str(len(run.schedule)) in line
        assert "1×500²" in line
    assert runs[0].data.source in said.out
    for word in ("probes ", "kept ", "memory ", "time "):
        assert [line for line in said.out.splitlines() if line.startswith(word)], word
    kept = sum(run.snapshot_bytes * len(run.schedule) for run in runs)
    assert f"kept      {kept / 1e6:.3g} MB of snapshots" in said.out
    assert list(Path.cwd().iterdir()) == [], "nothing is started or written"


@pytest.mark.usefixtures("brief")
def test_plan_warns_of_layers_without_a_rule(command: Command, monkeypatch: pytest.MonkeyPatch):
    assert "warning" not in command("plan", "quickstart", "seeds=1").out
    monkeypatch.setattr(observation, "shares_of", lambda *_: [])
    said = command("plan", "quickstart", "seeds=1")
    [first, *_] = [line for line in said.out.splitlines() if line.startswith("warning")]
    assert first.startswith("warning: no rule covers ")
    assert "which take 100% of this kernel's work" in first


@pytest.mark.usefixtures("brief")
def test_plan_tells_how_the_kernel_of_each_network_is_computed(command: Command):
    said = command("plan", "quickstart", "seeds=2", "probes.kernel={size: 20, draws: 3, outputs: traced}")
    assert said.code == 0
    titles = [line for line in said.out.splitlines() if line.startswith("kernel of")]
    assert titles == [f"kernel of width={width} seed=0 (20 points, traced)" for width in (4, 16, 64)], "three at most"
    [first, *_] = said.out.split("kernel of ")[1:]
    module = MODELS["mlp"](width=4).build((1, 28, 28), 10)
    expected = str(kernel_plan(module, torch.zeros(20, 1, 28, 28), "traced", memory_bytes=2**30))
    assert [line.rstrip() for line in first.strip().splitlines()[1:]] == [
        line.rstrip() for line in expected.splitlines()
    ]


@pytest.mark.usefixtures("brief")
def test_plan_takes_overrides_and_scales(command: Command):
    text = shipped()["quickstart"].read_text() + "scales: {small: {train.epochs: 2, grid.model.width: [3]}}\n"
    Path("mine.yaml").write_text(text)
    said = command("plan", "mine.yaml", "seeds=2", "task.train_size=100", "--scale", "small")
    assert said.code == 0
    assert "quickstart: 2 runs" in said.out
    assert [name in said.out for name in ("width=3 seed=0", "width=3 seed=1", "100 of 4,000")] == [True] * 3


def test_plan_names_the_first_of_many_draws_of_the_data(command: Command):
    Path("mine.yaml").write_text(
        "name: mine\ntask: {name: sines, features: 3, train_size: 2}\nmodel: {name: linear}\n"
        "optimiser: {name: sgd, lr: 0.1}\ntrain: {epochs: 1, batch_size: full}\n"
        f"probes: {{kernel: {{size: 2, draws: 1}}, variables: [trace]}}\ngrid: {{task.data_seed: {[*range(12)]}}}\n"
    )
    said = command("plan", "mine.yaml")
    lines = [line for line in said.out.splitlines() if line.startswith("data ")]
    assert len(lines) == 11
    assert "(data_seed 9)" in lines[9]
    assert "and 2 more" in lines[10]


WRONG: dict[str, tuple[list[str], str]] = {
    "no such study": (["plan", "quikstart"], 'study "quikstart" unknown, .* did you mean "quickstart"'),
    "no such file": (["plan", "mine.yaml"], r"study mine\.yaml: No such file"),
    "a directory": (["plan", "."], "study .: Is a directory"),
    "a study that is wrong": (["plan", "quickstart", "train.epochs=0"], r"quickstart\.yaml: train\.epochs: got 0"),
    "an override that is none": (["plan", "quickstart", "train.epochs"], "expected key=value"),
    "no such scale": (["plan", "quickstart", "--scale", "huge"], 'scale "huge" unknown'),
    "no such data directory": (["plan", "quickstart", "--data-dir", "none"], "data directory none: not there"),
    "no such command": (["statu", "x"], 'Unknown command "statu".*status'),
    "no such option": (["plan", "quickstart", "--nope", "3"], "--nope"),
    "no such table": (["ls", "variable"], '"variable".*"variables"'),
    "an argument is missing": (["plan"], "requires an argument"),
    "one too many": (["status", "a", "b"], "b"),
    "no study to show": (["status", "."], "no study here"),
    "no study to report": (["report", "."], "no study here"),
    "no study to upload": (["sync", "nowhere/study"], "no study here"),
    "no study to export": (["export", ".", "--to", "a.csv"], "no study here"),
    "an unknown ending": (["export", "{study}", "--to", "a.xlsx"], r'ending "\.xlsx" unknown; give one of \.parquet'),
    "no ending": (["export", "{study}", "--to", "table"], 'ending "" unknown'),
    "nowhere to export to": (["export", "{study}", "--to", "none/a.parquet"], r"export --to none/a\.parquet: "),
    "nowhere for csv": (["export", "{study}", "--to", "none/a.csv"], r"export --to none/a\.csv: "),
    "no such exported table": (["export", "{study}", "--to", "a.csv", "--table", "all"], '"all".*"history"'),
    "no such task's data": (["data", "where", "mnst"], 'task "mnst" unknown; .* did you mean "mnist"'),
    "nowhere to fetch to": (["data", "fetch", "mnist"], "no data directory; name one with --data-dir"),
    "nowhere to send": (["sync", "{study}"], "does not answer .*--offline"),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_input_gets_one_line_and_exit_code_2(
    name: str, command: Command, finished: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    arguments, expected = WRONG[name]
    said = command(*(argument.format(study=finished) for argument in arguments))
    assert (said.code, said.out) == (2, "")
    assert re.fullmatch(r"error: .+\n", said.err), said.err
    assert re.search(expected, said.err)


def test_data_directory_from_the_environment(command: Command, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TANGENTSCOPE_DATA", "none")
    assert "data directory none: not there" in command("plan", "quickstart").err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Stopped("SIGTERM: stopped; run the same command again to go on"), "SIGTERM: stopped; run the same"),
        (KeyboardInterrupt(), "stopped\n"),
    ],
)
def test_an_interrupt_is_no_traceback(
    error: BaseException, said: str, command: Command, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(what: str) -> None:
        raise error

    monkeypatch.setattr("tangentscope.pipeline.cli.listing.entries", interrupted)
    found = command("ls")
    assert found.code == 130
    assert found.err.startswith(said)


def test_a_mistake_of_ours_is_a_traceback(command: Command, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tangentscope.pipeline.cli.listing.entries", lambda what: 1 / 0)
    found = command("ls")
    assert found.code == 1
    assert found.err.startswith("Traceback")
    assert "ZeroDivisionError" in found.err


def in_a_shell(line: str) -> subprocess.CompletedProcess:
    program = f"{sys.executable} -m tangentscope"
    command = ["bash", "-c", f"set -o pipefail; {line.replace('tangentscope', program)}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_exit_codes_reach_the_shell():
    done = in_a_shell("tangentscope plan quikstart")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"error: .+\n", done.stderr)


def test_a_reader_that_goes_away_is_no_error():
    done = in_a_shell("tangentscope cite | true")
    assert (done.stdout, done.stderr) == ("", "")
