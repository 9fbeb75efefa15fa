"""A run of a game in this process: RLlib plays and learns, and what it learned is on storage as of any other run."""

import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray
import torch
from training_cases import RUN

from tangentscope.pipeline.cluster import games
from tangentscope.pipeline.cluster.games import train_by_playing
from tangentscope.pipeline.cluster.rllib import Iteration, player
from tangentscope.pipeline.config.resources import TrainPool
from tangentscope.pipeline.store import run_files, tables
from tangentscope.pipeline.store.checkpoints import state_in
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.snapshots import read_snapshot
from tangentscope.pipeline.study.runs import Run, make_runs
from tangentscope.pipeline.study.spec import Study
from tangentscope.pipeline.system.errors import Stopped
from tangentscope.pipeline.training.groups import pack
from tangentscope.pipeline.training.learner import Training, initialise, training_of
from tangentscope.pipeline.training.recorder import Recorder

CPU = torch.device("cpu")
STUDY = {
    "name": "poles",
    "task": {"name": "cartpole", "states": 40, "games": 5},
    "model": {"name": "actor_critic", "convolutions": [], "hidden": [8]},
    "optimiser": {"name": "adam", "lr": 0.01, "schedule": {"name": "steps", "every": 1, "factor": 0.5}},
    "train": {
        **{"algorithm": "ppo", "iterations": 4, "environments": 2, "batch_size": 64, "minibatch_size": 32},
        **{"passes": 1, "evaluate_every": 3, "evaluate_games": 2},
    },
    "probes": {
        **{"schedule": {"at": [2]}, "snapshots": {"every": {"steps": 1}}},
        **{"kernel": {"draws": 2, "size": 10}, "parts": ["actor", "critic"]},
    },
}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def a_run(**fields: Any) -> Run:
    return make_runs(Study.model_validate(STUDY | fields), None)[0]


def rows(storage: Storage) -> dict[tuple[str, str], dict[int, float]]:
    """Values of the history by split and variable, then by step."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    for row in tables.read_parts(storage, "history").frame.sort_values("step").to_dict("records"):
        found.setdefault((row["split"], row["variable"]), {})[row["step"]] = row["value"]
    return found


def states(storage: Storage) -> dict[int, dict[str, torch.Tensor]]:
    return {n.step: read_snapshot(storage, RUN, n)[0] for n in run_files.current_snapshots(storage, RUN)}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_game_is_played_and_every_iteration_is_on_storage(storage: Storage, recorder_of: Callable[..., Recorder]):
    run = a_run()
    what = training_of(run.planned())
    with recorder_of(what, run.data) as recorder:
        network, costs = train_by_playing(what, run.data, recorder, CPU)
    assert (run.schedule, run.snapshots, run.evaluations) == ([0, 2, 4], [0, 1, 2, 3, 4], [0, 3, 4])
    taken = states(storage)
    assert [*taken] == run.snapshots
    assert equal(taken[0], initialise(what, run.data, CPU).state_dict())
    assert equal(taken[4], network.state_dict())
    assert not any(equal(taken[step], taken[step + 1]) for step in range(4))
    found = rows(storage)
    assert [*found["test", "return"]] == [0, 3, 4]
    assert all(value >= 1 for value in found["test", "return"].values())
    steps, episodes = found["train", "agent_steps"], found["train", "episodes"]
    assert [*steps] == [*episodes] == [0, 1, 2, 3, 4]
    assert (steps[0], episodes[0]) == (0, 0)
    assert all(64 <= steps[k + 1] - steps[k] < 64 + 2 for k in range(4))
    # Of every action that was taken one point was won, and games that have ended have no more than all of them.
    won = sum(found["train", "return"][k] * (episodes[k] - episodes[k - 1]) for k in found["train", "return"])
    assert 0 < won <= steps[4]
    assert 0 < found["train", "policy_entropy"][1] <= 0.6932  # ln 2: of two actions
    assert (costs.steps, costs.snapshots, costs.agent_steps) == (4, 5, steps[4])


def test_a_game_in_pixels_is_learned(storage: Storage, recorder_of: Callable[..., Recorder]):
    # By chance −3 of 5; who does not see where the paddle is stays below 2.
    course = STUDY["train"] | {"iterations": 10, "environments": 8, "batch_size": 1024, "minibatch_size": 128}
    run = a_run(
        task={"name": "catch", "states": 40},
        model={"name": "actor_critic", "hidden": [128]},
        optimiser={"name": "adam", "lr": 0.002},
        train=course | {"passes": 4, "evaluate_every": 10, "evaluate_games": 20},
    )
    what = training_of(run.planned())
    with recorder_of(what, run.data) as recorder:
        train_by_playing(what, run.data, recorder, CPU)
    found = rows(storage)["test", "return"]
    assert found[0] < 0
    assert found[10] > 3


def test_a_return_is_that_of_a_whole_game_also_over_many_iterations():
    run = a_run(train=STUDY["train"] | {"batch_size": 8, "minibatch_size": 8})
    what = training_of(run.planned())
    with player(what, run.data, CPU, TrainPool(), 0) as playing_one:
        iterations = [playing_one.iterate(0) for _ in range(30)]
    returns = [value for iteration in iterations for value in iteration.returns]
    taken = sum(iteration.actions for iteration in iterations)
    # Two games at a time, four actions of each in an iteration; no pole falls in fewer than eight.
    assert len(returns) >= 4
    assert min(returns) >= 8
    assert taken - 2 * max(returns) - 20 <= sum(returns) <= taken


def test_an_iteration_in_which_no_game_ended_has_no_return(storage: Storage, recorder_of: Callable[..., Recorder]):
    run = a_run()
    with recorder_of(initialise(training_of(run.planned()), run.data, CPU)) as recorder:
        nothing = Iteration({"env_runners": {"num_env_steps_sampled": 64, "episode_return_mean": float("nan")}})
        games._record(recorder, games._Count(1, 0, 64), nothing)
    assert rows(storage) == {("train", "episodes"): {1: 0.0}, ("train", "agent_steps"): {1: 64.0}}


class Stopping(Recorder):
    """Is asked to stop after the second iteration."""

    def snapshot(self, step: int, module: torch.nn.Module, overlap: bool = False) -> None:
        super().snapshot(step, module, overlap)
        self.stopping = step == 2


def test_a_run_that_is_stopped_goes_on_from_its_checkpoint(storage: Storage, recorder_of: Callable[..., Recorder]):
    run = a_run()
    what = training_of(run.planned())
    with recorder_of(what, run.data, cls=Stopping) as recorder, pytest.raises(Stopped, match="after 2 of 4 iterations"):
        train_by_playing(what, run.data, recorder, CPU)
    before, counted = states(storage), rows(storage)
    assert [*before] == [0, 1, 2]
    point = run_files.newest_checkpoint(storage, RUN)
    assert point is not None
    assert point[0] == 2
    checkpoint = state_in(storage.read(point[1]))
    assert checkpoint is not None
    kept = torch.load(io.BytesIO(checkpoint), weights_only=True)  # nothing of RLlib's own, and nothing pickled
    assert equal(kept["module"], before[2])
    assert kept["optimiser"]["state"][0]["step"] > 0

    with recorder_of(what, run.data, attempt=2, resumed_at=2) as recorder:
        _, costs = train_by_playing(what, run.data, recorder, CPU, checkpoint)
    assert costs.steps == 2
    after, found = states(storage), rows(storage)
    assert [*after] == [0, 1, 2, 3, 4]
    assert all(equal(after[step], before[step]) for step in before)
    assert found["train", "agent_steps"][3] - counted["train", "agent_steps"][2] >= 64
    assert found["train", "episodes"][3] >= counted["train", "episodes"][2]


@pytest.mark.parametrize("pool", [TrainPool(), pytest.param(TrainPool(learners=2), marks=pytest.mark.slow)])
def test_a_player_takes_up_parameters_optimiser_and_rate(pool: TrainPool):
    run = a_run()
    what = training_of(run.planned())
    untrained = dict(initialise(what, run.data, CPU).state_dict())
    with player(what, run.data, CPU, pool, 0) as first:
        assert equal(dict(first.network.state_dict()), untrained)
        first.iterate(0)
        assert not equal(dict(first.network.state_dict()), untrained)
        assert first.optimiser_state()["param_groups"][0]["lr"] == 0.01
        first.iterate(1)
        assert first.optimiser_state()["param_groups"][0]["lr"] == 0.005  # the schedule's, of the run's own optimiser
        state = games._Learner(first, None, games._Count(2, 5, 128)).state(0)
    with player(what, run.data, CPU, pool, 2) as second:
        second.resume(state)
        assert equal(dict(second.network.state_dict()), state["module"])
        assert second.optimiser_state()["state"][0]["step"] == state["optimiser"]["state"][0]["step"]
        # Who plays has the parameters, too.
        (playing_one,) = second._algorithm.env_runner_group.foreach_env_runner(lambda runner: runner.module)
        assert equal(dict(playing_one.network.state_dict()), state["module"])


class Replaced:
    """Those that play are dead for some iterations, of which RLlib has no numbers."""

    def __init__(self, dead: int) -> None:
        self.dead = dead

    def iterate(self, step: int) -> Iteration:
        self.dead -= 1
        return Iteration({"env_runners": {"num_env_steps_sampled": float("nan") if self.dead >= 0 else 8.0}})


def test_those_that_play_are_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(games.time, "sleep", lambda seconds: None)
    assert games._iterated(Replaced(3), 0).actions == 8  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr(games, "_PATIENCE_SECONDS", 0.0)
    with pytest.raises(RuntimeError, match="nothing was played in 0 seconds: all env runners have died"):
        games._iterated(Replaced(10**6), 0)  # pyright: ignore[reportArgumentType]


def test_games_are_packed_one_by_one():
    records = [run.planned() for run in make_runs(Study.model_validate(STUDY | {"seeds": 3}), None)]
    assert [len(unit) for unit in pack(records, 1, together=True)] == [1, 1, 1]


def test_what_a_run_is_trained_by_comes_back_from_its_record():
    run = a_run()
    what: Training = training_of(run.planned())
    assert (what.course, what.steps, what.schedule) == (run.train, 4, frozenset(range(5)))
