"""Sixty short runs: tangentscope against the plain script, with torch.func and with our own engine called in line.

    python tests/benchmarks/sixty_runs/compare.py [--repeats 3] [--seeds 20] [--widths 64 1024] [--beside in-line func]

Each way runs in a process of its own, one after another in every repeat, after a small study that is not timed. Seconds
are from the start of the process to its end; but the script with torch.func is timed at five points of training a width
and extrapolated, without its start. Prints seconds and ratios as medians with their spread, what processor time went
into, and by how much the measured numbers differ. Not a test: times depend on the machine and its other work.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil

from tangentscope import pipeline
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.reader import Store

HERE = Path(__file__).parent
IN_LINE = {"ours in line, 1 thread": ("ours", 1), "ours in line, 2 threads": ("ours", 2)}


def script(engine: str, threads: int, *options: str) -> dict[str, Any]:
    """What `script.py` found."""
    command = [sys.executable, str(HERE / "script.py"), engine, "--threads", str(threads), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout)


def study(out: Path, widths: list[int], seeds: int) -> tuple[float, dict[str, float]]:
    """Wall seconds of the study from the shell's point of view, MLflow and report with it; and processor seconds."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "tangentscope", "run", str(HERE / "study.yaml"), "--out", str(out)]
    command += [f"seeds={seeds}", f"grid.model.width={widths}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    spent: dict[psutil.Process, tuple[str, float]] = {}
    while not _has_ended(process):
        with suppress(psutil.NoSuchProcess):
            launch = psutil.Process(process.pid)
            for each in (launch, *launch.children(recursive=True)):
                with suppress(psutil.Error, KeyError):  # it has ended since
                    times = each.cpu_times()
                    title = _title(each) or spent[each][0]
                    spent[each] = (title, times.user + times.system)
    assert process.returncode == 0
    by_title: Counter[str] = Counter()
    for title, seconds in spent.values():
        by_title[title] += seconds
    return time.perf_counter() - begun, dict(by_title.most_common())


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(1.0)  # looking more often takes what is looked at a share of its processor
    except subprocess.TimeoutExpired:
        return False
    return True


def _title(process: psutil.Process) -> str | None:
    """What Ray calls one of its own, e.g. ``ray::Prober``; None of a process that has ended and was not waited for."""
    words = process.cmdline()
    if not words:
        return None
    if words[0].startswith("ray::"):
        return words[0].partition(".")[0]
    return "the command itself" if "tangentscope" in words else "the rest of Ray"


def start_up(out: Path, begun: float) -> dict[str, float]:
    """Seconds before the first run of a study started at `begun`, and of a run beside training, evaluations, copies."""
    runs = [outcome.to_json() for outcome in Store(Storage.at(out)).outcomes().values()]
    first = min(run["started_at"] for run in runs) - begun
    spent = ("training", "evaluate", "copy", "wait", "checkpoint")
    # Of a pass over several seeds each has the seconds of the whole, and its own share of the rest.
    beside = sum(run["seconds"] / run["together"] - sum(run[f"{part}_seconds"] for part in spent) for run in runs)
    return {
        "before the first run": first,
        "a run": beside / len(runs),
        "a run, all in all": (first + beside) / len(runs),
    }


def difference(out: Path, found: dict[str, Any]) -> dict[str, float]:
    """The largest relative difference of trace and entropy between a study and a script, over all they both have."""
    frame = pipeline.load(out)
    at = frame.set_index([frame["model.width"], frame["seed"], frame["step"], frame["variable"]])["value"]
    pairs = [
        (name, value, at[run["width"], run["seed"], int(step), name])
        for run in found["runs"]
        for step, values in run["measured"].items()
        for name, value in values.items()
    ]
    table = pd.DataFrame(pairs, columns=["variable", "script", "study"])
    table["difference"] = (table["script"] / table["study"] - 1).abs()
    return table.groupby("variable")["difference"].max().to_dict()


def told(values: list[float]) -> str:
    """Median, least and most."""
    return f"{np.median(values):8.2f}  ({min(values):.2f} … {max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--beside", choices=["in-line", "func"], nargs="*", default=["in-line", "func"])
    given = parser.parse_args()
    options = ["--seeds", str(given.seeds), "--widths", *map(str, given.widths)]
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as directory:  # what programs are made of is read from disk only once
        study(Path(directory) / "results", given.widths[:1], 1)
    for repeat in range(given.repeats):
        with tempfile.TemporaryDirectory() as directory:
            out = Path(directory) / "results"
            begun = time.time()
            wall, spent = study(out, given.widths, given.seeds)
            seconds.setdefault("tangentscope", []).append(wall)
            for what, found in (("start-up", start_up(out, begun)), ("processor time", spent)):
                parts = ", ".join(f"{part} {value:.2f} s" for part, value in found.items())
                print(f"repeat {repeat}: {what}: {parts}", flush=True)
            for name, (engine, threads) in (IN_LINE if "in-line" in given.beside else {}).items():
                begun = time.perf_counter()
                found = script(engine, threads, *options)
                seconds.setdefault(name, []).append(time.perf_counter() - begun)
                print(f"repeat {repeat}: {name}: difference {difference(out, found)}", flush=True)
            if "func" in given.beside:
                found = script("func", os.cpu_count() or 1, "--points", "5", *options)
                seconds.setdefault("torch.func, extrapolated", []).append(found["seconds"])
                print(f"repeat {repeat}: torch.func: difference {difference(out, found)}", flush=True)
        print({name: round(values[-1], 1) for name, values in seconds.items()}, flush=True)
    for name, values in seconds.items():
        ratios = [value / own for value, own in zip(values, seconds["tangentscope"], strict=True)]
        print(f"{name:<26} {told(values)} s   × {told(ratios)}")


if __name__ == "__main__":
    main()
