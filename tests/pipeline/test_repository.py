"""The user's own repository is recorded with a launch, apart from tangentscope's."""

import subprocess
from pathlib import Path

import pytest

from tangentscope.pipeline.system import provenance
from tangentscope.pipeline.system.provenance import Repository, gather, repository


def git(folder: Path, *words: str) -> str:
    named = ("-c", "user.name=a", "-c", "user.email=a@b")
    return subprocess.run(
        ["git", *named, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    (folder / "studies").mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / "studies" / "a.yaml").write_text("name: a")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


def test_the_repository_of_a_folder_and_whether_its_code_differs(mine: Path):
    head = git(mine, "rev-parse", "HEAD")
    assert repository(mine / "studies") == Repository(str(mine), head, dirty=False)
    (mine / "results.txt").write_text("not tracked")
    assert repository(mine) == Repository(str(mine), head, dirty=False)
    (mine / "model.py").write_text("not tracked, and code")
    assert repository(mine) == Repository(str(mine), head, dirty=True)
    git(mine, "add", "model.py")
    git(mine, "commit", "-qm", "second")
    (mine / "studies" / "a.yaml").write_text("name: b")
    assert repository(mine) == Repository(str(mine), git(mine, "rev-parse", "HEAD"), dirty=True)


def test_no_repository_and_one_without_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert repository(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert repository(tmp_path) == Repository(str(tmp_path), None, None)
    monkeypatch.setenv("PATH", "")
    assert repository(tmp_path) is None


def test_a_launch_records_both(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(provenance, "commit", lambda: ("0123", False))
    monkeypatch.chdir(tmp_path)
    record = gather("run", [0], {}, 0.0, mine / "studies")
    assert (record["git_commit"], record["git_dirty"]) == ("0123", False)
    assert record["repository"] == {"root": str(mine), "commit": git(mine, "rev-parse", "HEAD"), "dirty": False}
    assert gather("run", [0], {}, 0.0)["repository"] is None
