"""`tangentscope submit` to a real cluster that takes jobs: uploaded, followed, left alone, stopped, gone on with."""

import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from long_study import LONG, half_trained
from processes import Cluster, cluster, wait_for
from small_study import SMALL, keys, planned_keys

from tangentscope import pipeline
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.reader import Store

pytestmark = [pytest.mark.ray, pytest.mark.slow]

COMMIT = "0123abcd" * 5


class Submission:
    """One `tangentscope submit` in a process of its own, to which the cluster's machines are elsewhere."""

    def __init__(self, head: Cluster, study: dict, out: Path, *options: str, **env: str) -> None:
        self.head, self.out, self.storage = head, out, Storage.at(out)
        file = out.with_suffix(".yaml")
        file.write_text(yaml.safe_dump(study))
        words = ["submit", str(file), "--address", str(head.dashboard), "--out", str(out), "--offline", *options]
        surroundings = {key: value for key, value in head.surroundings.items() if key != "MLFLOW_TRACKING_URI"}
        self.printed = out.with_name(f"{secrets.token_hex(4)}.log")
        with self.printed.open("w") as log:
            self.client = subprocess.Popen(
                [sys.executable, "-m", "tangentscope", *words],
                env=surroundings | {"TANGENTSCOPE_COMMIT": COMMIT} | env,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def store(self) -> Store:
        return Store(self.storage)

    @property
    def lines(self) -> list[str]:
        return self.printed.read_text().splitlines()

    @property
    def name(self) -> str:
        """The submission's id, as it was printed."""
        return self.lines[0].removeprefix("submitted ")

    def until(self, condition: Callable[[], object]) -> None:
        """Return once the condition holds; whether the client still runs is no matter."""
        wait_for(lambda: bool(condition()), self.head.nodes[0])

    def finish(self, code: int = 0) -> None:
        assert self.client.wait(240) == code, self.printed.read_text()

    @property
    def driver(self) -> psutil.Process:
        """The study's own process on the cluster."""
        family = psutil.Process(self.head.nodes[0].pid).children(recursive=True)
        (found,) = [each for each in family if each.cmdline()[1:5] == ["-m", "tangentscope", "run", "study.yaml"]]
        return found

    def job(self, verb: str, *options: str) -> str:
        """What `ray job VERB` says of it."""
        ray = Path(sys.executable).with_name("ray")
        words = [str(ray), "job", verb, self.name, "--address", str(self.head.dashboard), *options]
        done = subprocess.run(words, env=self.head.surroundings, capture_output=True, text=True, timeout=200)
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def head() -> Iterator[Cluster]:
    with cluster(nodes=1, dashboard=True) as started:
        yield started


@pytest.fixture
def submit(head: Cluster, tmp_path: Path) -> Iterator[Callable[..., Submission]]:
    started: list[Submission] = []

    def start(study: dict, *options: str, **env: str) -> Submission:
        started.append(Submission(head, study, tmp_path / "study", *options, **env))
        return started[-1]

    yield start
    for one in started:
        one.client.kill()
        one.client.wait()


def test_a_token_that_the_cluster_does_not_know(submit):
    refused = submit(SMALL, RAY_AUTH_TOKEN="0" * 32)
    refused.finish(2)
    (line,) = refused.lines
    assert "Authentication failed: Forbidden: Invalid authentication token; set RAY_AUTH_TOKEN to the cluster's" in line


def test_it_runs_there_as_it_would_here(submit, head: Cluster):
    one = submit(SMALL, "train.epochs=2", "grid.model.width=[4]")
    one.finish()
    assert sorted(keys(pipeline.load(one.out))) == sorted(planned_keys(one.store))
    assert [run.name for run in one.store.runs] == ["width=4 seed=0"]
    # Told on the client, by the file that went along: the cluster's own environment does not have it.
    assert one.store.provenance()["git_commit"] == COMMIT
    assert "TANGENTSCOPE_COMMIT" not in one.head.surroundings
    printed = one.lines
    assert [line.split(":")[0] for line in printed[1:3]] == ["look again", "stop it"]
    assert "1 runs finished, 0 failed" in " ".join(printed)
    assert printed[-1] == f"{one.name} succeeded"
    assert "Traceback" not in one.printed.read_text()
    (staged,) = [path.parent for path in head.folder.rglob("working_dir_files/*/study.yaml")]
    there = {path.name for path in staged.iterdir() if path.name != "__pycache__"}
    assert there == {"pipeline", "probes", "models", "tasks", "studies", "study.yaml"}


def test_the_job_goes_on_when_its_client_is_killed(submit):
    one = submit({**SMALL, **LONG})
    one.until(lambda: half_trained(one))
    one.client.kill()
    one.client.wait()
    then = set(keys(pipeline.load(one.out)))
    seen = one.job("logs", "--follow")  # to the job's end
    assert "1 runs finished, 0 failed" in seen
    assert f"Job '{one.name}' succeeded" in seen
    assert then < set(keys(pipeline.load(one.out))) == planned_keys(one.store)


def test_a_stopped_job_has_checkpointed_and_the_same_command_goes_on(submit):
    fewer = {**LONG["probes"], "schedule": {"every": {"epochs": 50}}}
    longer = {**SMALL, **LONG, "train": {"epochs": 1500, "batch_size": 50}, "probes": fewer}
    one = submit(longer, "--no-wait")
    one.finish()
    assert len(one.lines) == 3
    one.until(lambda: half_trained(one))
    # It is the supervisor's own child, no shell's, and the supervisor, whose environment it has, waits that long.
    assert "JobSupervisor" in " ".join(one.driver.parent().cmdline())
    assert one.driver.environ()["RAY_JOB_STOP_WAIT_TIME_S"] == "120"
    assert f"Job '{one.name}' was stopped" in one.job("stop")
    assert "SIGTERM: stopped; run the same command again to go on" in one.job("logs")  # it had the time to say so
    assert one.storage.read_json("launches/000001.beat")["ended"] is True
    assert not one.store.outcomes()
    again = submit(longer)
    again.finish()
    assert again.name != one.name
    (run,) = again.store.runs
    assert len(again.storage.list(f"runs/{run.id}/attempts")) == 2
    assert set(keys(pipeline.load(again.out))) == planned_keys(again.store)
