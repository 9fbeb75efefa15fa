"""What a study of a game plans, and what it refuses in one line."""

from typing import Any

import pytest
from study_on_disk import small_study

from tangentscope.pipeline.config.components import restore
from tangentscope.pipeline.config.resources import TrainPool
from tangentscope.pipeline.driver.costs import estimate, side
from tangentscope.pipeline.study.plan import study_plan
from tangentscope.pipeline.study.runs import Run, identity, make_runs
from tangentscope.pipeline.study.spec import Study
from tangentscope.pipeline.system.errors import UserError

CATCH: dict[str, Any] = {
    "name": "balls",
    "task": {"name": "catch", "states": 40, "games": 5},
    "model": {"name": "actor_critic", "hidden": [8]},
    "optimiser": {"name": "adam", "lr": 0.001},
    "train": {"algorithm": "ppo", "iterations": 20, "batch_size": 64, "minibatch_size": 32, "evaluate_every": 8},
    "probes": {
        **{"schedule": {"at": [4]}, "snapshots": {"every": {"steps": 5}}, "splits": ["train"]},
        **{"parts": ["actor", "critic"], "kernel": {"draws": 2, "size": 10}},
    },
}


def changed(**parts: Any) -> Study:
    merged = {
        key: {**CATCH.get(key, {}), **value} if isinstance(value, dict) else value for key, value in parts.items()
    }
    return Study.model_validate(CATCH | merged)


def the_run(**parts: Any) -> Run:
    return make_runs(changed(**parts), None)[0]


def test_steps_are_iterations_and_more_snapshots_are_taken_than_probed():
    run = the_run()
    assert (run.steps, run.epoch_steps, run.batch_size) == (20, 1, 64)
    assert (run.schedule, run.snapshots, run.evaluations) == ([0, 4, 20], [0, 4, 5, 10, 15, 20], [0, 8, 16, 20])
    assert list(run.planned().snapshots) == run.snapshots
    assert restore(run.config()) == (run.task, run.model, run.optimiser, run.train)


def test_each_part_has_probes_of_its_own_and_all_outputs_keep_theirs():
    run, whole = the_run(), the_run(probes={"parts": []})
    ids = {(probe.split, probe.part): probe.id for probe in (*run.probes, *whole.probes)}
    assert [*ids] == [("train", "actor"), ("train", "critic"), ("train", None)]
    assert len(set(ids.values())) == 3
    assert [side(run, probe) for probe in (*run.probes, *whole.probes)] == [30, 10, 40]
    probes = study_plan(run.study, [run], 1).probes
    assert [probe.part for probe in probes] == ["actor", "critic"]
    assert run.id == whole.id, "what is probed is no part of a run"


# As in test_identity: never to be changed, or results on disk are orphaned.
def test_the_identity_of_a_run_that_plays_stays():
    config = {
        "task": {"name": "catch"},
        "model": {"name": "actor_critic"},
        "optimiser": {"name": "adam", "lr": 0.001},
        "train": {"algorithm": "ppo", "iterations": 20},
        "seed": 0,
    }
    assert identity(config, "0123456789abcdef") == "c07cd035bf92"
    assert identity({**config, "train": {**config["train"], "clip": 0.1}}, "0123456789abcdef") != "c07cd035bf92"


def test_the_cost_of_playing_is_estimated():
    study = changed()
    found = estimate(study, make_runs(study, None), start=1.0)
    assert found.training > 0
    snapshot = the_run().snapshot_bytes
    assert found.snapshot_bytes == 6 * snapshot


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"train": {"epochs": 3}}, "train.epochs: unknown key"),
        ({"train": {"algorithm": "pppo"}}, "train.algorithm: got 'pppo'; input should be 'ppo'"),
        ({"train": {"minibatch_size": 65}}, "minibatch_size 65 is above batch_size 64; lower it"),
        (
            {"task": {"name": "atari", "game": "pogn"}},
            "task.game: got 'pogn'; unknown game; the nearest of 108 are pong",
        ),
        ({"task": {"states": 5000}}, "different states in 5 games, expected 5000: raise task.games"),
        ({"probes": {"kernel": {"draws": 5, "size": 10}}}, "got 5 draws of 10 states, but 40 are stored for train"),
        ({"probes": {"kernel": {"size": 41}}}, "got 41 points in a draw, but the train split of catch has 40; lower"),
        ({"probes": {"parts": ["actr"]}}, 'probes.parts: "actr" unknown; allowed: actor, both, critic; did you'),
        ({"probes": {"variables": ["kinetic_energy"]}}, "kinetic_energy needs a target for each point, which parts of"),
        (
            {"probes": {"variables": ["kinetic_energy"], "parts": []}},
            "kinetic_energy needs a target for each point, which catch's kernels have none of; leave it out",
        ),
        (
            {"probes": {"variables": ["class_within"], "kernel": {"outputs": "traced", "size": 5}}},
            "class_within needs a class for each point, which catch does not have",
        ),
        ({"resources": {"train": {"workers": 2}}}, "got 2, but one worker learns to play catch; leave it at 1"),
        (
            {"resources": {"train": {"learners": 3}}},
            "train.learners: got 3, but train.batch_size is 64; give a number that divides it",
        ),
    ],
)
def test_what_a_game_does_not_have_is_refused_in_a_line(parts: dict[str, Any], said: str):
    with pytest.raises(UserError) as caught:
        make_runs(changed(**parts), None)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_who_learns_from_data_does_not_play():
    with pytest.raises(UserError, match=r"train.algorithm: unknown key"):
        small_study("train.algorithm=ppo")


@pytest.mark.parametrize("field", ["env_runners", "learners"])
def test_who_plays_or_learns_beside_a_worker_does_so_in_games_only(field: str):
    with pytest.raises(UserError, match=rf"resources.train.{field}: got 2, but mnist is no game; leave it out and"):
        small_study(f"resources.train.{field}=2")


def test_what_learns_beside_a_worker_has_its_share_of_the_cluster():
    alone, beside = TrainPool(cpu=2, gpu=1, env_runners=3), TrainPool(cpu=2, gpu=1, env_runners=3, learners=2)
    assert (alone.worker_wants, alone.worker_gpu) == ({"CPU": 5, "GPU": 1}, 1)
    assert (beside.worker_wants, beside.worker_gpu) == ({"CPU": 9, "GPU": 2}, 0)


def test_a_task_without_parts_says_so():
    with pytest.raises(UserError, match=r'probes.parts: "actor" unknown; mnist has none: leave them out'):
        small_study("probes.parts=[actor]")
