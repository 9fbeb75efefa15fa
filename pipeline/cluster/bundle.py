"""What a job on a cluster needs of this machine: the code, one resolved study, and the command that runs it."""

import os
import shlex
import shutil
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from tangentscope.pipeline.store import layout
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.study.spec import Study
from tangentscope.pipeline.system import provenance
from tangentscope.pipeline.system.errors import UserError
from tangentscope.pipeline.system.installation import PACKAGE, PACKAGES, ROOT

# What our packages are made of. Whatever else lies among them (data, results, caches) stays here.
_CODE = {".py", ".yaml", ".html", ".typed"}


def stage(study: Study, folder: Path) -> None:
    """Lay out in `folder` what is uploaded: our packages, marked with their commit, and the study with all overrides.

    The packages are those beside this file, of a checkout or of an installation.
    """
    files = {path: path.name for path in PACKAGE.iterdir()}
    files |= {path: str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*")}
    for path, place in files.items():
        if path.suffix in _CODE:
            target = folder / "tangentscope" / place
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    provenance.keep_commit(folder / "tangentscope")
    (folder / layout.STUDY).write_text(study.text(), encoding="utf-8")


def entrypoint(out: str, data_dir: str | None = None, *options: str) -> str:
    """The shell line that runs a staged study, in the directory where it was laid out.

    Args:
        out: Where the results go: a storage URI, or a path on the cluster.
        data_dir: Where data sets lie on the cluster.
        options: More options of `tangentscope run`.

    Raises:
        UserError: A place that would not outlive the job, or that holds a key.
    """
    if "://" not in (place := out.removeprefix("file://")):
        _check_absolute("--out", place, " or a URI such as s3://bucket/study")
    if data_dir is not None:
        _check_absolute("--data-dir", data_dir)
    words = ["python", "-m", "tangentscope", "run", layout.STUDY, "--address", "auto", "--out", Storage.at(out).uri]
    words += ["--data-dir", data_dir] if data_dir is not None else []
    # In the shell's place, so that the signal of `ray job stop` reaches the study and nobody between.
    return f"exec {shlex.join([*words, *options])}"


def _check_absolute(option: str, place: str, other: str = "") -> None:
    if not PurePosixPath(place).is_absolute():
        mend = f"give an absolute path on the cluster{other}"
        raise UserError(f"{option} {place}: a relative path would lie in the job's temporary directory; {mend}")


def environment() -> dict[str, str]:
    """Variables that the job takes over from here. A cluster shows them to all its users: no secret is among them.

    Raises:
        UserError: A name or password in the tracking server's URL.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri.startswith(("http://", "https://")):
        return {}  # a database of this machine's, which the cluster does not see
    if "@" in urlsplit(uri).netloc:
        raise UserError(
            "MLFLOW_TRACKING_URI holds a name or password, which the cluster would show; leave it out, and set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD where the cluster's head is started"
        )
    return {"MLFLOW_TRACKING_URI": uri}
