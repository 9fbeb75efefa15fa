"""Limits within which nothing can work are told before anything large is loaded."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tangentscope.pipeline.system import limits
from tangentscope.pipeline.system.errors import UserError

COMMANDS = {"plan": ["plan", "quickstart"], "run": ["run", "quickstart"], "doctor": ["doctor"]}
LIMITS = {
    "memory": (
        resource.RLIMIT_AS,
        3 * 2**30,
        "ulimit -v: got 3,145,728 kB of address space, expected 8,388,608 or more",
    ),
    "file": (resource.RLIMIT_FSIZE, 10**6, "ulimit -f: got 976 kB in a file, expected 524,288 or more"),
    "files": (resource.RLIMIT_NOFILE, 64, "ulimit -n: got 64 open files, expected 1024 or more; ulimit -n 4096"),
}


# Each limit and each command once by default.
@pytest.mark.parametrize(
    ("limit", "command"),
    [
        pytest.param(limit, command, marks=() if i == j else pytest.mark.slow)
        for i, limit in enumerate(LIMITS)
        for j, command in enumerate(COMMANDS)
    ],
)
def test_a_low_limit_is_told_before_work_starts(limit: str, command: str, tmp_path: Path):
    kind, most, said = LIMITS[limit]
    limited = f"import resource; resource.setrlimit({kind}, ({most}, {most}))"
    main = f"{limited}; from tangentscope.pipeline import cli; cli.main()"
    words = [sys.executable, "-c", main, *COMMANDS[command]]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    line = done.stdout if command == "doctor" else done.stderr
    assert line.startswith(f"WRONG limits: {said}" if command == "doctor" else f"error: {said}")
    assert line.count("\n") == 1
    assert done.returncode == (1 if command == "doctor" else 2)
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
