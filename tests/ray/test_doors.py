"""Nothing that a launch starts on this machine can be reached from another one."""

import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from listening import Family, Socket

pytestmark = [pytest.mark.ray, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

PARTS = (
    "-m tangentscope run",
    "gcs_server",
    "raylet",
    "DashboardAgent",
    "RuntimeEnvAgent",
    "Hub",
    "Prober",
    "TrackerActor",
)


def all_that_listened(launched: Any) -> set[Socket]:
    """Every socket that was seen to listen, from a launch's start to its end."""
    family, seen = Family(launched.process.pid), set()
    while launched.process.poll() is None:
        seen |= family.look()
        time.sleep(0.05)
    launched.finish()
    return seen


def test_a_launch_listens_on_loopback_alone(launch: Callable[..., Any], tmp_path: Path):
    """Ray's processes, the actors, MLflow's projection, and two workers with gloo between them."""
    seen = all_that_listened(launch(tmp_path / "results" / "small", resources={"train": {"workers": 2}}))
    titles = {each.process for each in seen}
    assert [part for part in PARTS if not any(part in title for title in titles)] == []
    workers = [each for each in seen if "RayTrainWorker" in each.process]
    assert len(workers) > 2, "the rendezvous and gloo listen beside Ray's own"
    assert {each for each in seen if not each.on_loopback} == set()


@pytest.mark.slow
def test_so_does_one_whose_game_is_learned_by_two_processes(launch: Callable[..., Any], tmp_path: Path):
    game: dict[str, Any] = {
        "name": "catch",
        "task": {"name": "catch"},
        "model": {"name": "actor_critic"},
        "grid": {},
        "train": {"algorithm": "ppo", "iterations": 2, "batch_size": 256, "minibatch_size": 128},
        "resources": {"train": {"learners": 2, "env_runners": 1}},
    }
    seen = all_that_listened(launch(tmp_path / "results" / "catch", "--offline", **game))
    # What RLlib's learners are to Ray; a port each, and what gloo between them listens on.
    learners = {each.port for each in seen if "_WrappedExecutable" in each.process}
    assert len(learners) > 2, " ".join(sorted({each.process for each in seen}))
    assert {each for each in seen if not each.on_loopback} == set()


def test_an_open_door_is_seen():
    with socket.create_server(("0.0.0.0", 0)) as everywhere, socket.create_server(("127.0.0.1", 0)) as here:
        ports = [each.getsockname()[1] for each in (everywhere, here)]
        seen = {each.port: each.on_loopback for each in Family(os.getpid()).look()}
    assert [seen[port] for port in ports] == [False, True]
