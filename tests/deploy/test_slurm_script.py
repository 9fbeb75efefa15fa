"""The Slurm script's own logic, run for real, with stand-ins for Slurm, Ray and the study on its PATH."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from manifests import ROOT
from rules_commands import study_of

from tangentscope.pipeline.cli import app

SCRIPT = ROOT / "deploy/slurm/study.sbatch"

# Each stand-in writes its name and arguments, NUL between them, as one line of $SAID.
SAY = 'printf "%s\\0" "$(basename "$0")" "$@" >>"$SAID"; echo >>"$SAID"\n'
STAND_INS = {
    # Runs its command once, as for the first node, and gives SIGTERM to it as srun gives it to a step.
    "srun": SAY + 'while [[ $1 == --* ]]; do shift; done; exec "$@"\n',
    "scontrol": SAY + "[[ $1 != show ]] || printf '%s\\n' node1 node2\n",
    # Runs what follows the separator as a child of its own, as the real one does.
    "ray": SAY
    + '[[ -z ${RAY_STAYS:-} ]] || read -r <"$RAY_STAYS"\n'
    + 'while [[ $1 != -- ]]; do shift; done; shift; "$@"\n',
}
STUDY = """\
import os, signal, sys
from pathlib import Path

def said(*words):
    with Path(os.environ["SAID"]).open("a") as file:
        file.write("\\0".join([*words, ""]) + "\\n")

signals = []
def note(number, frame):
    said("signal", signal.Signals(number).name)
    signals.append(number)

signal.signal(signal.SIGTERM, note)
names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "OMP_NUM_THREADS", "RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT")
said("environment", *(os.environ.get(name, "") for name in names))
said("tangentscope", *sys.argv[1:])
until = int(os.environ["STUDY_WAITS_FOR_SIGNALS"])
while len(signals) < until:
    signal.pause()
said("checkpointed")
if os.environ.get("STUDY_STAYS"):
    os.read(os.open(os.environ["STUDY_STAYS"], os.O_RDONLY), 1)
sys.exit(int(os.environ["STUDY_CODE"]))
"""


@dataclass
class Job:
    """A job's script, running."""

    process: subprocess.Popen[bytes]
    said_file: Path
    log: Path

    def said(self, name: str) -> list[list[str]]:
        lines = self.said_file.read_text().splitlines() if self.said_file.exists() else []
        return [words[1:-1] for words in (line.split("\0") for line in lines) if words[0] == name]

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.01)

    def end(self) -> tuple[int, str]:
        return self.process.wait(30), self.log.read_text()


Start = Callable[..., Job]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the script as Slurm would: with a few variables, and the stand-ins first on PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in STAND_INS.items():
        (programs / name).write_text(f"#!/usr/bin/env bash\n{text}")
    (programs / "tangentscope").write_text(f"#!{sys.executable}\n{STUDY}")
    for program in programs.iterdir():
        program.chmod(0o755)
    started: list[Job] = []

    def run(*overrides: str, without: str = "", **changes: str) -> Job:
        environment = {
            "PATH": f"{programs}:/usr/bin:/bin",
            "HOME": str(tmp_path / "home"),
            "SLURM_JOB_ID": "77",
            "SLURM_JOB_NODELIST": "node[1-2]",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_CPUS_PER_TASK": "8",
            "VENV": "",
            "SAID": str(tmp_path / "said"),
            "STUDY_WAITS_FOR_SIGNALS": "0",
            "STUDY_CODE": "0",
        }
        environment = {key: value for key, value in (environment | changes).items() if key != without}
        log = tmp_path / f"job-{len(started)}.log"
        with log.open("w") as stream:
            process = subprocess.Popen([SCRIPT, *overrides], env=environment, stdout=stream, stderr=stream)
        started.append(Job(process, tmp_path / "said", log))
        return started[-1]

    yield run
    for job in started:
        if job.process.poll() is None:
            job.process.kill()
            job.process.wait(30)


def test_the_study_runs_on_all_nodes_with_a_token_and_threads(start: Start, tmp_path: Path):
    job = start("train.epochs=5", JOIN_SECONDS="60")
    code, printed = job.end()
    assert code == 0, printed
    (command,) = job.said("tangentscope")
    results = str(tmp_path / "home/tangentscope/quickstart")
    fields = ["resources.shared=true", "train.epochs=5"]
    assert command == ["run", "quickstart", *fields, "--address", "auto", "--out", results, "--offline"]
    _, bound, *_ = app.parse_args(command, exit_on_error=False, print_error=False)
    assert bound.arguments["more"] == tuple(fields)
    (ray,) = job.said("ray")
    assert ray[: ray.index("--")] == [
        *("symmetric-run", "--address", "node1:6379", "--min-nodes", "2"),
        *("--num-cpus=8", "--labels=pool=train", "--dashboard-host=127.0.0.1", "--disable-usage-stats"),
    ]
    ((mode, token, threads, patience),) = job.said("environment")
    assert (mode, len(token), threads, patience) == ("token", 64, "1", "60")
    assert not any(token in word for name in ("srun", "ray", "scontrol") for words in job.said(name) for word in words)
    tasks = ["--nodes=2", "--ntasks=2", "--ntasks-per-node=1"]
    assert [words[:3] for words in job.said("srun")] == [tasks, tasks]
    assert [words[0] for words in job.said("scontrol")] == ["show"]  # and no requeue
    assert (tmp_path / "home/tangentscope/quickstart").is_dir()


@pytest.mark.parametrize(("node", "pool"), [("0", "probe"), ("1", "train")])
def test_the_first_nodes_are_kept_for_probes_where_it_is_asked_for(start: Start, node: str, pool: str):
    job = start("train.epochs=5", PROBE_NODES="1", SLURM_NODEID=node)
    code, printed = job.end()
    assert code == 0, printed
    assert f"--labels=pool={pool}" in job.said("ray")[0]
    (command,) = job.said("tangentscope")
    _, bound, *_ = app.parse_args(command, exit_on_error=False, print_error=False)
    pools = study_of(bound.arguments).resources
    assert (pools.train.labels, pools.probe.labels) == ({"pool": "train"}, {"pool": "probe"})


def test_every_job_has_a_token_of_its_own(start: Start):
    jobs = [start() for _ in range(2)]
    assert [job.end()[0] for job in jobs] == [0, 0]
    assert len({token for _, token, *_ in jobs[0].said("environment")}) == 2


def test_an_mlflow_server_is_used_where_one_is_named(start: Start):
    job = start(MLFLOW_TRACKING_URI="http://mlflow:5000")
    assert job.end()[0] == 0
    assert "--offline" not in job.said("tangentscope")[0]


@pytest.mark.parametrize(("name", "requeued"), [("TERM", True), ("INT", False)])
def test_a_signal_reaches_the_study_once_and_is_waited_for(start: Start, name: str, requeued: bool, tmp_path: Path):
    """However often it comes: the study's second SIGTERM would end it without a checkpoint."""
    os.mkfifo(tmp_path / "gate")
    job = start(STUDY_WAITS_FOR_SIGNALS="1", STUDY_CODE="130", STUDY_STAYS=str(tmp_path / "gate"))
    job.until(lambda: job.said("tangentscope"))
    job.process.send_signal(signal.Signals[f"SIG{name}"])
    job.until(lambda: job.said("checkpointed"))
    job.process.send_signal(signal.SIGTERM)
    job.until(lambda: "SIGTERM: the study is stopping already" in job.log.read_text())
    (tmp_path / "gate").open("w").close()  # the study, and with it the job, ends now and not before
    code, printed = job.end()
    assert code == 130, printed
    assert job.said("signal") == [["SIGTERM"]]
    assert (["requeue", "77"] in job.said("scontrol")) is requeued


def test_a_signal_before_the_study_has_started_ends_the_step(start: Start, tmp_path: Path):
    os.mkfifo(tmp_path / "gate")
    job = start(RAY_STAYS=str(tmp_path / "gate"))
    job.until(lambda: job.said("ray"))
    job.process.send_signal(signal.SIGTERM)
    assert job.end()[0] == 128 + signal.SIGTERM
    assert not job.said("tangentscope")
    assert ["requeue", "77"] in job.said("scontrol")


def test_a_study_that_ends_well_all_the_same_is_not_requeued(start: Start):
    job = start(STUDY_WAITS_FOR_SIGNALS="1", STUDY_CODE="0")
    job.until(lambda: job.said("tangentscope"))
    job.process.send_signal(signal.SIGTERM)
    assert job.end()[0] == 0
    assert ["requeue", "77"] not in job.said("scontrol")


def test_a_study_that_fails_by_itself_is_not_requeued(start: Start):
    job = start(STUDY_CODE="2")
    assert job.end()[0] == 2
    assert ["requeue", "77"] not in job.said("scontrol")


FAILURES = [
    ({"without": "SLURM_JOB_ID"}, "not in a Slurm job"),
    ({"without": "SLURM_JOB_NODELIST"}, "not in a Slurm job"),
    ({"without": "SLURM_JOB_NUM_NODES"}, "not in a Slurm job"),
    ({"without": "SLURM_CPUS_PER_TASK"}, "SLURM_CPUS_PER_TASK is not set"),
    ({"without": "VENV"}, "/home/tangentscope/venv: no virtual environment"),
    ({"VENV": "/nowhere"}, "VENV=/nowhere: no virtual environment"),
    ({"PATH": "/usr/bin:/bin"}, "srun: not on PATH"),
    ({"STUDY": "my.yaml"}, "STUDY=my.yaml: no such file"),
    ({"PROBE_NODES": "2"}, "PROBE_NODES=2: expected less than the job's 2 nodes"),
    ({"PROBE_NODES": "one"}, "PROBE_NODES=one: expected less than the job's 2 nodes"),
    ({"RESULTS": "/proc/results"}, "RESULTS=/proc/results cannot be written"),
]


@pytest.mark.parametrize(("changes", "line"), FAILURES)
def test_what_is_missing_is_told_in_one_line_before_anything_starts(start: Start, changes: dict[str, str], line: str):
    job = start(**changes)
    code, printed = job.end()
    assert code == 2
    assert line in printed
    assert printed.startswith("study.sbatch: ")
    assert printed.count("\n") == 1
    assert not job.said("ray")


def test_results_that_other_nodes_do_not_see_are_told(start: Start, tmp_path: Path):
    srun = tmp_path / "bin/srun"
    srun.write_text(srun.read_text().replace('exec "$@"', '[[ $1 != test ]] || exit 1; exec "$@"'))
    job = start(RESULTS=str(tmp_path / "local"))
    code, printed = job.end()
    assert (code, printed.count("\n")) == (2, 1)
    assert "local is not seen by every node" in printed
    assert not job.said("ray")
