"""With what a result was made: versions, commit, machine. Recorded with every launch, no part of any identity."""

import importlib.metadata
import json
import os
import platform
import socket
import subprocess
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from tangentscope.pipeline.system.installation import ROOT
from tangentscope.pipeline.system.redaction import redacted

_PACKAGES = ["tangentscope", "torch", "torchvision", "ray", "mlflow-skinny", "numpy", "pyarrow", "pandas", "mlxtend"]

_COMMIT = "commit.json"  # beside our packages where they are a copy that `submit` uploaded


def host() -> str:
    """This machine's name."""
    return socket.gethostname()


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that bear on results; "absent" for one that is not installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


@cache
def commit() -> tuple[str | None, bool | None]:
    """Commit of the checkout this code runs from, and whether files differ from it; (None, None) without a checkout.

    A copy that :func:`keep_commit` was asked to mark says it itself. ``TANGENTSCOPE_COMMIT`` stands in where an image
    has the code without its history.
    """
    if (ROOT / _COMMIT).exists():
        kept = json.loads((ROOT / _COMMIT).read_text())
        return kept["git_commit"], kept["git_dirty"]
    if given := os.environ.get("TANGENTSCOPE_COMMIT"):
        return given, None
    if not (ROOT / ".git").exists():
        return None, None
    try:
        head = _git(ROOT, "rev-parse", "HEAD")
        return head, bool(_git(ROOT, "status", "--porcelain"))
    except (OSError, subprocess.SubprocessError):
        return None, None


@dataclass(frozen=True)
class Repository:
    """The state of a user's own repository.

    Args:
        root: Its top folder.
        commit: That is checked out; None before the first.
        dirty: Whether tracked files differ from it or Python files are not tracked; None if git takes too long to say.
    """

    root: str
    commit: str | None
    dirty: bool | None


def repository(place: Path) -> Repository | None:
    """The repository that a folder belongs to; None if it belongs to none, or git is not there.

    In a copy that :func:`keep_commit` has marked it is the one that the copy was sent from.
    """
    marked = ROOT / _COMMIT
    if marked.exists():
        kept = json.loads(marked.read_text()).get("repository")
        return Repository(**kept) if kept else None
    try:
        root = Path(_git(place, "rev-parse", "--show-toplevel"))
    except (OSError, subprocess.SubprocessError):
        return None
    try:
        head = _git(root, "rev-parse", "HEAD")
    except subprocess.SubprocessError:
        return Repository(str(root), None, None)
    try:
        # Results that lie in the repository are no change of it: of what is not tracked only code counts.
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
        dirty = bool(changed or _git(root, "ls-files", "--others", "--exclude-standard", "--", "*.py"))
    except subprocess.SubprocessError:
        dirty = None
    return Repository(str(root), head, dirty)


def keep_commit(copy: Path) -> None:
    """Mark a copy of our packages, which leaves the history behind, with the commit that it is a copy of.

    The repository of the working directory, which does not travel either, is kept with it.
    """
    head, dirty = commit()
    ours = repository(Path.cwd())
    kept = {"git_commit": head, "git_dirty": dirty, "repository": asdict(ours) if ours else None}
    (copy / _COMMIT).write_text(json.dumps(kept))


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


@cache
def machine() -> dict[str, Any]:
    """This machine: processor, cores, memory in bytes, GPUs."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "host": host(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": gpus,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def gather(
    command: str, seeds: list[int], data: dict[str, str], started_at: float, place: Path | None = None
) -> dict[str, Any]:
    """All that ``provenance.json`` holds.

    Args:
        command: The command line that launched the study.
        seeds: The study's seeds.
        data: Per task, the sentence that says which data were used.
        started_at: Seconds since 1970.
        place: A folder in the user's repository; the working directory by default.
    """
    head, dirty = commit()
    ours = repository(place or Path.cwd())
    return {
        "versions": versions(),
        "git_commit": head,
        "git_dirty": dirty,
        "repository": asdict(ours) if ours else None,
        "machine": machine(),
        "started_at": started_at,
        "command": redacted(command),
        "seeds": seeds,
        "data": data,
    }
