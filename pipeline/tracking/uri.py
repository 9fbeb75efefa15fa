"""Where a study is tracked, and whether that can be reached; for files and servers MLflow need not be loaded."""

import http.client
import importlib.util
import os
import socket
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.system.errors import UserError, one_line
from tangentscope.pipeline.system.loading import without_collections
from tangentscope.pipeline.system.redaction import without_userinfo

_SECONDS = 5.0  # that a server may take to answer
_MEND = "set MLFLOW_TRACKING_URI, or give --offline and upload later with `tangentscope sync`"
# Databases by what their URIs begin with: the driver if the URI names none (as ``name+driver``), and the usual port;
# none where what stands in a host's place may be the name of a source.
_DATABASES = {"postgresql": ("psycopg2", 5432), "mysql": ("MySQLdb", 3306), "mssql": ("pyodbc", None)}


def default_uri(storage: Storage) -> str:
    """``MLFLOW_TRACKING_URI``, else an SQLite file beside the study, shared by the studies that lie there."""
    if given := os.environ.get("MLFLOW_TRACKING_URI"):
        return given
    beside = storage.local.parent if storage.local else Path.cwd()
    if strange := [sign for sign in "%?" if sign in str(beside)]:
        raise UserError(
            f"tracking: MLflow keeps no database below {beside}, for the {strange[0]} in it; set MLFLOW_TRACKING_URI, "
            "give another --out or --offline"
        )
    return f"sqlite:///{beside / 'mlflow.db'}"


def sqlite_file(uri: str) -> Path | None:
    """The file behind an SQLite URI, without the options that may follow it; None for any other URI."""
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]) if uri.startswith("sqlite:///") else None


def signed_in(uri: str) -> str:
    """The URI without a name and password for a server: they go where MLflow looks for them, and into none of its logs.

    A database's URI stays as it is: nobody but the database's driver reads it.
    """
    if not _is_server(uri):
        return uri
    bare, name, password = without_userinfo(uri)
    for variable, value in (("MLFLOW_TRACKING_USERNAME", name), ("MLFLOW_TRACKING_PASSWORD", password)):
        if value:
            os.environ[variable] = value
    return bare


def check_server(uri: str) -> None:
    """Raise UserError if a tracking server or database does not answer, or an SQLite file cannot be written."""
    if file := sqlite_file(uri):
        _check_file(uri, file)
    elif _is_server(uri):
        _check_answer(without_userinfo(uri)[0].rstrip("/"))
    elif urlsplit(uri).scheme.partition("+")[0] in _DATABASES:
        _check_database(uri)
    elif uri.startswith("sqlite"):
        raise UserError(f"tracking {uri}: no file; give sqlite:////absolute/path.db")
    else:
        _check_other(uri)


def _is_server(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))


def _check_file(uri: str, file: Path) -> None:
    target = file if file.is_file() else file.parent
    if file.is_dir() or not file.parent.is_dir() or not os.access(target, os.W_OK):
        raise UserError(f"tracking {uri}: {target} cannot be written; set MLFLOW_TRACKING_URI or give --offline")
    if file.is_file() and file.stat().st_size and not _head(file).startswith(b"SQLite format 3"):
        raise UserError(f"tracking {uri}: {file} is no SQLite database; move it, or set MLFLOW_TRACKING_URI")


def _check_answer(url: str) -> None:
    try:
        urllib.request.urlopen(f"{url}/health", timeout=_SECONDS).close()
    except urllib.error.HTTPError:
        return  # it answers; what it refuses without credentials is no matter here
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(f"tracking server {url} does not answer ({reason}); start it, {_MEND}") from None


def _check_database(uri: str) -> None:
    """Is its driver here, and does somebody listen? MLflow itself would ask again for minutes."""
    parts = urlsplit(uri)
    kind, _, driver = parts.scheme.partition("+")
    usual, port = _DATABASES[kind]
    if importlib.util.find_spec(driver or usual) is None:
        mend = f"install the package of {driver or usual}, or name another as {kind}+DRIVER://"
        raise UserError(f"tracking {uri}: {kind} needs the driver {driver or usual}, which is not here; {mend}")
    if port is None or not parts.hostname:  # a source's name, or a socket of this machine
        return
    try:
        socket.create_connection((parts.hostname, parts.port or port), _SECONDS).close()
    except (OSError, ValueError) as error:
        raise UserError(f"tracking database {uri} does not answer ({error}); start it, {_MEND}") from None


def _check_other(uri: str) -> None:
    """Ask MLflow itself for something at this URI."""
    with without_collections():
        import mlflow  # takes seconds

    try:
        mlflow.MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
    except Exception as error:  # whatever MLflow or a plugin of it raises
        raise UserError(f"tracking {uri}: MLflow cannot use it ({one_line(error)}); {_MEND}") from None


def _head(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(16)
