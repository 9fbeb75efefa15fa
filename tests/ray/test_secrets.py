"""A marked secret in every place where one can stand is found nowhere that a launch leaves or prints."""

import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import free_port, mlflow_server

pytestmark = [pytest.mark.ray, pytest.mark.slow]

WORDS = ("password", "token", "session", "key", "ray", "api")


@pytest.fixture
def session() -> Iterator[Path]:
    """Where Ray keeps its logs; a path for its sockets may have 107 letters, and pytest's own are long."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_no_secret_is_left_or_printed(launch: Callable[..., Any], session: Path, tmp_path: Path):
    marks = {word: f"mark-{word}-{secrets.token_hex(8)}" for word in WORDS}
    (tmp_path / "server").mkdir()
    out, port = tmp_path / "results" / "small", free_port()
    env = {
        "MLFLOW_TRACKING_URI": f"http://name:{marks['password']}@127.0.0.1:{port}",
        "AWS_SECRET_ACCESS_KEY": marks["key"],
        "AWS_SESSION_TOKEN": marks["session"],
        "RAY_AUTH_TOKEN": marks["ray"],
        "SOME_API_KEY": marks["api"],
        "RAY_TMPDIR": str(session),
        "HOME": str(tmp_path),
    }
    with mlflow_server(tmp_path / "server", port) as server:
        printed = launch(out, env=env).finish()
        assert "open MLflow:      http://127.0.0.1:" in printed
        os.killpg(server.pid, signal.SIGKILL)
        printed += launch(out, "train.epochs=5", env=env).finish(code=2)
        assert "does not answer" in printed
        printed += launch(out, f"--nonsense=http://name:{marks['token']}@there", env=env).finish(code=2)
        printed += launch(f"s3://bucket/x?secret_key={marks['token']}", env=env).finish(code=2)
    assert [word for word, mark in marks.items() if mark in printed] == []
    files = [each for place in (tmp_path, session) for each in place.rglob("*") if each.is_file()]
    assert len([each for each in files if each.is_relative_to(session)]) > 10
    found = [(str(each), word) for each in files for word, mark in marks.items() if mark.encode() in each.read_bytes()]
    assert found == []
