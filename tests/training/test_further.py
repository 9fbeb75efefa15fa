"""Measurements that are asked for after a study has ended, on the snapshots that it keeps."""

from pathlib import Path
from typing import Any

import pytest
import torch
from trained_study import Finished, finish

from tangentscope.pipeline.driver.probe import Asked, ask
from tangentscope.pipeline.driver.stages import stage_steps
from tangentscope.pipeline.probing.measurer import Measurer
from tangentscope.pipeline.probing.settled import ledger_of
from tangentscope.pipeline.report import write_report
from tangentscope.pipeline.store import layout, run_files, tables
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.further import requests
from tangentscope.pipeline.store.launch import Launch
from tangentscope.pipeline.store.layout import Notice
from tangentscope.pipeline.store.points import read_points
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.store.snapshots import read_snapshot
from tangentscope.pipeline.study.plan import study_plan
from tangentscope.pipeline.study.points import store_points
from tangentscope.pipeline.study.runs import Run, make_runs
from tangentscope.pipeline.study.spec import Study
from tangentscope.pipeline.system.errors import UserError
from tangentscope.pipeline.training.recorder import Recorder
from tangentscope.probes import measure
from tangentscope.tasks import TASKS

CATCH: dict[str, Any] = {
    "name": "caught",
    "task": {"name": "catch", "states": 40, "games": 4},
    "model": {"name": "actor_critic", "convolutions": [[2, 8, 8]], "hidden": [4]},
    "optimiser": {"name": "adam", "lr": 0.01},
    "train": {"algorithm": "ppo", "iterations": 60, "evaluate_every": 60},
    "seeds": 2,
    "report": {"figures": ["reward"]},
    "probes": {
        **{"schedule": {"at": [30]}, "snapshots": {"every": {"steps": 1}}, "splits": ["train"]},
        **{"kernel": {"draws": 2, "size": 5}, "parts": ["actor", "critic"], "variables": ["trace"]},
    },
}

Played = tuple[Storage, Study, list[Run]]
TAKEN = (0, 20, 29, 30, 31, 50, 60)


def measured(storage: Storage) -> Any:
    """Do what the plan on storage still wants, as hub and probers do, and give all rows."""
    store = Store(storage)
    ledger, measurer = ledger_of(store.plan, store.recorded()), Measurer(storage, store.plan)
    for run in store.runs:
        for name in run_files.current_snapshots(storage, run.id):
            ledger.notice(Notice(run.id, name))
    rows = [measurer.measure(job)["measurements"] for job in iter(lambda: ledger.take("one"), None)]
    tables.write_part(storage, "measurements", [row for each in rows for row in each], "test")
    return Store(storage).measurements()


def replanned(storage: Storage, study: Study, runs: list[Run]) -> None:
    study_plan(study, runs, 2, further=requests(storage)).write(storage)


def further(storage: Storage, study: Study, runs: list[Run], /, **asked: Any) -> None:
    ask(storage, study, runs, Asked(**asked), now=1.0)
    replanned(storage, study, runs)


def ask_and_plan(supervised: Finished, **asked: Any) -> None:
    further(supervised.storage, supervised.runs[0].study, supervised.runs, **asked)


@pytest.fixture
def supervised(tmp_path: Path) -> Finished:
    """Two runs whose snapshots of steps 0, 3 and 6 are kept, with all that the study asks for measured."""
    kernel = {"outputs": "full", "draws": 2, "size": 6}
    study = finish(tmp_path, {"name": "mlp", "depth": 2}, kernel, [4, 6], ("trace", "entropy"))
    measured(study.storage)
    return study


@pytest.fixture
def played(tmp_path: Path) -> Played:
    """Runs of Catch with snapshots of networks of which the later ones go to the right more and more."""
    study = Study.model_validate(CATCH)
    storage, runs = Storage.at(tmp_path), make_runs(study, None)
    study_plan(study, runs, 1).write(storage)
    store_points(storage, runs)
    history = []
    for run in runs:
        torch.manual_seed(run.seed)
        network = run.model.network(run.data.input_shape, run.data.outputs, {})
        with Recorder(Launch(storage, 1), run.id, 1, 1, 0, network) as recorder:
            for step in TAKEN:
                network.actor.bias.data = torch.tensor([0.0, 0.0, step / 10])  # pyright: ignore
                recorder.snapshot(step, network)
        returns = [(step, -3.0 + max(0, step - 40) / 4) for step in range(1, 61)]
        about = {"run": run.id, "attempt": 1, "epoch": 0.0, "split": "train", "variable": "return", "recorded_at": 1.0}
        history += [about | {"step": step, "value": value} for step, value in returns]
    tables.write_part(storage, "history", history, "test")
    measured(storage)
    return storage, study, runs


def test_further_variables_leave_what_is_there_untouched(supervised: Finished) -> None:
    storage, before = supervised.storage, Store(supervised.storage).measurements()
    ask_and_plan(supervised, changes={"variables": ("trace", "condition_number")})
    after = measured(storage)
    old = after.loc[after["variable"] != "condition_number"].reset_index(drop=True)
    assert old[before.columns].equals(before)
    new = after.loc[after["variable"] == "condition_number"]
    assert len(new) == 2 * 2 * 3  # runs, splits, steps
    store = Store(storage)
    by_probe = store.wanted(store.runs[0])[3].values()
    assert [set(names) for names in by_probe] == [{"trace", "entropy", "condition_number"}] * 2
    for row in new.to_dict("records"):
        run = next(run for run in supervised.runs if run.id == row["run"])
        module = run.model.build(run.data.input_shape, run.data.outputs)
        name = next(n for n in run_files.current_snapshots(storage, run.id) if n.step == row["step"])
        module.load_state_dict(read_snapshot(storage, run.id, name)[0])
        points = read_points(storage, row["probe"])
        expected = measure(module.eval(), points["inputs"], points["draws"], "full", ["condition_number"])
        assert row["value"] == pytest.approx(expected.mean("condition_number"), rel=1e-6)


def test_other_kernels_are_of_the_runs_and_steps_asked_for(supervised: Finished) -> None:
    name = supervised.runs[1].name
    ask_and_plan(supervised, runs=(name,), data=("test",), steps=("3", "4:9"), changes={"kernel": {"draws": 3}})
    after = measured(supervised.storage)
    new = after.loc[after["draws"] == 3]
    assert set(zip(new["run"], new["step"], new["split"], strict=True)) == {
        (supervised.runs[1].id, step, "test") for step in (3, 6)
    }
    assert (after["state"] == "measured").all()


def test_asking_again_asks_for_nothing_new(supervised: Finished) -> None:
    for _ in range(2):
        ask_and_plan(supervised, changes={"kernel": {"size": 4}})
    assert len(requests(supervised.storage)) == 4
    count = len(measured(supervised.storage))
    assert len(measured(supervised.storage)) == count == 2 * 2 * 3 * 2 * 2


def test_states_of_three_stages_are_as_many_of_each_and_stored_with_the_run(played: Played) -> None:
    storage, study, runs = played
    assert [stage_steps(Store(storage), run) for run in runs] == [[0, 50, 60]] * 2  # returns are halfway at about 52
    further(storage, study, runs, data=("stages",), steps=("29:31", "60"), games=2, states=31)
    rows = measured(storage)
    stages = rows.loc[rows["split"] == "stages"]
    assert sorted(set(stages["step"])) == [29, 30, 31, 60]
    assert len(stages) == 2 * 4 * 2  # runs, steps, parts
    assert stages["probe"].nunique() == 4  # each run has states of its own
    plan = Store(storage).plan
    assert {probe.source for probe in plan.further} == {
        "30 states of 6 games, as many by the network of each of the steps [0, 50, 60]"
    }
    task, kernel = TASKS["catch"](), {"probe": plan.further[0].id}
    points = read_points(storage, kernel["probe"])
    assert points["inputs"].shape[1:] == (1, 40, 40)
    assert points["indices"].max() < 30
    assert task.name == "catch"


def test_the_report_shows_states_of_stages_beside_the_others(played: Played) -> None:
    storage, study, runs = played
    further(storage, study, runs, data=("stages",), games=2, states=30)
    measured(storage)
    names = write_report(storage)
    assert any("stages" in name for name in names)
    assert "30 states of 6 games" in storage.read(layout.REPORT).decode()


def test_dense_steps_of_the_same_kernel_join_its_curve(played: Played) -> None:
    storage, study, runs = played
    before = Store(storage).measurements()
    further(storage, study, runs, steps=("0:60",))
    after = measured(storage)
    assert set(after["probe"]) == set(before["probe"])
    assert sorted(set(after["step"])) == list(TAKEN)
    assert sorted(set(before["step"])) == [0, 30, 60]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"runs": ("seed=7",)}, r'run "seed=7" unknown; .*seed=0'),
        ({"steps": ("7",)}, r"--steps: run seed=0 has no snapshot of step 7 that is kept"),
        ({"steps": ("1:9",)}, r"run seed=0: no snapshot of these steps is kept \(those of 7 other steps are\)"),
        ({"steps": ("a:b",)}, r'--steps: got "a:b", expected a step, FIRST:LAST or FIRST:LAST:EVERY'),
        ({"changes": {"variables": ("trase",)}}, r'variable "trase" unknown; .*trace'),
        ({"changes": {"parts": ("acter",)}}, r'"acter" unknown; .*actor'),
        ({"data": ("stages",), "states": 9}, r"got 2 draws of 5 states, but 9 are to be stored; raise --states"),
        ({"data": ("stages",), "games": 0}, r"--games: got 0, expected at least 1"),
        ({"data": ("stages",), "stages": (0, 7)}, r"no snapshot of step 7 is kept; the last one is of step 60"),
        ({"data": ("stages",), "games": 1, "states": 3000}, r"stage 1: got \d+ different states in 1 games, expected"),
        (
            {"changes": {"variables": ("kernel_velocity",)}, "steps": ("29",)},
            r"compares with the scheduled step",
        ),
    ],
)
def test_what_cannot_be_had_is_refused_and_nothing_is_asked_for(
    played: Played, asked: dict[str, Any], message: str
) -> None:
    storage, study, runs = played
    with pytest.raises(UserError, match=message):
        ask(storage, study, runs, Asked(**asked), now=1.0)
    assert requests(storage) == []


def test_a_comparison_with_a_snapshot_that_was_freed_is_refused(supervised: Finished) -> None:
    run = supervised.runs[1]
    run_files.bury(supervised.storage, Notice(run.id, run_files.current_snapshots(supervised.storage, run.id)[0]))
    with pytest.raises(UserError, match="with the snapshot of step 0, which run width=6 seed=0 has not kept"):
        ask_and_plan(supervised, changes={"variables": ("kernel_distance",)})


def test_other_states_of_the_same_stages_are_refused(played: Played) -> None:
    storage, study, runs = played
    further(storage, study, runs, data=("stages",), games=2, states=30)
    with pytest.raises(UserError, match="other states of its stages; give the same --stages"):
        ask(storage, study, runs, Asked(data=("stages",), games=3, states=30), now=2.0)


def test_stages_need_a_game_and_returns_that_have_risen(supervised: Finished, played: Played) -> None:
    with pytest.raises(UserError, match="got the task mnist, expected a game"):
        ask_and_plan(supervised, data=("stages",))
    for without in ({"stages": (-1,)}, {"games": 0}, {"states": -2}, {"data": ("train",), "games": 3}):
        with pytest.raises(UserError, match="--stages, --games and --states are of --data stages; add it, or leave"):
            ask_and_plan(supervised, **without)
    storage, _, runs = played
    for part in tables.part_names(storage, "history"):
        storage.remove(part)
    with pytest.raises(UserError, match="returns have not risen yet, so no stage wins sometimes; give --stages"):
        stage_steps(Store(storage), runs[0])


def test_metrics_of_two_probes_never_have_one_name(supervised: Finished) -> None:
    kernels = [{"draws": 3}, {"draws": 3, "seed": 1}, {"outputs": "traced"}]
    first = supervised.runs[0]
    for now, kernel in enumerate(kernels):
        ask(supervised.storage, first.study, supervised.runs, Asked(data=("test",), changes={"kernel": kernel}), now)
    replanned(supervised.storage, first.study, supervised.runs)
    names = Store(supervised.storage).plan.suffixes
    splits = {probe: how.split for probe, how in Store(supervised.storage).probes.items()}
    assert sorted(names[probe] for probe in names if splits[probe] == "test") == ["", "_3x6", "_3x6_seed1", "_traced"]
    assert [names[probe] for probe in names if splits[probe] == "train"] == [""]


def test_a_study_that_goes_on_keeps_what_was_asked_for(supervised: Finished) -> None:
    """`run` plans anew: runs that it no longer has are left out, the others keep their further measurements."""
    ask_and_plan(supervised, changes={"kernel": {"size": 4}})
    storage, (first, _) = supervised.storage, supervised.runs
    plan = study_plan(first.study, [first], 3, further=requests(storage))
    assert [len(run.further) for run in plan.runs] == [2]
    assert len(plan.further) == 2
