"""Kill -9 at random moments, whoever it hits: afterwards every planned value is there, once, and what it had to be.

Five rounds for each victim. A moment is a number of snapshots on storage, drawn from the round's number, so that a
round that fails can be had again. Run with ``pytest -m chaos``.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from chaos import ROUNDS, check_mlflow, strike
from long_study import LONG, same_numbers
from processes import cluster, end, free_port, mlflow_server

pytestmark = [pytest.mark.ray, pytest.mark.chaos]


def titled(title: str) -> Callable:
    def kill(one) -> None:
        found = one.descendants(title)
        assert found, f"no process called {title}"
        for process in found:
            process.kill()

    return kill


def everything(one) -> None:
    family = [psutil.Process(one.process.pid), *psutil.Process(one.process.pid).children(recursive=True)]
    for process in family:
        process.kill()


VICTIMS: dict[str, Callable] = {
    "training worker": titled("ray::RayTrainWorker"),
    "probe": titled("ray::Prober"),
    "hub": titled("ray::Hub"),
    "tracker": titled("ray::TrackerActor"),
    "driver": lambda one: one.process.kill(),
    "everything": everything,
}


@pytest.mark.parametrize("number", ROUNDS)
@pytest.mark.parametrize("victim", VICTIMS)
def test_whoever_dies_nothing_is_lost_and_nothing_is_done_twice(launch, straight, tmp_path, victim: str, number: int):
    hit = launch(tmp_path / "small", **LONG)
    strike(hit, number, victim)
    VICTIMS[victim](hit)
    hit.process.communicate(timeout=240)
    again = launch(tmp_path / "small", **LONG)
    again.finish()
    same_numbers(again, straight)
    check_mlflow(f"sqlite:///{tmp_path / 'mlflow.db'}", again)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable]:
    """Start MLflow's server below the test's folder, as often as asked; its environment for a launch."""
    port = free_port()
    with ExitStack() as stack:
        yield lambda: (
            stack.enter_context(mlflow_server(tmp_path, port)),
            {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"},
        )


@pytest.mark.parametrize("number", ROUNDS)
def test_mlflows_server_dies_and_comes_back(launch, straight, server, tmp_path, number: int):
    process, env = server()
    hit = launch(tmp_path / "small", env=env, **LONG)
    strike(hit, number, "server")
    end(process)
    assert "MLflow is behind" in hit.finish()
    server()
    again = launch(tmp_path / "small", env=env, **LONG)
    again.finish()
    same_numbers(again, straight)
    check_mlflow(env["MLFLOW_TRACKING_URI"], again)


@pytest.mark.parametrize("number", ROUNDS)
def test_a_node_dies(launch, straight, tmp_path, number: int):
    with cluster(nodes=2) as nodes:
        hit = launch(tmp_path / "small", "--address", nodes.address, env=nodes.env, **LONG)
        strike(hit, number, "node")
        end(nodes.nodes[1])
        hit.process.communicate(timeout=240)
        again = launch(tmp_path / "small", "--address", nodes.address, env=nodes.env, **LONG)
        again.finish()
    same_numbers(again, straight)
    check_mlflow(f"sqlite:///{tmp_path / 'mlflow.db'}", again)
