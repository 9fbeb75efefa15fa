"""Where a study is tracked, and whether that can be reached; nothing of MLflow need be loaded for it."""

import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from pipeline.errors import UserError
from pipeline.storage import Storage


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


def check_server(uri: str) -> None:
    """Raise UserError if a tracking server does not answer, or its SQLite file cannot be written."""
    if file := sqlite_file(uri):
        target = file if file.is_file() else file.parent
        if file.is_dir() or not file.parent.is_dir() or not os.access(target, os.W_OK):
            raise UserError(f"tracking {uri}: {target} cannot be written; set MLFLOW_TRACKING_URI or give --offline")
        if file.is_file() and file.stat().st_size and not _head(file).startswith(b"SQLite format 3"):
            raise UserError(f"tracking {uri}: {file} is no SQLite database; move it, or set MLFLOW_TRACKING_URI")
    elif uri.startswith(("http://", "https://")):
        try:
            urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=5).close()
        except urllib.error.HTTPError:
            return  # it answers; what it refuses without credentials is no matter here
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise UserError(
                f"tracking server {uri} does not answer ({reason}); start it, set MLFLOW_TRACKING_URI, or give "
                f"--offline and upload later with `tangentscope sync`"
            ) from None


def _head(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(16)
