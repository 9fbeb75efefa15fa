"""Runs of games on a real Ray: learned, probed, killed and resumed, and probed again where snapshots were kept."""

import signal
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from long_study import half_trained, the_run
from small_study import keys, planned_keys

from tangentscope import pipeline
from tangentscope.pipeline.store import run_files
from tangentscope.studies import shipped

pytestmark = pytest.mark.ray

POLES: dict[str, Any] = {
    "task": {"name": "cartpole", "states": 60, "games": 10},
    "model": {"name": "actor_critic", "convolutions": [], "hidden": [32], "activation": "tanh"},
    "optimiser": {"name": "adam", "lr": 0.003},
    "train": {
        **{"algorithm": "ppo", "iterations": 60, "environments": 4, "batch_size": 512, "minibatch_size": 64},
        **{"evaluate_every": 20, "evaluate_games": 3},
    },
    "grid": {},
    "probes": {
        **{"schedule": {"kind": "log", "points": 8}, "snapshots": {"every": {"steps": 1}}, "splits": ["train"]},
        **{"parts": ["actor", "critic"], "kernel": {"draws": 3, "size": 20}},
    },
    "report": {"figures": ["reward"], "x": "episode", "log_x": True},
    "resources": {"train": {"checkpoint_seconds": 0.5}},
}


@pytest.fixture(scope="module")
def hit(launch: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run whose worker was killed in the middle, to its end."""
    one = launch(tmp_path_factory.mktemp("games") / "small", **POLES)
    one.until(lambda: half_trained(one))
    assert not one.storage.exists(run_files.outcome(the_run(one)))
    psutil.Process(one.storage.read_json(f"runs/{the_run(one)}/attempts/0001.json")["pid"]).send_signal(signal.SIGKILL)
    one.finish()
    return one


@pytest.mark.slow
def test_a_killed_run_goes_on_as_another_trajectory_and_nothing_is_spliced(hit: Any):
    run = the_run(hit)
    assert hit.store.outcomes()[run].state == "finished"
    resumed = hit.storage.read_json(f"runs/{run}/attempts/0002.json")["resumed_at"]
    assert resumed > 0
    # Games that had begun are gone: what follows differs, and takes the place of what was there.
    there = run_files.current_snapshots(hit.storage, run)
    assert [name.step for name in there] == [*range(61)]
    assert {name.attempt for name in there if name.step > resumed} == {2}
    measured = pipeline.load(hit.out)
    assert sorted(keys(measured)) == sorted(planned_keys(hit.store))
    checksums = {name.step: name.checksum for name in there}
    assert [checksums[step] for step in measured["step"]] == measured["checksum"].tolist()
    history = pipeline.load(hit.out, "history").set_index(["split", "variable", "step"])["value"]
    assert history["train", "agent_steps"].index.tolist() == [*range(61)]
    assert (np.diff(history["train", "agent_steps"]) >= 512).all()
    assert (np.diff(history["train", "episodes"]) >= 0).all()
    assert history["test", "return"].index.tolist() == [0, 20, 40, 60]
    assert np.isfinite(history).all()


@pytest.mark.slow
def test_actor_and_critic_are_told_apart_wherever_results_are_shown(hit: Any):
    measured = pipeline.load(hit.out)
    assert set(measured["part"]) == {"actor", "critic"}
    first = measured[measured["step"] == 0].set_index(["part", "variable"])["value"]
    assert first["actor", "entropy"] > first["critic", "entropy"]
    page = (hit.out / "report.html").read_text()
    assert (hit.out / "figures/reward.png").exists()
    assert "logits and value" in page
    import mlflow

    from tangentscope.pipeline.tracking.study_report import TRAININGS

    client = mlflow.MlflowClient(f"sqlite:///{hit.out.parent / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("small").experiment_id], TRAININGS)
    assert run.info.status == "FINISHED"
    assert {"train/entropy_actor", "train/trace_critic", "test/return", "train/episodes"} <= set(run.data.metrics)


@pytest.mark.slow
def test_a_denser_schedule_probes_what_was_kept_and_trains_nothing(hit: Any, launch: Any):
    before = hit.store.outcomes()
    dense = {**POLES["probes"], "schedule": {"at": [0, *range(20, 40)]}, "variables": ["trace"]}
    again = launch(hit.out, **{**POLES, "probes": dense})
    assert "retrain" not in again.finish()
    assert again.store.outcomes() == before
    measured = pipeline.load(hit.out)
    assert {20, 25, 39} <= set(measured[measured["variable"] == "trace"]["step"])


@pytest.mark.slow
def test_a_dead_env_runner_is_replaced(launch: Any, tmp_path: Any):
    beside = {"train": {"env_runners": 1, "checkpoint_seconds": 0.5}}
    one = launch(tmp_path / "small", "--offline", **{**POLES, "resources": beside})
    one.until(lambda: half_trained(one))
    (runner, *_) = one.descendants("ray::SingleAgentEnvRunner")
    runner.send_signal(signal.SIGKILL)
    one.finish()
    outcome = one.store.outcomes()[the_run(one)]
    assert (outcome.state, outcome.attempt, outcome.steps) == ("finished", 1, 60)
    history = pipeline.load(one.out, "history").set_index(["split", "variable", "step"])["value"]
    assert (np.diff(history["train", "agent_steps"]) > 0).all()


@pytest.mark.slow
def test_what_is_learned_beside_the_worker_goes_on_after_a_death(launch: Any, tmp_path: Any):
    beside = {"train": {"learners": 2, "env_runners": 1, "checkpoint_seconds": 0.5}}
    one = launch(tmp_path / "small", "--offline", **{**POLES, "resources": beside})
    one.until(lambda: half_trained(one))
    (learner, _) = one.descendants("ray::_WrappedExecutable")  # as RLlib's learners are called
    learner.send_signal(signal.SIGKILL)
    one.finish()
    outcome = one.store.outcomes()[the_run(one)]
    resumed = one.storage.read_json(f"runs/{the_run(one)}/attempts/0002.json")["resumed_at"]
    assert resumed > 0
    assert (outcome.state, outcome.attempt, resumed + outcome.steps) == ("finished", 2, 60)
    snapshots = run_files.current_snapshots(one.storage, the_run(one))
    assert len({name.checksum for name in snapshots}) == len(snapshots) == 61  # it learns all the time
    assert sorted(keys(pipeline.load(one.out))) == sorted(planned_keys(one.store))


@pytest.mark.slow
def test_the_shipped_game_is_learned_with_every_seed_and_its_claims_are_decided(launch: Any, tmp_path: Any):
    study = yaml.safe_load(shipped()["rl-catch"].read_text())
    course = {**study["train"], "iterations": 40}
    one = launch(tmp_path / "catch", "--offline", **{**study, "grid": {}, "train": course, "seeds": 5})
    one.finish()
    report = " ".join((one.out / "report.html").read_text().replace("&#39;", "'").split())
    assert "The actor's trace jumps by more than the critic's where the return begins to rise: held<" in report
    assert "begins to rise before the return, by one iteration at most: " in report
    assert "no onset" not in report
    history = pipeline.load(one.out, "history").set_index(["split", "variable", "step"])["value"].sort_index()
    returns = history["test", "return"]
    # Of 5; by chance −3.
    assert returns[0].max() < 0
    assert len(returns[40]) == 5
    assert returns[40].min() >= 4
    assert history["train", "return"][40].min() >= 3  # with actions that are drawn
