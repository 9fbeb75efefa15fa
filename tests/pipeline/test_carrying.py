"""A launch in a process of its own: real processes, with what a launch does left out."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tangentscope.pipeline.driver import supervisor
from tangentscope.pipeline.driver.supervisor import _End, _read

CARRIED = """
import os, signal, sys, threading, time
from pathlib import Path
from tangentscope.pipeline.driver import supervisor
from tangentscope.pipeline.system.errors import Lost
from tangentscope.pipeline.system.signals import interruptible

def log(what):
    with open(sys.argv[1], "a") as file:
        print(what, file=file)

def launch():
    log(f"launch {os.getpid()} after {supervisor.restarts}")
    LAUNCH
    sys.exit(code)

sys.exit(supervisor.carry(launch, again=AGAIN))
"""
WAITING = """
    with interruptible() as interrupt:
        log("ready")
        while interrupt.number is None and not Path(sys.argv[1] + ".end").exists():
            time.sleep(0.01)
    code = 130 if interrupt.number else 0"""


def carried(launch: str, log: Path, again: bool = True, **how) -> subprocess.Popen[str]:
    code = CARRIED.replace("LAUNCH", launch.strip()).replace("AGAIN", str(again))
    command = [sys.executable, "-c", code, str(log)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, **how)


def until(condition) -> None:
    while not condition():
        time.sleep(0.01)


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


@pytest.mark.parametrize("code", [0, 2])
def test_a_launch_that_ends_in_order_is_not_started_again(code: int, tmp_path: Path):
    one = carried(f"code = {code}", tmp_path / "log")
    assert (one.communicate()[1], one.returncode) == ("", code)
    assert len(lines(tmp_path / "log")) == 1


def test_a_mistake_of_the_code_is_not_started_again(tmp_path: Path):
    one = carried("code = 1 / 0", tmp_path / "log")
    assert "ZeroDivisionError" in one.communicate()[1]
    assert one.returncode == 1
    assert len(lines(tmp_path / "log")) == 1


RAY_DIES = {
    "and is seen": ('raise SystemExit(Lost("its raylet has ended"))', "its raylet has ended"),
    "and ends the launch": ("os._exit(1)", "it took the launch's process along"),
    "and aborts the launch": ("os.abort()", "it took the launch's process along"),
}


@pytest.mark.parametrize("how", RAY_DIES)
def test_a_launch_is_started_again_where_ray_dies(how: str, tmp_path: Path):
    ray_dies, cause = RAY_DIES[how]
    one = carried(f"code = 7\n    if supervisor.restarts < 2: {ray_dies}", tmp_path / "log")
    said = [f"Ray has died: {cause}; going on with a new one ({number} of 3)" for number in (1, 2)]
    assert (one.communicate()[1].splitlines(), one.returncode) == (said, 7)
    assert [line.rpartition(" ")[2] for line in lines(tmp_path / "log")] == ["0", "1", "2"]


@pytest.mark.parametrize("again", [True, False])
def test_in_the_end_the_same_command_goes_on(again: bool, tmp_path: Path):
    """After three times, or at once where another has started that Ray."""
    one = carried("code = os._exit(1)", tmp_path / "log", again)
    printed = one.communicate()[1].splitlines()
    assert one.returncode == 1
    assert printed[-1].endswith("; what was done is kept: run the same command again to go on")
    assert len(printed) == len(lines(tmp_path / "log")) == (4 if again else 1)


def test_a_launch_that_somebody_kills_is_not_started_again(tmp_path: Path):
    one = carried("os.kill(os.getpid(), signal.SIGKILL)", tmp_path / "log")
    assert "error: the launch was killed; what was done is kept: run the same" in one.communicate()[1]
    assert one.returncode == 137
    assert len(lines(tmp_path / "log")) == 1


@pytest.mark.parametrize(
    ("whom", "number"), [(os.killpg, signal.SIGINT), (os.kill, signal.SIGTERM), (os.kill, signal.SIGHUP)]
)
def test_a_signal_is_passed_on_once(whom, number: int, tmp_path: Path):
    """Twice would end the launch at once."""
    one = carried(WAITING, tmp_path / "log")
    until(lambda: "ready" in lines(tmp_path / "log"))
    whom(one.pid, number)
    assert (one.communicate()[1], one.returncode) == ("", 130)


def test_below_nohup_a_launch_outlives_its_terminal(tmp_path: Path):
    one = carried(WAITING, tmp_path / "log", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    until(lambda: "ready" in lines(tmp_path / "log"))
    launch = int(lines(tmp_path / "log")[0].split()[1])
    for pid in (one.pid, launch):
        os.kill(pid, signal.SIGHUP)
    (tmp_path / "log.end").touch()
    assert (one.communicate()[1], one.returncode) == ("", 0)


def test_a_launch_ends_with_what_waits_for_it(tmp_path: Path):
    one = carried(WAITING, tmp_path / "log")
    until(lambda: "ready" in lines(tmp_path / "log"))
    launch = psutil.Process(int(lines(tmp_path / "log")[0].split()[1]))
    one.kill()
    one.communicate()
    psutil.wait_procs([launch], timeout=30)
    assert not launch.is_running() or launch.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("said", "code", "end"),
    [
        ("0", -11, _End(0)),  # it had ended in order, whatever went wrong with leaving
        ("2", 2, _End(2)),
        ("lost its raylet has ended", 1, _End(1, "its raylet has ended")),
        ("", 1, _End(1, "it took the launch's process along")),
        ("", -6, _End(1, "it took the launch's process along")),
        ("", -9, _End(137)),
    ],
)
def test_how_a_launch_ended(said: str, code: int, end: supervisor._End):
    assert _read(said, code) == end
