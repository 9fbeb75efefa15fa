"""With what a result was made: versions, commit, machine. Recorded with every launch, no part of any identity."""

import importlib.metadata
import json
import os
import platform
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import psutil

_PACKAGES = ["tangentscope", "torch", "torchvision", "ray", "mlflow-skinny", "numpy", "pyarrow", "pandas", "mlxtend"]

_COMMIT = "commit.json"  # beside this file where the code is a copy that `submit` uploaded


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
    here = Path(__file__).resolve().parent
    if (here / _COMMIT).exists():
        kept = json.loads((here / _COMMIT).read_text())
        return kept["git_commit"], kept["git_dirty"]
    if given := os.environ.get("TANGENTSCOPE_COMMIT"):
        return given, None
    root = here.parent
    if not (root / ".git").exists():
        return None, None
    try:
        head = _git(root, "rev-parse", "HEAD")
        return head, bool(_git(root, "status", "--porcelain"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def script() -> dict[str, Any]:
    """The script that runs, or where it would be, with the commit of its checkout and whether files differ from it."""
    main = Path(sys.argv[0] or ".").resolve()
    folder = main.parent if main.is_file() else Path.cwd()
    try:
        head, dirty = _git(folder, "rev-parse", "HEAD"), bool(_git(folder, "status", "--porcelain"))
    except (OSError, subprocess.SubprocessError):
        head, dirty = None, None
    return {"path": str(main), "git_commit": head, "git_dirty": dirty}


def keep_commit(copy: Path) -> None:
    """Mark a copy of this package, which leaves the history behind, with the commit that it is a copy of."""
    head, dirty = commit()
    (copy / _COMMIT).write_text(json.dumps({"git_commit": head, "git_dirty": dirty}))


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


def gather(command: str, seeds: list[int], data: dict[str, str], started_at: float) -> dict[str, Any]:
    """All that ``provenance.json`` holds.

    Args:
        command: The command line that launched the study.
        seeds: The study's seeds.
        data: Per task, the sentence that says which data were used.
        started_at: Seconds since 1970.
    """
    head, dirty = commit()
    return {
        "versions": versions(),
        "git_commit": head,
        "git_dirty": dirty,
        "machine": machine(),
        "started_at": started_at,
        "command": command,
        "seeds": seeds,
        "data": data,
    }
