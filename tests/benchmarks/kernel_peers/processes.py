"""Fresh processes, what became of them, and what need not be run again."""

import functools
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from kernel_peers.environments import Environment
from kernel_peers.sizes import SIZES

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
REAL_MODELS = ROOT / "tests" / "probes"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
KEEP_PAGES = {"MALLOC_TRIM_THRESHOLD_": str(2**32), "MALLOC_MMAP_THRESHOLD_": str(2**30)}
"""So that glibc keeps freed memory: pages fresh from the system cost more than products, and differently each time."""
MEMORY_WORDS = ("allocate memory", "MemoryError", "RESOURCE_EXHAUSTED", "bad_alloc", "Out of memory", "out of memory")

Record = dict[str, Any]
"""status: measured (first, seconds, peak_mb, error), over limit, over memory or failed (why)."""


@dataclass(frozen=True)
class Settings:
    """What is asked of every measurement; a record of other settings is no answer."""

    repeats: int
    least: float  # seconds of timed calls, and of a turn
    threads: int
    limit: float  # seconds of a process
    memory: int  # bytes of a process
    device: str  # "cpu" or "cuda"


@dataclass(frozen=True)
class Task:
    """One peer by one of its ways on one cell."""

    cell: str
    sizes: Mapping[str, int]
    peer: str
    variant: str

    @property
    def module(self) -> str:
        return self.peer.replace(".", "_").replace("-", "_")


def module(name: str, *arguments: str, threads: int, environment: Environment, limit: float) -> str:
    """Run kernel_peers.``name`` and return what it printed; CalledProcessError or TimeoutExpired otherwise."""
    words, settings = fresh_process(name, *arguments, threads=threads, environment=environment)
    return subprocess.run(words, **settings, capture_output=True, timeout=limit, check=True).stdout


def fresh_process(
    name: str, *arguments: str, threads: int, environment: Environment
) -> tuple[list[str], dict[str, Any]]:
    """For ``subprocess``: the words that run kernel_peers.``name``, and the settings that they need."""
    paths = [str(HERE.parent), str(REAL_MODELS), *map(str, environment.folders), os.environ.get("PYTHONPATH", "")]
    surroundings = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "JAX_PLATFORMS": "cpu"}
    surroundings |= KEEP_PAGES | dict.fromkeys(THREAD_VARIABLES, str(threads))
    words = [environment.python, "-m", f"kernel_peers.{name}", *arguments]
    return words, {"cwd": ROOT, "env": surroundings, "text": True}


def reference(folder: Path, cell: str, sizes: dict[str, int], threads: int) -> Path:
    """The folder with the cell's float64 entries and its network as arrays, made if it is not there."""
    asked = {"sizes": sizes, "torch": version("torch"), "source": cell_source(cell)}
    done = folder / "cell.json"
    if not done.exists() or json.loads(done.read_text()) != asked:
        shutil.rmtree(folder, ignore_errors=True)
        print(f"{cell:<12} float64 reference", flush=True)
        words = (str(folder), cell, json.dumps(sizes))
        module("reference", *words, threads=threads, environment=Environment(), limit=3600)
        done.write_text(json.dumps(asked))
    return folder


def cell_source(cell: str) -> str:
    """What a cell is made by."""
    return digest(tuple(HERE / name for name in ("cells.py", "molecules.py", "reference.py")) + real_sources(cell), "")


def real_sources(cell: str) -> tuple[Path, ...]:
    """What a real model is made by; nothing where the cell is none."""
    return () if cell in SIZES["full"] else tuple(sorted(REAL_MODELS.glob("real_*.py")))


def measure(
    task: Task, settings: Settings, environment: Environment, cell: Path, path: Path, beat: float = float("inf")
) -> Record:
    """The record at ``path``, made in a fresh process; no repeats where another way is twice as fast as this one.

    ``cell`` holds the reference and the net as arrays; without them no error is measured.
    """
    raw = path.with_suffix(".raw")
    raw.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    job = asked_of(task, settings, cell) | {"record": str(raw), "beat": beat, "plan": task.peer == "tangentscope"}
    ending = {"status": "over limit", "why": "no time for a second call"}
    try:
        module("worker", json.dumps(job), threads=settings.threads, environment=environment, limit=settings.limit)
    except subprocess.TimeoutExpired:
        ending = {"status": "over limit", "why": f"not done after {settings.limit:.0f} s"}
    except subprocess.CalledProcessError as error:
        ending = why(error)
    found: Record = json.loads(raw.read_text()) if raw.exists() else {}
    if not found.get("seconds"):  # a first call alone, which compiles and loads, is no timing
        found |= ending
    raw.unlink(missing_ok=True)
    found |= {"asked": asdict(settings), "of": fingerprint(task), **asdict(task)}
    path.write_text(json.dumps(found, indent=1))
    return found


def asked_of(task: Task, settings: Settings, cell: Path) -> Record:
    """A worker's job, but for what becomes of it."""
    what = {"cell": str(cell), "name": task.cell, "sizes": dict(task.sizes), "peer": task.module}
    return {**asdict(settings), **what, "variant": task.variant, "turns": False}


def why(error: subprocess.CalledProcessError) -> Record:
    """From a process's last words."""
    lines = [line for line in error.stderr.splitlines() if line.strip()]
    if any(word in error.stderr for word in MEMORY_WORDS):
        return {"status": "over memory", "why": next(line for line in lines if any(w in line for w in MEMORY_WORDS))}
    return {"status": "failed", "why": lines[-1] if lines else f"exit status {error.returncode}"}


def seconds(record: Record) -> float:
    """Of a call, the median."""
    return median(record["seconds"])


def finite(ways: list[Record]) -> list[Record]:
    """Those that were measured and right; one whose values are not finite is none."""
    return [record for record in ways if record["status"] == "measured" and math.isfinite(record["error"])]


def kept(path: Path, task: Task, settings: Settings) -> Record | None:
    """A record that answers the same question about the same sources; failures are tried again."""
    if not path.exists():
        return None
    record = json.loads(path.read_text())
    fits = record["asked"] == asdict(settings) and record["of"] == fingerprint(task)
    return record if fits and record["status"] != "failed" else None


def fingerprint(task: Task) -> str:
    """Of the cell, and of every source that decides what is timed."""
    sources = [
        HERE / "cells.py",
        HERE / "molecules.py",
        HERE / "worker.py",
        HERE / "meters.py",
        HERE / f"by_{task.module}.py",
        *real_sources(task.cell),
    ]
    if task.peer == "neural-tangents":
        sources.append(HERE / "jax_nets.py")
    if task.peer == "tangentscope":
        sources += sorted((ROOT / "probes").rglob("*.py"))
    return digest(tuple(sources), json.dumps([dict(task.sizes), version("torch"), sys.version]))


@functools.cache
def digest(sources: tuple[Path, ...], text: str) -> str:
    found = hashlib.sha256(text.encode())
    for source in sources:
        found.update(source.read_bytes())
    return found.hexdigest()[:16]
