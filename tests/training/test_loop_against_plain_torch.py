"""The training loop against one written down here: update rules, schedules, batches and evaluation."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from training_cases import Points, Watched, history, points, states, training

from tangentscope.pipeline.config.optimisers import SGD, Adam, AdamW, RateSchedule
from tangentscope.pipeline.config.train import Train
from tangentscope.pipeline.training.learner import Training, initialise, mix
from tangentscope.pipeline.training.loop import evaluate, evaluated, train
from tangentscope.tasks import Split, TaskData

State = dict[str, Tensor]


class HeavyBall:
    def __init__(self, momentum: float = 0.0, nesterov: bool = False, decay: float = 0.0) -> None:
        self.momentum, self.nesterov, self.decay = momentum, nesterov, decay
        self.velocity: Any = None

    def __call__(self, number: int, weights: Tensor, gradient: Tensor, rate: float) -> Tensor:
        gradient = gradient + self.decay * weights
        self.velocity = gradient if self.velocity is None else self.momentum * self.velocity + gradient
        return weights - rate * (gradient + self.momentum * self.velocity if self.nesterov else self.velocity)


class Moments:
    def __init__(
        self, decay: float = 0.0, decoupled: bool = False, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        self.decay, self.decoupled, self.betas, self.eps = decay, decoupled, betas, eps
        self.mean: Any = 0.0
        self.square: Any = 0.0

    def __call__(self, number: int, weights: Tensor, gradient: Tensor, rate: float) -> Tensor:
        if self.decoupled:
            weights = weights - rate * self.decay * weights
        else:
            gradient = gradient + self.decay * weights
        one, two = self.betas
        self.mean = one * self.mean + (1 - one) * gradient
        self.square = two * self.square + (1 - two) * gradient**2
        mean, square = self.mean / (1 - one**number), self.square / (1 - two**number)
        return weights - rate * mean / (square.sqrt() + self.eps)


def constant(step: int, epoch: int, steps: int) -> float:
    return 1.0


def forward(state: State, inputs: Tensor) -> Tensor:
    hidden = torch.tanh(inputs @ state["0.weight"].T + state["0.bias"])
    return hidden @ state["2.weight"].T + state["2.bias"]


def half_squared_error(state: State, split: Split) -> float:
    return (0.5 * (forward(state, split.inputs) - split.targets) ** 2).sum(1).mean().item()


def plain_loop(
    what: Training, data: TaskData, rule: Callable[[], Any], factor: Callable[[int, int, int], float]
) -> list[State]:
    """The parameters after each number of updates."""
    state = {name: p.detach().clone() for name, p in initialise(what, data, torch.device("cpu")).named_parameters()}
    rules = {name: rule() for name in state}
    count = len(data.train)
    epoch_steps = math.ceil(count / what.batch_size)
    trajectory = [state]
    for step in range(what.steps):
        generator = torch.Generator().manual_seed(mix(what.seed, step // epoch_steps, "order"))
        order = torch.randperm(count, generator=generator).tolist()
        first = step % epoch_steps * what.batch_size
        chosen = order[first : first + what.batch_size]
        leaves = {name: value.clone().requires_grad_() for name, value in trajectory[-1].items()}
        error = forward(leaves, data.train.inputs[chosen]) - data.train.targets[chosen]
        gradients = torch.autograd.grad((0.5 * error**2).sum(1).mean(), list(leaves.values()))
        rate = what.optimiser.lr * factor(step, epoch_steps, what.steps)
        trajectory.append(
            {
                name: rules[name](step + 1, value.detach(), gradient, rate)
                for (name, value), gradient in zip(leaves.items(), gradients, strict=True)
            }
        )
    return trajectory


RULES = {
    "sgd": (SGD(lr=0.2), HeavyBall),
    "weight decay": (SGD(lr=0.2, weight_decay=0.05), lambda: HeavyBall(decay=0.05)),
    "momentum": (SGD(lr=0.05, momentum=0.9), lambda: HeavyBall(0.9)),
    "nesterov": (
        SGD(lr=0.05, momentum=0.8, nesterov=True, weight_decay=0.01),
        lambda: HeavyBall(0.8, nesterov=True, decay=0.01),
    ),
    "adam": (Adam(lr=0.02), Moments),
    "adam l2": (Adam(lr=0.02, weight_decay=0.1), lambda: Moments(0.1)),
    "adam betas": (
        Adam(lr=0.02, beta1=0.5, beta2=0.9, eps=1e-3),
        lambda: Moments(betas=(0.5, 0.9), eps=1e-3),
    ),
    "adamw": (AdamW(lr=0.02, weight_decay=0.1), lambda: Moments(0.1, decoupled=True)),
}

FACTORS: dict[str, tuple[RateSchedule, Callable[[int, int, int], float]]] = {
    "warm-up": (RateSchedule(warmup=1.5), lambda step, epoch, steps: min(1, (step + 1) / (1.5 * epoch))),
    "cosine": (
        RateSchedule(name="cosine", final=0.1),
        lambda step, epoch, steps: 0.1 + 0.45 * (1 + math.cos(math.pi * step / steps)),
    ),
    "cosine after warm-up": (
        RateSchedule(name="cosine", warmup=1),
        lambda step, epoch, steps: (
            (step + 1) / epoch if step < epoch else 0.5 + 0.5 * math.cos(math.pi * (step - epoch) / (steps - epoch))
        ),
    ),
    "steps": (
        RateSchedule(name="steps", every=1.5, factor=0.3),
        lambda step, epoch, steps: 0.3 ** math.floor(step / (1.5 * epoch)),
    ),
}


def assert_follows(found: dict[int, State], expected: list[State]) -> None:
    for step, state in found.items():
        assert state.keys() == expected[step].keys()
        for name, tensor in state.items():
            torch.testing.assert_close(
                tensor, expected[step][name], rtol=1e-12, atol=1e-13, msg=lambda text, s=step: f"step {s}: {text}"
            )


@pytest.mark.parametrize("case", RULES)
def test_every_snapshot_follows_the_update_rule(case: str, storage, recorder_of) -> None:
    optimiser, rule = RULES[case]
    data = points()  # 23 points in batches of 6: the last has 5
    what = training(data, optimiser=optimiser)
    with recorder_of(what, data) as recorder:
        module, costs = train(what, data, recorder)
    expected = plain_loop(what, data, rule, constant)
    found = states(storage)
    assert sorted(found) == list(range(13))
    assert_follows(found, expected)
    assert_follows({12: dict(module.state_dict())}, expected)
    assert costs.steps == 12
    assert costs.snapshots == 13


@pytest.mark.parametrize("case", FACTORS)
@pytest.mark.parametrize("rule", ["momentum", "adamw"])
def test_schedules_scale_the_learning_rate(case: str, rule: str) -> None:
    schedule, factor = FACTORS[case]
    optimiser, updates = RULES[rule]
    data = points()
    what = training(data, epochs=4, optimiser=optimiser.model_copy(update={"schedule": schedule}))
    module, _ = train(what, data, None)
    assert_follows({16: dict(module.state_dict())}, plain_loop(what, data, updates, factor))


@pytest.mark.parametrize(
    ("count", "batch_size", "epochs", "steps"),
    [(23, 23, 5, 5), (23, 6, 2.5, 10), (23, 6, 0.01, 1), (24, 6, 1.2, 5), (5, 1, 1, 5)],
    ids=["full batch", "fractional epochs", "less than a step", "batches that divide", "single points"],
)
def test_any_batches_and_epochs(count: int, batch_size: int, epochs: float, steps: int) -> None:
    data = points(count)
    what = training(data, epochs, batch_size)
    assert what.steps == steps
    module, _ = train(what, data, None)
    assert_follows({steps: dict(module.state_dict())}, plain_loop(what, data, HeavyBall, constant))


def test_rows_and_snapshots_exactly_when_asked_and_of_the_parameters_at_that_step(storage, recorder_of) -> None:
    data = points()
    what = training(data, schedule=frozenset({0, 3, 7, 12}), evaluations=frozenset({0, 3, 4, 7, 8, 12}))
    with recorder_of(what, data) as recorder:
        train(what, data, recorder)
    found = states(storage)
    assert sorted(found) == [0, 3, 7, 12]
    reference = plain_loop(what, data, HeavyBall, constant)
    rows = history(storage)
    splits = {"train": data.train, "test": data.test}
    assert rows.keys() == {(s, split, v) for s in what.evaluations for split in splits for v in ("loss", "worst")}
    for step in what.evaluations:
        state = found.get(step, reference[step])
        for name, split in splits.items():
            worst = (forward(state, split.inputs) - split.targets).abs().max().item()
            assert rows[step, name, "loss"] == pytest.approx(half_squared_error(state, split), rel=1e-12)
            assert rows[step, name, "worst"] == pytest.approx(worst, rel=1e-12)


def test_recording_does_not_touch_the_trajectory(recorder_of) -> None:
    data = points()
    what = training(data, optimiser=Adam(lr=0.02))
    with recorder_of(what, data) as recorder:
        recorded, _ = train(what, data, recorder, checkpoint_seconds=-1)
    alone, _ = train(what, data, None)
    for name, tensor in alone.state_dict().items():
        assert torch.equal(tensor, recorded.state_dict()[name])


class Failing(Points, frozen=True):
    def score(self, outputs: Tensor, targets: Tensor) -> float:
        raise ArithmeticError


def test_evaluation_in_chunks_is_that_of_the_whole_split() -> None:
    data = points()
    network = initialise(training(data), data, torch.device("cpu")).append(torch.nn.Dropout(0.5))
    loss, worst = evaluate(Points(), network, data.train, chunk=5).values()
    state = dict(network.state_dict())
    assert loss == pytest.approx(half_squared_error(state, data.train), rel=1e-12)  # nothing was dropped
    assert worst == pytest.approx((forward(state, data.train.inputs) - data.train.targets).abs().max().item())


def test_of_the_points_to_learn_from_the_first_few_may_be_evaluated(storage, recorder_of) -> None:
    data = points(train=11)
    what = training(data, epochs=1.0, course=Train(epochs=1, evaluate_train=4))
    assert [len(split) for split in evaluated(what, data).values()] == [4, 9]
    with recorder_of(what, data) as recorder:
        network, _ = train(what, data, recorder)
    rows, state = history(storage), dict(network.state_dict())
    few = Split(data.train.inputs[:4], data.train.targets[:4])
    assert rows[what.steps, "train", "loss"] == pytest.approx(half_squared_error(state, few), rel=1e-12)
    assert rows[what.steps, "test", "loss"] == pytest.approx(half_squared_error(state, data.test), rel=1e-12)


@pytest.mark.parametrize("mode", [True, False])
def test_evaluation_restores_the_mode_also_on_error(mode: bool) -> None:
    data = points()
    network = initialise(training(data), data, torch.device("cpu")).train(mode)
    evaluate(Points(), network, data.test)
    assert network.training is mode
    with pytest.raises(ArithmeticError):
        evaluate(Failing(), network, data.test)
    assert network.training is mode


def test_the_start_is_a_function_of_the_seed_and_leaves_the_generator_alone() -> None:
    data = points()
    what = training(data)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = initialise(what, data, torch.device("cpu")).state_dict()
    assert torch.equal(torch.rand(3), expected)
    again = initialise(what, data, torch.device("cpu")).state_dict()
    other = initialise(training(data, seed=4), data, torch.device("cpu")).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


def test_batches_come_in_another_order_each_epoch_and_for_each_seed() -> None:
    seen: list[Tensor] = []
    data = points()
    for seed in (1, 2):
        train(training(data, epochs=2, seed=seed, task=Watched(on_update=seen.append)), data, None)
    orders = [torch.cat(seen[k : k + 4]) for k in range(0, 16, 4)]
    assert all(not torch.equal(one, other) for k, one in enumerate(orders) for other in orders[:k])
