"""What Ray's deaths are taken for; without Ray's processes, see tests/ray/test_chaos_of_ray.py for them."""

import os
import subprocess
import sys

import psutil
import pytest
import ray.exceptions
from ray.train import ControllerError, WorkerGroupError

from tangentscope.pipeline.cluster.losses import Carriers, lost_with_ray, starts_again
from tangentscope.pipeline.system.errors import Lost


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (ray.exceptions.ActorDiedError(), True),
        (ray.exceptions.ActorUnavailableError("no answer", None), True),
        (ControllerError(RuntimeError("no placement group")), True),
        (WorkerGroupError("workers died too often", {0: RuntimeError()}), False),
        (ValueError("a mistake of the code"), False),
    ],
)
def test_a_group_starts_again_after_a_death_beside_its_workers(error: Exception, again: bool):
    assert starts_again(error) == again


@pytest.mark.parametrize(
    "error", [ray.exceptions.ActorDiedError(), ray.exceptions.RaySystemError("connection lost"), TimeoutError()]
)
def test_what_a_call_says_when_ray_has_died(error: Exception):
    kind = Lost if isinstance(error, ray.exceptions.RayError) else type(error)
    with pytest.raises(kind), lost_with_ray():
        raise error


def test_an_error_of_what_was_called_is_not_rays():
    error = ray.exceptions.RayTaskError("f", "traceback", ValueError("mine"))
    with pytest.raises(ray.exceptions.RayTaskError), lost_with_ray():
        raise error


def test_a_ray_that_has_lost_one_of_its_processes_is_ended():
    names = ("gcs_server", "raylet")
    waits = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    started = {name: subprocess.Popen(waits, stdin=subprocess.PIPE) for name in names}
    carriers = Carriers({name: psutil.Process(process.pid) for name, process in started.items()})
    carriers.check()
    assert not carriers.end_if_lost()
    assert all(process.poll() is None for process in started.values())
    started["raylet"].kill()
    os.waitid(os.P_PID, started["raylet"].pid, os.WEXITED | os.WNOWAIT)  # a zombie, as its parent takes no notice
    with pytest.raises(Lost, match=r"Ray has died: its raylet has ended; .* run the same command again"):
        carriers.check()
    assert carriers.end_if_lost()
    assert started["gcs_server"].wait(30) == -9
    started["raylet"].wait(30)
