"""Limits within which nothing can work are told before anything large is loaded."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tangentscope.pipeline.system import limits
from tangentscope.pipeline.system.errors import UserError

COMMANDS = (["plan", "quickstart"], ["run", "quickstart"], ["doctor"])


@pytest.mark.parametrize(
    ("kind", "most", "said"),
    [
        (resource.RLIMIT_AS, 3 * 2**30, "ulimit -v: got 3,145,728 kB of address space, expected 8,388,608 or more"),
        (resource.RLIMIT_FSIZE, 10**6, "ulimit -f: got 976 kB in a file, expected 524,288 or more"),
        (resource.RLIMIT_NOFILE, 64, "ulimit -n: got 64 open files, expected 1024 or more; ulimit -n 4096"),
    ],
)
def test_a_low_limit_is_told_before_work_starts(kind: int, most: int, said: str, tmp_path: Path):
    limit = f"import resource, sys; resource.setrlimit({kind}, ({most}, {most}))"
    main = f"{limit}; from tangentscope.pipeline import cli; cli.main()"
    for words in COMMANDS:
        done = subprocess.run(
            [sys.executable, "-c", main, *words], capture_output=True, text=True, cwd=tmp_path, check=False
        )
        line = done.stdout if words == ["doctor"] else done.stderr
        assert line.startswith(f"WRONG limits: {said}" if words == ["doctor"] else f"error: {said}")
        assert line.count("\n") == 1
        assert done.returncode == (1 if words == ["doctor"] else 2)
        assert [*tmp_path.iterdir()] == []


def test_a_long_temporary_directory_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/" + "a" * 85)
    with pytest.raises(UserError, match=r"got 90 bytes, expected 3\d at most, for Ray's sockets; set RAY_TMPDIR=/tmp"):
        limits.check()
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    limits.check()


def test_open_files_are_raised_where_that_is_allowed():
    code = (
        "import resource as r; from tangentscope.pipeline.system import limits; kind = r.RLIMIT_NOFILE;"
        "r.setrlimit(kind, (256, r.getrlimit(kind)[1])); limits.check(); print(r.getrlimit(kind)[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1024\n"


def test_a_terminal_of_another_encoding_gets_marks_for_what_it_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name, value in {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}.items():
        monkeypatch.setenv(name, value)
    words = [sys.executable, "-m", "tangentscope", "ls", "variables"]
    done = subprocess.run(words, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"?" in done.stdout
