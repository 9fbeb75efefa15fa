"""What is uploaded with a job: the code that would run here, the study as it would run here, the commit; no more."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tangentscope.pipeline.cluster import bundle
from tangentscope.pipeline.study.spec import parse_study, read_study
from tangentscope.pipeline.system import provenance
from tangentscope.pipeline.system.errors import UserError
from tangentscope.studies import shipped

ROOT = Path(__file__).parents[2]
PACKAGES = {"pipeline", "probes", "models", "tasks", "studies"}


@pytest.fixture
def study():
    overrides = ("grid.model.width=[3, 5]", "optimiser.lr=1e-3", "resources.shared=true", "name=mine")
    return read_study(shipped()["quickstart"], overrides)


def test_every_file_of_the_packages_and_nothing_else(study, tmp_path: Path):
    bundle.stage(study, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"tangentscope", "study.yaml"}
    tracked = subprocess.run(["git", "-C", str(ROOT), "ls-files", *sorted(PACKAGES)], capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("no checkout")
    package = tmp_path / "tangentscope"
    staged = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    assert {*tracked.stdout.split(), "__init__.py", "__main__.py"} <= staged
    assert not [name for name in staged if "__pycache__" in name or name.endswith(".pyc")]


def test_data_and_results_that_lie_among_the_code_stay(study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = tmp_path / "checkout"
    for name in (
        "pipeline/cluster/bundle.py",
        "tasks/own.py",
        "tasks/images.npz",
        "studies/mine.yaml",
        "studies/runs/a.parquet",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    monkeypatch.setattr(bundle, "ROOT", root)
    bundle.stage(study, tmp_path / "staged")
    staged = {path.relative_to(tmp_path / "staged").as_posix() for path in (tmp_path / "staged").rglob("*.*")}
    code = {"__init__.py", "__main__.py", "py.typed", "pipeline/cluster/bundle.py", "tasks/own.py", "studies/mine.yaml"}
    assert staged == {f"tangentscope/{name}" for name in (*code, "commit.json")} | {"study.yaml"}


def test_the_study_is_the_same_with_overrides_and_scale(study, tmp_path: Path):
    bundle.stage(study, tmp_path)
    assert parse_study((tmp_path / "study.yaml").read_text(), "study.yaml") == study
    assert study.grid == {"model.width": [3, 5]}
    scaled = parse_study("scales: {small: {train.epochs: 0.5}}\n" + study.text(), "study.yaml", (), "small")
    assert parse_study(scaled.text(), "study.yaml") == scaled
    assert scaled.train["epochs"] == 0.5


@pytest.mark.parametrize("commit", [("0123abcd" * 5, True), ("0123abcd" * 5, False), (None, None)])
def test_the_copy_knows_its_commit(commit, study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Asked of the copy's own code, in a process of its own, with another commit in the environment."""
    monkeypatch.setattr(provenance, "commit", lambda: commit)
    bundle.stage(study, tmp_path)
    code = "import json, tangentscope.pipeline.system.provenance as p; print(json.dumps([p.__file__, *p.commit()]))"
    env = {"TANGENTSCOPE_COMMIT": "of the image"}
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    assert json.loads(said.stdout) == [str(tmp_path / "tangentscope/pipeline/system/provenance.py"), *commit]


def test_the_copy_is_all_that_its_command_line_needs(study, tmp_path: Path):
    bundle.stage(study, tmp_path)
    command = [sys.executable, "-m", "tangentscope", "ls"]
    said = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in said.stdout.splitlines()] == list(shipped())


def test_the_command_line():
    line = bundle.entrypoint("s3://bucket/a study", "/data sets", "--offline", "--fail-fast")
    start = ["exec", "python", "-m", "tangentscope", "run", "study.yaml", "--address", "auto"]
    assert shlex.split(line) == [
        *start, "--out", "s3://bucket/a study", "--data-dir", "/data sets", "--offline", "--fail-fast"
    ]  # fmt: skip
    assert shlex.split(bundle.entrypoint("/shared/study")) == [*start, "--out", "/shared/study"]


@pytest.mark.parametrize(
    ("places", "said"),
    [
        (("results/mine",), "--out results/mine: a relative path would lie in the job's temporary directory; give an "),
        (("/there", "data"), "--data-dir data: a relative path would lie in the job's temporary directory; give an "),
        (("file://mine",), "--out mine: a relative path would lie in the job's temporary directory"),
        (("/there", "s3://bucket/data"), "--data-dir s3://bucket/data: a relative path would lie in"),
        (("s3://key:secret@bucket/study",), "output s3://…: holds a name or key"),
        (("/",), 'output "/": no place'),
    ],
)
def test_places_that_are_refused(places, said):
    with pytest.raises(UserError) as refused:
        bundle.entrypoint(*places)
    assert str(refused.value).startswith(said)
    assert "secret" not in str(refused.value)


def test_the_tracking_server_goes_along_and_no_password(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert bundle.environment() == {}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////home/me/mlflow.db")
    assert bundle.environment() == {}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.com:5000")
    assert bundle.environment() == {"MLFLOW_TRACKING_URI": "https://mlflow.example.com:5000"}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ada:secret@mlflow.example.com")
    with pytest.raises(UserError, match="MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD where") as refused:
        bundle.environment()
    assert "secret" not in str(refused.value)
