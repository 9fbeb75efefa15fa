"""The same output again: the same goes on, other seeds and configs stand beside it, nothing is replaced unsaid."""

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tangentscope import pipeline
from tangentscope.pipeline.cli import progress
from tangentscope.pipeline.config.naming import flat
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.system.errors import UserError

INPUTS, LABELS = torch.linspace(-1, 1, 24).reshape(8, 3), torch.arange(8) % 2


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def loop(watch: Any, model: nn.Module, rate: float, start: int = 0, until: int = 4) -> Any:
    with watch:
        for step in range(start, until):
            loss = F.cross_entropy(model(INPUTS), LABELS)
            watch(step, loss=loss)
            loss.backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= rate * parameter.grad
                    parameter.grad = None
    return watch


@pytest.fixture
def train(attach: Callable[..., Any]) -> Callable[..., Any]:
    """A whole training; `start` resumes one from its own checkpoint."""

    def trained(weights: int = 0, rate: float = 0.5, start: int = 0, until: int = 4, **asked: Any) -> Any:
        model = network(weights)
        for _ in range(start):
            F.cross_entropy(model(INPUTS), LABELS).backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= rate * parameter.grad
                    parameter.grad = None
        return loop(attach(model, **asked), model, rate, start, until)

    return trained


def curves(tmp_path: Path) -> dict[str, list[float]]:
    store = Store(Storage.at(tmp_path / "mine"))
    names = {run.id: run.name for run in store.runs}
    frame = pipeline.load(tmp_path / "mine").sort_values("step")
    return {names[str(run)]: rows["value"].tolist() for run, rows in frame.groupby("run")}


def losses(tmp_path: Path) -> list[float]:
    return pipeline.load(tmp_path / "mine", "history").sort_values("step")["value"].tolist()


def test_the_same_training_again_changes_nothing(train, tmp_path) -> None:
    train()
    before, lost = curves(tmp_path), losses(tmp_path)
    assert train().troubles == ()
    assert (curves(tmp_path), losses(tmp_path)) == (before, lost)


def test_another_rate_does_not_take_the_place_of_a_finished_curve(train, tmp_path) -> None:
    train()
    before, lost = curves(tmp_path), losses(tmp_path)
    watch = train(rate=0.1)
    assert watch.step == 4, "the loop went on"
    assert watch.troubles == (
        "from step 1 on this training is another than the one recorded here before; what is there stays, and nothing "
        "of this one is recorded: pass config= or seed= to keep both, overwrite=True to replace it, or another out",
    )
    assert (curves(tmp_path), losses(tmp_path)) == (before, lost)
    assert [run.state for run in progress.now(Store(Storage.at(tmp_path / "mine")))] == ["finished"]


def test_another_seed_is_refused_before_the_loop(train, tmp_path) -> None:
    train()
    before = curves(tmp_path)
    with pytest.raises(
        UserError, match=r"has finished, and that began with other parameters .*; pass config= or seed="
    ):
        train(weights=1)
    assert curves(tmp_path) == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train": (INPUTS + 1, LABELS)}, "with other data; pass config="),
        ({"steps": 5}, r"with other steps \(4 there, 5 here\); pass config="),
        ({"epoch_steps": 2}, r"with other epoch_steps \(1 there, 2 here\)"),
        ({"parameters": "2.*"}, "with other shapes, trained parameters, output= or parameters="),
        ({"name": "other"}, 'holds trainings of the name "attached", got name="other"'),
        ({"seed": 1, "variables": ["entropy"]}, r"variables \['trace'\], got \['entropy'\]"),
        ({"seed": 1, "epoch_steps": 2}, "a horizontal axis step, got epoch"),
    ],
    ids=["data", "steps", "epochs", "parameters", "name", "variables", "axis"],
)
def test_another_training_is_refused_with_what_differs(train, changes: dict[str, Any], said: str) -> None:
    train()
    with pytest.raises(UserError, match=said):
        train(**changes)


def test_a_wider_network_without_a_config_is_refused(train, attach) -> None:
    train()
    wider = nn.Sequential(nn.Linear(3, 9), nn.Linear(9, 2))
    with pytest.raises(UserError, match=r"with other shapes \(26 parameters there, 56 parameters here\); pass config="):
        attach(wider)


@pytest.mark.parametrize("changes", [{"rate": 0.1}, {"weights": 1}, {}], ids=["rate", "weights", "same"])
def test_overwrite_takes_the_place_of_a_finished_training(train, tmp_path, changes: dict[str, Any]) -> None:
    train()
    before = curves(tmp_path)
    assert train(**changes, overwrite=True).troubles == ()
    after = curves(tmp_path)
    assert (list(after), len(after["attached"]), len(losses(tmp_path))) == (list(before), 5, 4)
    assert (after == before) == (not changes)


def test_overwrite_takes_the_place_of_another_training(train, tmp_path) -> None:
    train()
    (old,) = Store(Storage.at(tmp_path / "mine")).runs
    train(train=(INPUTS + 1, LABELS), overwrite=True)
    (new,) = Store(Storage.at(tmp_path / "mine")).runs
    assert new.id != old.id
    assert not list((tmp_path / "mine" / "runs" / old.id / "snapshots").iterdir())
    assert len(curves(tmp_path)["attached"]) == 5


def test_seeds_and_configs_stand_side_by_side(train, tmp_path) -> None:
    train(config={"lr": 0.5, "net": {"width": 2}})
    train(rate=0.1, config=Namespace(lr=0.1, net={"width": 2}))
    first = curves(tmp_path)
    assert set(first) == {"lr=0.5 seed=0", "lr=0.1 seed=0"}
    store = Store(Storage.at(tmp_path / "mine"))
    assert store.varied == ("config.lr",)
    assert set(pipeline.load(tmp_path / "mine")["config.lr"]) == {0.5, 0.1}
    assert [run.varied for run in store.runs] == [{"config.lr": 0.5}, {"config.lr": 0.1}]


def test_each_has_its_own_outcome_progress_and_parameters(train, tmp_path) -> None:
    for seed in (0, 3):
        train(weights=seed, seed=seed, config={"lr": 0.5})
    store = Store(Storage.at(tmp_path / "mine"))
    assert [run.name for run in store.runs] == ["lr=0.5 seed=0", "lr=0.5 seed=3"]
    assert [run.state for run in progress.now(store)] == ["finished", "finished"]
    assert dict(flat(store.runs[1].config))["config.lr"] == 0.5
    assert sorted(pipeline.load(tmp_path / "mine")["seed"].unique()) == [0, 3]
    provenance = store.provenance()
    assert provenance["seeds"] == [0, 3]
    assert provenance["trainings"] == {"lr=0.5 seed=0": {"lr": 0.5}, "lr=0.5 seed=3": {"lr": 0.5}}
    assert provenance["repository"] is None or set(provenance["repository"]) == {"root", "commit", "dirty"}


def test_a_failed_training_goes_on_from_its_own_checkpoint(train, tmp_path) -> None:
    train(until=2)
    assert train(start=1, until=4).troubles == ()
    assert len(curves(tmp_path)["attached"]) == 5
    (record,) = progress.now(Store(Storage.at(tmp_path / "mine")))
    assert record.state == "finished"


def test_a_failed_training_begun_anew_otherwise_says_that_it_takes_the_place(train, tmp_path) -> None:
    train(until=3)
    watch = train(rate=0.1)
    assert watch.troubles == ("from step 1 on this training is another than before, and takes its place",)
    assert len(curves(tmp_path)["attached"]) == 5


def test_the_output_of_a_study_is_refused(train, tmp_path) -> None:
    train()
    storage = Storage.at(tmp_path / "mine")
    plan = storage.read_json("plan.json")
    plan["runs"][0]["config"]["task"]["name"] = "mnist"
    storage.write_json("plan.json", plan | {"study": "digits"})
    with pytest.raises(UserError, match='holds the study "digits"; give another out'):
        train()


def test_a_run_that_was_asked_to_stop_can_be_run_again(train, tmp_path) -> None:
    train(until=2)
    storage = Storage.at(tmp_path / "mine")
    run = Store(storage).runs[0].id
    storage.write_json(f"runs/{run}/stop", {})
    assert train().step == 4
