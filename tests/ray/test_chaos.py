"""Kill -9 at random moments, whoever it hits: afterwards every planned value is there, once, and what it had to be.

Five rounds for each victim, or ``CHAOS_ROUNDS``; three with two victims at once, or ``CHAOS_PAIR_ROUNDS``. A moment is
a number of snapshots on storage, drawn from the round's number, so that a round that fails can be had again. Run with
``pytest -m chaos``.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from chaos import OF_OURS, OF_RAY, OF_THE_LAUNCH, PAIR_ROUNDS, ROUNDS, check_mlflow, strike
from long_study import LONG, same_numbers
from processes import cluster, end, free_port, mlflow_server

pytestmark = [pytest.mark.ray, pytest.mark.chaos]


@pytest.mark.parametrize("number", ROUNDS)
@pytest.mark.parametrize("victim", OF_OURS | OF_RAY)
def test_a_launch_outlives_whoever_dies_below_it(launch, straight, tmp_path, victim: str, number: int):
    hit = launch(tmp_path / "small", **LONG)
    strike(hit, number, victim)
    (OF_OURS | OF_RAY)[victim](hit, number)
    hit.finish()
    same_numbers(hit, straight)
    check_mlflow(f"sqlite:///{tmp_path / 'mlflow.db'}", hit)


@pytest.mark.parametrize("number", ROUNDS)
@pytest.mark.parametrize("victim", OF_THE_LAUNCH)
def test_whoever_dies_nothing_is_lost_and_nothing_is_done_twice(launch, straight, tmp_path, victim: str, number: int):
    hit = launch(tmp_path / "small", **LONG)
    strike(hit, number, victim)
    OF_THE_LAUNCH[victim](hit, number)
    goes_on(launch, hit, straight)


@pytest.mark.parametrize("number", PAIR_ROUNDS)
@pytest.mark.parametrize("victim", OF_OURS | OF_RAY)
def test_two_die_at_once(launch, straight, tmp_path, victim: str, number: int):
    """The second one is drawn from the round's number."""
    hit = launch(tmp_path / "small", **LONG)
    strike(hit, number, f"{victim} and another")
    other = random.Random(f"{victim} {number}").choice([each for each in OF_OURS | OF_RAY if each != victim])
    for each in (victim, other):
        (OF_OURS | OF_RAY)[each](hit, number)
    goes_on(launch, hit, straight)


def goes_on(launch, hit, straight) -> None:
    """The same command does, as often as it is given, and ends with what an undisturbed study has."""
    hit.process.communicate(timeout=600)
    again = launch(hit.out, **LONG)
    again.finish()
    same_numbers(again, straight)
    check_mlflow(f"sqlite:///{hit.out.parent / 'mlflow.db'}", again)


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
