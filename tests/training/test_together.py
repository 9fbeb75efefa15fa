"""Several runs trained in one pass: the networks that each would have become alone, and what is kept of each."""

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import nn
from training_cases import Dense, Noisy, Points, points, training

from tangentscope.models import Model
from tangentscope.pipeline.config.optimisers import SGD, Adam, AdamW, Optimiser, RateSchedule
from tangentscope.pipeline.training import vectorised_trial
from tangentscope.pipeline.training.learner import Alone, Training, World, initialise
from tangentscope.pipeline.training.loop import train, train_together
from tangentscope.pipeline.training.vectorised import Together
from tangentscope.pipeline.training.vectorised_trial import better_together
from tangentscope.tasks import TaskData

CPU = torch.device("cpu")
SCHEDULE = RateSchedule(name="cosine", warmup=1, final=0.1)
OPTIMISERS: list[Optimiser] = [
    SGD(lr=0.1),
    SGD(lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    Adam(lr=0.02, weight_decay=0.01, schedule=SCHEDULE),
    AdamW(lr=0.02, weight_decay=0.1),
]


class Normed(Model, frozen=True):
    """Batch norm, whose buffers each network has for itself, and a factor without dimensions."""

    name: Literal["normed"] = "normed"
    version: ClassVar[int] = 1

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        # No bias before batch norm: its gradient is nothing but rounding, and Adam makes steps of that.
        net = nn.Sequential(nn.Linear(*input_shape, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, outputs))
        net.register_module("scale", Factor())
        return net.double()


class Factor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * x


def seeds(data: TaskData, count: int = 3, **fields: Any) -> list[Training]:
    return [training(data, seed=seed, **fields) for seed in range(count)]


def saved(state: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def together(whats: Sequence[Training], data: TaskData, checkpoints: Sequence[bytes] | None = None) -> Together:
    return Together(whats, data.train, [initialise(what, data, CPU) for what in whats], CPU, checkpoints)


def assert_close(one: nn.Module, other: nn.Module) -> None:
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("batch_size", [23, 6], ids=["full batch", "unequal batches"])
@pytest.mark.parametrize("optimiser", OPTIMISERS, ids=lambda optimiser: optimiser.name)
@pytest.mark.parametrize("model", [Dense(), Normed()], ids=["dense", "normed"])
def test_every_network_becomes_what_it_becomes_alone(model: Model, optimiser: Optimiser, batch_size: int) -> None:
    data = points(23)
    whats = seeds(data, batch_size=batch_size, epochs=4, optimiser=optimiser, model=model)
    modules, costs = train_together(whats, data, [None] * 3, CPU)
    for what, module, cost in zip(whats, modules, costs, strict=True):
        alone, _ = train(what, data, None)
        assert_close(module, alone)
        assert cost is not None
        assert (cost.steps, cost.together) == (what.steps, 3)
    first, second = (modules[k].state_dict() for k in (0, 1))
    assert not torch.equal(first["0.weight"], second["0.weight"])


class Shaken(Points, frozen=True):
    """Adds noise to the inputs of each training batch."""

    def augmented(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs + 0.1 * torch.randn(inputs.shape, dtype=inputs.dtype)


@pytest.mark.parametrize("batch_size", [23, 6], ids=["full batch", "unequal batches"])
def test_every_network_has_the_augmentation_it_has_alone(batch_size: int) -> None:
    data = points(23)
    whats = seeds(data, batch_size=batch_size, task=Shaken())
    modules, _ = train_together(whats, data, [None] * 3, CPU)
    for what, module in zip(whats, modules, strict=True):
        assert_close(module, train(what, data, None)[0])


@pytest.mark.parametrize("optimiser", OPTIMISERS, ids=lambda optimiser: optimiser.name)
def test_training_goes_on_from_checkpoints_to_the_last_bit(optimiser: Optimiser) -> None:
    data = points(23)
    whats = seeds(data, optimiser=optimiser, model=Normed())
    through, halted = together(whats, data), together(whats, data)
    for _ in range(5):
        halted.update()
    resumed = together(whats, data, [saved(halted.state(k)) for k in range(3)])
    assert resumed.step == 5
    for _ in range(5):
        resumed.update()
    for _ in range(10):
        through.update()
    for one, other in zip(through.modules, resumed.modules, strict=True):
        assert all(torch.equal(one.state_dict()[name], other.state_dict()[name]) for name in one.state_dict())


@pytest.mark.parametrize("optimiser", OPTIMISERS, ids=lambda optimiser: optimiser.name)
def test_a_networks_checkpoint_is_the_one_it_would_have_alone(optimiser: Optimiser) -> None:
    data = points(23)
    whats = seeds(data, optimiser=optimiser, model=Normed())
    learner = together(whats, data)
    for _ in range(5):
        learner.update()
    alone = Alone(whats[1], data.train, initialise(whats[1], data, CPU), World())
    for _ in range(5):
        alone.update()
    ours, theirs = learner.state(1), alone.state()
    assert ours["step"] == theirs["step"] == 5
    assert ours["optimiser"]["param_groups"] == theirs["optimiser"]["param_groups"]
    for number, entries in theirs["optimiser"]["state"].items():
        for name, value in entries.items():
            torch.testing.assert_close(ours["optimiser"]["state"][number][name], value, rtol=1e-9, atol=1e-12)
    goes_on = Alone(whats[1], data.train, initialise(whats[1], data, CPU), World(), checkpoint=saved(ours))
    for learning in (goes_on, alone):
        learning.update()
    assert_close(goes_on.modules[0], alone.modules[0])


def test_checkpoints_of_different_steps_are_refused() -> None:
    data = points(23)
    whats = seeds(data)
    learner = together(whats, data)
    states = []
    for k in range(3):
        learner.update()
        states.append(saved(learner.state(k)))
    with pytest.raises(ValueError, match=r"steps \[1, 2, 3\]"):
        together(whats, data, states)


class Stopping:
    """A recorder that is asked to stop after one of its snapshots."""

    def __init__(self, after: int) -> None:
        self.after, self.stopping, self.checkpointing = after, False, False
        self.snapshots: dict[int, torch.Tensor] = {}
        self.checkpoints: list[int] = []
        self.copy_seconds, self.wait_seconds = [], 0.0

    def snapshot(self, step: int, module: nn.Module, overlap: bool) -> None:
        self.snapshots[step] = module.state_dict()["0.weight"].clone()
        self.stopping = step >= self.after

    def row(self, *row: Any) -> None: ...

    def settle(self) -> None: ...

    def checkpoint(self, step: int, state: Any) -> None:
        self.checkpoints.append(step)


def test_a_run_that_is_stopped_leaves_the_others_as_they_are() -> None:
    data = points(23)
    whats = seeds(data)
    undisturbed, _ = train_together(whats, data, [None] * 3, CPU)
    recorders: Any = [Stopping(after) for after in (99, 4, 99)]
    modules, costs = train_together(whats, data, recorders, CPU)
    assert [cost is None for cost in costs] == [False, True, False]
    assert [len(recorder.snapshots) for recorder in recorders] == [13, 5, 13]
    assert [recorder.checkpoints for recorder in recorders] == [[], [4], []]
    for k in (0, 2):
        assert torch.equal(undisturbed[k].state_dict()["0.weight"], modules[k].state_dict()["0.weight"])
        assert torch.equal(recorders[k].snapshots[12], modules[k].state_dict()["0.weight"])


def test_when_all_are_stopped_training_ends() -> None:
    data = points(23)
    recorders: Any = [Stopping(after) for after in (2, 3, 1)]
    _, costs = train_together(seeds(data), data, recorders, CPU)
    assert costs == [None] * 3
    assert [recorder.checkpoints for recorder in recorders] == [[2], [3], [1]]
    assert max(recorders[1].snapshots) == 3


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float], None]:
    """Lets updates take given seconds: of all networks together, and of one alone."""

    def arrange(all_of_them: float, one: float) -> None:
        def seconds(update: Any, device: torch.device) -> float:
            update()
            return all_of_them if isinstance(update.__self__, Together) else one

        monkeypatch.setattr(vectorised_trial, "_timed", seconds)

    return arrange


def test_a_trial_asks_for_a_clear_gain(timed: Any) -> None:
    data = points(23)
    whats = seeds(data, epochs=20)
    timed(1.0, 1.0)
    assert better_together(whats, data, CPU)
    timed(1.0, 0.4)
    assert not better_together(whats, data, CPU)


def test_a_trial_of_slow_updates_is_short_and_the_same_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    learners: set[Any] = set()

    def slow(update: Any, device: torch.device) -> float:
        update()
        learners.add(update.__self__)
        return 1.0

    monkeypatch.setattr(vectorised_trial, "_timed", slow)
    data = points(23)
    assert better_together(seeds(data, epochs=20), data, CPU)
    assert [learner.step for learner in learners] == [3] * 3  # one apart, two that are timed


@pytest.mark.parametrize("changed", [{"model": Noisy()}, {"epochs": 2}, {"count": 1}], ids=str)
def test_what_cannot_or_need_not_train_together_does_not(changed: dict[str, Any], timed: Any) -> None:
    timed(0.0, 1.0)
    data = points(23, dtype=torch.float32) if "model" in changed else points(23)
    assert not better_together(seeds(data, **{"epochs": 20, **changed}), data, CPU)


def test_networks_that_come_out_differently_are_trained_alone(timed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    timed(0.0, 1.0)
    data = points(23)
    whats = seeds(data, epochs=20)
    plain = Together.update

    def update(self: Together) -> None:
        self._whats = [replace(what, optimiser=SGD(lr=0.2)) for what in whats]
        plain(self)

    monkeypatch.setattr(Together, "update", update)
    assert not better_together(whats, data, CPU)


@pytest.mark.parametrize(("seconds_alone", "pays"), [(0.5, True), (0.4, False)])
def test_a_trial_times_whole_updates(seconds_alone: float, pays: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three networks in 1 s, against three times the seconds of one."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(vectorised_trial, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    for learner, seconds in ((Together, 1.0), (Alone, seconds_alone)):

        def update(self: Any, plain: Any = learner.update, seconds: float = seconds) -> None:
            clock.now += seconds
            plain(self)

        monkeypatch.setattr(learner, "update", update)
    data = points(23)
    assert better_together(seeds(data, epochs=20), data, CPU) is pays
