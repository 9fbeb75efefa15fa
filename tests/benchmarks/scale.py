"""What commands cost on studies of thousands of runs: processor seconds, wall seconds and peak memory of each.

    python tests/benchmarks/scale.py [--runs 50 500 2000] [--steps 42] [--commands status load …] [--keep DIRECTORY]

Every command runs in a process of its own on a made-up study (see `large_study.py`), once on each size. Prints a line
a command and size. Not a test: times depend on the machine and its other work.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

_CLI = [sys.executable, "-m", "tangentscope"]


def _python(code: str) -> Callable[[Path], list[str]]:
    return lambda study: [sys.executable, "-c", code, str(study)]


COMMANDS: dict[str, Callable[[Path], list[str]]] = {
    "status": lambda study: [*_CLI, "status", str(study)],
    "load": _python("import sys, pipeline; pipeline.load(sys.argv[1])"),
    "load-spectra": _python("import sys, pipeline; pipeline.load(sys.argv[1], 'spectra')"),
    "export-csv": lambda study: [*_CLI, "export", str(study), "--to", str(study.parent / f"{study.name}.csv")],
    "export-parquet": lambda study: [*_CLI, "export", str(study), "--to", str(study.parent / f"{study.name}.parquet")],
    "report": lambda study: [*_CLI, "report", str(study)],
    "sync": lambda study: [*_CLI, "sync", str(study)],
    "sync-again": lambda study: [*_CLI, "sync", str(study)],
}


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
    parser.add_argument("--runs", type=int, nargs="+", default=[50, 500, 2000])
    parser.add_argument("--steps", type=int, default=42)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--keep", type=Path, help="Where studies are made, or lie from the last time.")
    given = parser.parse_args()
    print(f"{'command':<16}{'runs':>7}{'rows':>10}{'cpu s':>8}{'wall s':>8}{'MB':>8}")
    with tempfile.TemporaryDirectory() as scratch:
        root = given.keep or Path(scratch)
        for runs in given.runs:
            study = root / f"large-{runs}"
            if not study.exists():
                # In a process of its own: a child's peak memory is its parent's at least.
                make = [sys.executable, Path(__file__).with_name("large_study.py"), study, str(runs), str(given.steps)]
                subprocess.run(make, check=True)
            for name in given.commands:
                cpu, wall, memory = measure(COMMANDS[name](study))
                rows = f"{runs * given.steps * 12:,}"
                print(f"{name:<16}{runs:>7,}{rows:>10}{cpu:>8.1f}{wall:>8.1f}{memory:>8.0f}", flush=True)


if __name__ == "__main__":
    main()
