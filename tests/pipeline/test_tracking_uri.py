"""Where a study is tracked is told and looked at before any work starts."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.system.errors import UserError
from tangentscope.pipeline.tracking.uri import check_server, default_uri, signed_in, sqlite_file


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("sqlite:////home/me/mlflow.db", Path("/home/me/mlflow.db")),
        ("sqlite:///mlflow.db?timeout=20", Path("mlflow.db")),
        ("http://there:5000", None),
    ],
)
def test_the_file_of_a_database(uri: str, file: Path | None):
    assert sqlite_file(uri) == file


def test_the_database_lies_beside_the_studies_unless_the_user_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert default_uri(Storage.at(tmp_path / "study")) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there:5000")
    assert default_uri(Storage.at(tmp_path / "study")) == "http://there:5000"


@pytest.mark.parametrize("sign", ["%", "?"])
def test_a_folder_that_mlflow_cannot_keep_a_database_in_is_told(
    sign: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError, match=rf"for the \{sign} in it; set MLFLOW_TRACKING_URI, give another --out or"):
        default_uri(Storage.at(tmp_path / f"a{sign}b" / "study"))
    assert default_uri(Storage.at(tmp_path / f"a{sign}b")).endswith("mlflow.db")


@contextmanager
def server(answer: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(answer)

    with HTTPServer(("127.0.0.1", 0), Handler) as there:
        thread = threading.Thread(target=there.serve_forever, args=[0.01])
        thread.start()
        try:
            yield f"http://127.0.0.1:{there.server_port}"
        finally:
            there.shutdown()
            thread.join()


@pytest.mark.parametrize("status", ["200 OK", "401 Unauthorized", "404 Not Found"])
def test_a_server_that_answers_will_do(status: str):
    with server(f"HTTP/1.0 {status}\r\n\r\n".encode()) as there:
        check_server(there)


def no_listener() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize("wrong", [no_listener, lambda: "http://nowhere.invalid:5000", lambda: "http://localhost:port"])
def test_a_server_that_does_not_answer(wrong: Any):
    with pytest.raises(UserError, match=r"does not answer .* set MLFLOW_TRACKING_URI, or give --offline") as caught:
        check_server(wrong())
    assert "\n" not in str(caught.value)


def test_a_server_of_another_kind():
    with server(b"SSH-2.0-OpenSSH_9.2\r\n") as there, pytest.raises(UserError, match="does not answer"):
        check_server(there)


def test_a_database_that_cannot_be_written(tmp_path: Path):
    check_server(f"sqlite:///{tmp_path}/mlflow.db")
    (tmp_path / "file").write_text("no directory")
    (tmp_path / "mlflow.db").mkdir()
    for place in (tmp_path / "file", tmp_path / "missing", tmp_path):
        with pytest.raises(UserError, match="cannot be written; set MLFLOW_TRACKING_URI or give --offline"):
            check_server(f"sqlite:///{place}/mlflow.db")


def test_a_file_that_is_no_database(tmp_path: Path):
    (tmp_path / "mlflow.db").write_text("a table of my own")
    with pytest.raises(UserError, match="is no SQLite database"):
        check_server(f"sqlite:///{tmp_path}/mlflow.db")
    (tmp_path / "mlflow.db").write_bytes(b"")  # what sqlite3 leaves before the first write
    check_server(f"sqlite:///{tmp_path}/mlflow.db")


def test_a_name_and_a_password_go_where_mlflow_looks_for_them(monkeypatch: pytest.MonkeyPatch):
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "of before")
    assert signed_in("http://there:5000") == "http://there:5000"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "of before"
    assert signed_in("https://me:hunter%2F2@there/mlflow") == "https://there/mlflow"
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("me", "hunter/2")
    assert signed_in("postgresql://me:hunter2@there/db") == "postgresql://me:hunter2@there/db"


def test_a_server_with_a_name_and_a_password_is_reached_and_neither_is_told():
    with server(b"HTTP/1.0 200 OK\r\n\r\n") as there:
        check_server(there.replace("http://", "http://me:hunter2@"))
    with pytest.raises(UserError, match="does not answer") as caught:
        check_server(no_listener().replace("http://", "http://me:hunter2@"))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("postgresql+nodriver://me:hunter2@there/db", "postgresql needs the driver nodriver, which is not here"),
        ("postgresql+sqlite3://me:hunter2@127.0.0.1:1/db", r"database .*\*\*\*@127.0.0.1:1/db does not answer"),
        ("mysql+sqlite3://me:hunter2@there:port/db", "does not answer .*set MLFLOW_TRACKING_URI, or give --offline"),
        ("sqlite://", "no file; give sqlite:////absolute/path.db"),
        ("sqlite:mlflow.db", "no file; give sqlite:////absolute/path.db"),
        ("foo://me:hunter2@there", "MLflow cannot use it .*; set MLFLOW_TRACKING_URI, or give --offline"),
        ("databricks", "MLflow cannot use it"),
        ("mlruns", "MLflow cannot use it"),
    ],
)
def test_what_mlflow_cannot_use_is_told_before(uri: str, told: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("DATABRICKS_HOST", raising=False)
    with pytest.raises(UserError, match=told) as caught:
        check_server(uri)
    assert "hunter2" not in str(caught.value)
