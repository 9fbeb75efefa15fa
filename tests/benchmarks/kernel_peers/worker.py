"""One peer on one cell in a process of its own: seconds, memory and error, written after every call; or turns.

    python -m kernel_peers.worker JOB_AS_JSON

Imports nothing but numpy until the peer's module does: peers live in environments of their own.
"""

import gc
import importlib
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from kernel_peers import meters


def main(job: dict[str, Any]) -> None:
    """Prepare, and do what was asked."""
    started = time.perf_counter()
    # Both for threads that heed no variable, and for memory that would take other processes with it.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job["threads"]])
    if job["device"] == "cpu":  # a GPU's driver maps its memory into ours
        resource.setrlimit(resource.RLIMIT_DATA, (job["memory"], job["memory"]))
    peer = importlib.import_module(f"kernel_peers.by_{job['peer']}")
    meter = meters.on(job["device"])
    prepared = peer.prepare(Path(job["cell"]), job["name"], job["sizes"], job["variant"], job["device"])

    def call() -> Any:
        kernel = prepared()
        meter.wait()
        return kernel

    if job["turns"]:
        take_turns(call, job["least"])
    else:
        measure(job, peer, call, meter, started)


def measure(job: dict[str, Any], peer: Any, call: Callable[[], Any], meter: meters.Meter, started: float) -> None:
    """Call once, call again at least ``repeats`` times, and compare with the reference."""
    cell, record = Path(job["cell"]), Path(job["record"])
    gc.collect()
    loaded = meter.now()
    meter.forget_peak()

    found: dict[str, Any] = {"status": "measured", "loaded_mb": loaded / 1e6, "seconds": [], "stopped": False}
    while len(found["seconds"]) < job["repeats"] or sum(found["seconds"]) < job["least"]:
        before = time.perf_counter()
        kernel = call()
        seconds = time.perf_counter() - before
        found["peak_mb"] = (meter.peak() - loaded) / 1e6
        if "first" in found:
            found["seconds"].append(seconds)
        else:
            found |= {"first": seconds, "error": error(peer, kernel, cell), "side": side(kernel)}
        del kernel
        found["stopped"] = stops(found, job, time.perf_counter() - started)
        publish(record, found)
        if found["stopped"]:
            break
    if job["plan"]:
        found["plan"] = peer.plan(job["name"], job["sizes"])
        publish(record, found)


def take_turns(call: Callable[[], Any], least: float) -> None:
    """For every line that comes, call once, and again while ``least`` seconds are not over; prints seconds as JSON."""
    for _ in sys.stdin:
        seconds: list[float] = []
        while not seconds or sum(seconds) < least:
            before = time.perf_counter()
            kernel = call()
            seconds.append(time.perf_counter() - before)
            del kernel
        print(json.dumps(seconds), flush=True)


def stops(found: dict[str, Any], job: dict[str, Any], elapsed: float) -> bool:
    """Whether another call would pass the limit, or another variant of the peer is twice as fast."""
    slow = bool(found["seconds"]) and statistics.median(found["seconds"]) > 2 * job["beat"]
    return slow or elapsed + min([found["first"], *found["seconds"]]) > job["limit"]


def error(peer: Any, kernel: Any, cell: Path) -> float | None:
    """max|a − b| / max|b| against the float64 reference b, where there is one."""
    if not (cell / "reference.npz").exists():
        return None
    reference = np.load(cell / "reference.npz")
    expected = reference["kernel"]
    found = peer.entries(kernel, reference["points"], reference["outputs"], int(reference["per_point"]))
    return float(np.abs(found.astype(np.float64) - expected).max() / np.abs(expected).max())


def side(kernel: Any) -> int:
    """N·O, whatever the layout."""
    return round(float(np.prod(kernel.shape)) ** 0.5)


def publish(record: Path, found: dict[str, Any]) -> None:
    """All or nothing: this process may be killed at any time."""
    draft = record.with_suffix(".draft")
    draft.write_text(json.dumps(found))
    draft.replace(record)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
