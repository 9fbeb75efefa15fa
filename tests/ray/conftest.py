"""Launching the real command on a real Ray, each launch in a process of its own, as a user does."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import yaml
from long_study import LONG
from small_study import SMALL

from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.reader import Store


@dataclass
class Launch:
    """One `tangentscope run` in a process of its own."""

    study: Path
    out: Path | str
    process: subprocess.Popen[str] = field(repr=False)
    printed: str = ""

    @property
    def storage(self) -> Storage:
        return Storage.at(self.out)

    @property
    def store(self) -> Store:
        return Store(self.storage)

    def finish(self, code: int = 0) -> str:
        """Wait for the end; everything it printed."""
        printed, _ = self.process.communicate(timeout=240)
        assert self.process.returncode == code, printed
        return printed

    def command(self, verb: str, *arguments: str) -> str:
        """Run another command on the same results to its end; what it printed."""
        words = [sys.executable, "-m", "tangentscope", verb, str(self.out), *arguments]
        env = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
        done = subprocess.run(words, env=env | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def until(self, condition: Callable[[], object]) -> None:
        """Return once the condition holds; fail if the launch ends before."""
        while not condition():
            assert self.process.poll() is None, f"ended too early: {self.process.communicate()[0]}"
            time.sleep(0.05)

    def descendants(self, title: str) -> list[psutil.Process]:
        """Processes below the launch whose title has `title` in it, e.g. ``ray::Prober``."""
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if title in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found


@pytest.fixture(scope="session")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Launch]]:
    """Start `tangentscope run`; what is left of it when the tests end is ended by its process id."""
    started: list[Launch] = []

    def start(out: Path | str, *arguments: str, env: dict[str, str] | None = None, **changes: object) -> Launch:
        study = tmp_path_factory.mktemp("study") / "small.yaml"
        study.write_text(yaml.safe_dump({**SMALL, **changes}))
        for name in ("pipeline", "probes", "models", "tasks", "studies"):  # a user's own, which must hide none of ours
            (study.parent / f"{name}.py").write_text(f"raise ImportError('the wrong {name}')\n")
        command = [sys.executable, "-m", "tangentscope", "run", str(study), "--out", str(out), *arguments]
        clean = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
        path = os.pathsep.join([str(study.parent), *filter(None, [os.environ.get("PYTHONPATH")])])  # workers' too
        process = subprocess.Popen(
            command,
            cwd=study.parent,
            env={**clean, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # a group of its own, for signals that go to a whole group
        )
        started.append(Launch(study, out, process))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.send_signal(signal.SIGTERM)
            one.process.wait(60)


@pytest.fixture(scope="session")
def undisturbed(launch: Callable[..., Launch], tmp_path_factory: pytest.TempPathFactory) -> Launch:
    """The small study, run once to its end: what disturbed launches are compared with."""
    done = launch(tmp_path_factory.mktemp("undisturbed") / "results" / "small")
    done.printed = done.finish()
    return done


@pytest.fixture(scope="module")
def straight(launch, tmp_path_factory: pytest.TempPathFactory) -> Launch:
    """The long run, undisturbed."""
    done = launch(tmp_path_factory.mktemp("straight") / "small", "--offline", **LONG)
    done.printed = done.finish()
    return done
