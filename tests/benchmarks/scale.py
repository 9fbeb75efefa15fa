"""What commands cost on studies of thousands of runs: processor seconds, wall seconds and peak memory of each.

    python tests/benchmarks/scale.py [--runs 80 520 2000] [--steps 42] [--commands status load …] [--keep DIRECTORY]

Every command runs in a process of its own on a made-up study (see `large_study.py`), once on each size. ``launch`` is
`run` with one run left to train, from the command to the beginning of that training, whereupon it is stopped; it needs
a multiple of 40 runs. ``mlflow`` is MLflow's own `log_batch` with as many points as `sync` sends, and nothing of ours
around it. Prints a line a command and size. Not a test: times depend on the machine and its other work.
"""

import argparse
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

_CLI = [sys.executable, "-m", "tangentscope"]


def _python(code: str) -> Callable[[Path], list[str]]:
    return lambda study: [sys.executable, "-c", code, str(study)]


_BARE = """
import json, sys, tempfile, mlflow
from mlflow.entities import Metric
plan = json.load(open(sys.argv[1] + '/plan.json'))
client = mlflow.MlflowClient(f'sqlite:///{tempfile.mkdtemp()}/mlflow.db')
experiment = client.create_experiment('bare')
for run in plan['runs']:
    made = client.create_run(experiment).info.run_id
    names = [f'metric-{k}' for k in range(16)]
    points = [Metric(name, 1 / (1 + step), 1000 + step, step) for name in names for step in run['schedule']]
    for first in range(0, len(points), 800):
        client.log_batch(made, points[first : first + 800])
    client.set_terminated(made)
"""

COMMANDS: dict[str, Callable[[Path], list[str]]] = {
    "status": lambda study: [*_CLI, "status", str(study)],
    "load": _python("import sys, tangentscope; tangentscope.load(sys.argv[1])"),
    "load-spectra": _python("import sys, tangentscope; tangentscope.load(sys.argv[1], 'spectra')"),
    "export-csv": lambda study: [*_CLI, "export", str(study), "--to", str(study.parent / f"{study.name}.csv")],
    "export-parquet": lambda study: [*_CLI, "export", str(study), "--to", str(study.parent / f"{study.name}.parquet")],
    "report": lambda study: [*_CLI, "report", str(study)],
    "sync": lambda study: [*_CLI, "sync", str(study)],
    "sync-again": lambda study: [*_CLI, "sync", str(study)],
    "mlflow": _python(_BARE),
    "launch": lambda study: [*_CLI, "run", str(study / "study.yaml"), "--out", str(study), "--offline"],
}


def begun(study: Path) -> bool:
    """Whether the last run of a study, of which nothing was there, trains."""
    last = json.loads((study / "plan.json").read_text())["runs"][-1]["run"]
    return (study / f"runs/{last}/attempts/0001.json").exists()


def started(command: list[str], study: Path) -> tuple[float, float]:
    """Processor and wall seconds from a launch's start until its run trains; the launch is then stopped."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        launch = subprocess.Popen(command, stdout=log, stderr=log)
        while not begun(study):
            if launch.poll() is not None:
                log.seek(0)
                sys.exit(f"{' '.join(command)}: ended early: {log.read().decode()[-2000:]}")
            time.sleep(0.1)
        wall = time.perf_counter() - began
        family = [psutil.Process(launch.pid), *psutil.Process(launch.pid).children(recursive=True)]
        cpu = sum(sum(process.cpu_times()[:4]) for process in family)  # and of their children that have ended
        launch.send_signal(signal.SIGINT)
        launch.wait()
    return cpu, wall


def measure(command: list[str]) -> tuple[float, float, float]:
    """Processor seconds, wall seconds and peak memory in MB of a command; exits where it fails."""
    begun = time.perf_counter()
    null = os.open(os.devnull, os.O_WRONLY)
    process = os.posix_spawn(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, null, 1)])
    _, status, usage = os.wait4(process, 0)
    os.close(null)
    if status:
        sys.exit(f"{' '.join(command)}: exit status {status}")
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - begun, usage.ru_maxrss / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, nargs="+", default=[80, 520, 2000])
    parser.add_argument("--steps", type=int, default=42)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--keep", type=Path, help="Where studies are made, or lie from the last time.")
    given = parser.parse_args()
    print(f"{'command':<16}{'runs':>7}{'rows':>10}{'cpu s':>8}{'wall s':>8}{'MB':>8}")
    with tempfile.TemporaryDirectory() as scratch:
        root = given.keep or Path(scratch)
        for runs in given.runs:
            for name in given.commands:
                launches = name == "launch"
                study = root / f"{'unfinished' if launches else 'large'}-{runs}"
                if launches:  # it changes the study
                    shutil.rmtree(study, ignore_errors=True)
                if not study.exists():
                    # In a process of its own: a child's peak memory is its parent's at least.
                    make = [sys.executable, Path(__file__).with_name("large_study.py"), study, str(runs)]
                    subprocess.run([*make, str(given.steps), str(runs - launches)], check=True)
                if launches:
                    cpu, wall, memory = *started(COMMANDS[name](study), study), math.nan
                else:
                    cpu, wall, memory = measure(COMMANDS[name](study))
                rows = f"{runs * given.steps * 12:,}"
                print(f"{name:<16}{runs:>7,}{rows:>10}{cpu:>8.1f}{wall:>8.1f}{memory:>8.0f}", flush=True)


if __name__ == "__main__":
    main()
