"""How long the quickstart takes, what its snapshots cost training, how far probes lag, and how good its plan was.

    python tests/benchmarks/quickstart.py [--repeats 5]

Prints one line a repeat and medians with their spread. Not a test: times depend on the machine and its other work.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tangentscope import pipeline
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.store.run_files import attempts


def planned() -> tuple[float, float]:
    """Wall seconds and a training worker's memory in bytes, as `plan` prints them."""
    command = [sys.executable, "-m", "tangentscope", "plan", "quickstart"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    units = {"s": 1.0, "min": 60.0, "MB": 1e6, "GB": 1e9}
    found = [re.search(rf"^{line} +([\d.]+) (\w+)", printed, re.MULTILINE) for line in ("time", "memory")]
    seconds, memory = (float(match[1]) * units[match[2]] for match in found if match)
    return seconds, memory


def run(out: Path) -> float:
    """Wall seconds of one quickstart, from the shell's point of view."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "tangentscope", "quickstart", "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - begun


def phases(out: Path, begun: float) -> dict[str, float]:
    """Seconds from the command to where the launch stood, as its files say."""
    storage = Storage.at(out)
    snapshots, frame = pipeline.load(out, "snapshots"), pipeline.load(out)
    first = storage.list("launches")[0].partition(".")[0]
    started = [attempts(storage, run.id)[0].started_at for run in Store(storage).runs]
    return {
        "planned, output claimed (s)": storage.read_json(f"launches/{first}.json")["at"] - begun,
        "first worker has its run (s)": min(started) - begun,
        "first update (s)": snapshots.loc[snapshots["step"] > 0, "taken_at"].min() - begun,
        "first value measured (s)": frame["recorded_at"].min() - begun,
    }


def figures(out: Path) -> dict[str, float]:
    """What the tables of one quickstart say."""
    store = Store(Storage.at(out))
    snapshots, frame = pipeline.load(out, "snapshots"), pipeline.load(out)
    outcomes = list(store.outcomes().values())
    held = sum((outcome.copy_seconds or 0.0) + (outcome.wait_seconds or 0.0) for outcome in outcomes)
    return {
        "held up per snapshot, median (ms)": 1e3 * snapshots["copy_seconds"].median(),
        "held up per snapshot, most (ms)": 1e3 * snapshots["copy_seconds"].max(),
        "held up, share of training (%)": 100 * held / sum(outcome.training_seconds or 0.0 for outcome in outcomes),
        "waited for storage (ms)": 1e3 * snapshots["wait_seconds"].sum(),
        "lag of probes, median (s)": frame["lag_seconds"].median(),
        "lag of probes, 90 % (s)": frame["lag_seconds"].quantile(0.9),
        "lag of probes, most (s)": frame["lag_seconds"].max(),
        "peak memory, training worker (MB)": max(outcome.peak_memory or 0 for outcome in outcomes) / 1e6,
        "peak memory, prober (MB)": frame["peak_memory"].max() / 1e6,
    }


def main() -> None:
    """Repeat and summarise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    seconds, memory = planned()
    print(f"planned: {seconds:.0f} s, {memory / 1e6:.0f} MB a training worker")
    rows = []
    for repeat in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "quickstart"
            begun = time.time()
            wall = run(out)
            rows.append({"wall (s)": wall, "wall / planned": wall / seconds, **phases(out, begun), **figures(out)})
        print(f"repeat {repeat + 1}: {wall:.1f} s", flush=True)
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        print(f"{name:<36} median {np.median(values):9.3g}   {values.min():9.3g} … {values.max():9.3g}")


if __name__ == "__main__":
    main()
