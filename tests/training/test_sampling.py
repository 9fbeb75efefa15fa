"""Which points a worker sees in a step: all that matters for comparing runs and for going on after a death."""

from collections.abc import Callable

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from training_cases import Dense, Noisy, Points, Watched, points, training

from tangentscope.pipeline.config.optimisers import SGD
from tangentscope.pipeline.training.learner import World, mix, permutation
from tangentscope.pipeline.training.loop import evaluate, train
from tangentscope.tasks import Split, TaskData


def numbered(count: int) -> TaskData:
    """Points whose targets are their own numbers."""
    inputs = torch.zeros(count, 1)
    targets = torch.arange(count, dtype=torch.float32)[:, None]
    return TaskData(Split(inputs, targets), Split(inputs, targets), (1,), 1, "numbers")


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 24), st.integers(1, 30), st.integers(1, 5), st.integers(0, 3))
def test_every_epoch_visits_each_point_once_over_all_workers(count: int, batch: int, size: int, seed: int) -> None:
    data, epochs = numbered(count), 2
    batch = min(batch, count)
    shares: list[list[list[int]]] = []
    for rank in range(size):
        seen: list[Tensor] = []
        what = training(data, epochs, batch, seed=seed, model=Dense(double=False), task=Watched(on_update=seen.append))
        train(what, data, None, World(rank, size))
        shares.append([targets[:, 0].int().tolist() for targets in seen])
    steps = list(zip(*shares, strict=True))  # by step, then rank
    epoch_steps = -(-count // batch)
    assert len(steps) == epochs * epoch_steps
    for number, step in enumerate(steps):
        sizes = [len(share) for share in step]
        last = number % epoch_steps == epoch_steps - 1
        assert sum(sizes) == (count - (epoch_steps - 1) * batch if last else batch)
        assert max(sizes) - min(sizes) <= 1
    for epoch in range(epochs):
        visited = [
            p for step in steps[epoch * epoch_steps : (epoch + 1) * epoch_steps] for share in step for p in share
        ]
        assert sorted(visited) == list(range(count))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300), st.integers(0, 2**31), st.integers(0, 1000))
def test_the_permutation_is_a_function_of_seed_and_epoch(count: int, seed: int, epoch: int) -> None:
    cpu = torch.device("cpu")
    order = permutation(count, seed, epoch, cpu)
    assert order.sort().values.tolist() == list(range(count))
    torch.rand(3)
    assert torch.equal(order, permutation(count, seed, epoch, cpu))
    assume(count > 50)  # two of a few points' orders may well be the same
    assert not torch.equal(order, permutation(count, seed, epoch + 1, cpu))
    assert not torch.equal(order, permutation(count, seed + 1, epoch, cpu))


Parts = st.lists(st.one_of(st.integers(0, 2**40), st.sampled_from(["init", "order", "step"])), min_size=1, max_size=4)


@given(Parts, Parts)
def test_mix_tells_its_parts_apart(one: list[int | str], other: list[int | str]) -> None:
    assert 0 <= mix(*one) < 2**63
    assert (mix(*one) == mix(*other)) == (one == other)


def test_mix_has_no_pattern_in_neighbouring_steps() -> None:
    seeds = torch.tensor([mix(seed, step, rank, "step") for seed in range(3) for step in range(500) for rank in (0, 1)])
    assert len(set(seeds.tolist())) == 3000
    ones = torch.stack([(seeds >> bit & 1).double().mean() for bit in range(63)])
    assert (ones - 0.5).abs().max() < 0.05  # 5.5 standard deviations


def test_mix_never_changes() -> None:
    # Every trajectory that was ever trained hangs on this number.
    assert mix(3, 7, 1, "step") == 4195168147788343722


def test_what_dropout_draws_is_a_function_of_the_step_the_rank_and_the_seed() -> None:
    data = points(24, dtype=torch.float32)

    def draws(rank: int = 0, seed: int = 1, before: int = 0) -> list[float]:
        """What the generator gives in each of the steps, wherever it was before."""
        torch.manual_seed(before)
        drawn: list[float] = []
        task = Watched(on_update=lambda targets: drawn.append(torch.rand(1).item()))
        train(training(data, 3, 24, model=Noisy(), task=task, seed=seed), data, None, World(rank, 2))
        return drawn

    assert draws() == draws(before=5)
    assert len({*draws(), *draws(rank=1), *draws(seed=2)}) == 9


class Shaken(Points, frozen=True):
    """Adds noise to the inputs of each training batch, and tells which."""

    on_noise: Callable[[Tensor], None]

    def augmented(self, inputs: Tensor) -> Tensor:
        noise = torch.randn(inputs.shape)
        self.on_noise(noise)
        return inputs + noise


def test_what_augmentation_draws_is_a_function_of_the_step_the_rank_and_the_seed() -> None:
    data = points(24, dtype=torch.float32)

    def draws(rank: int = 0, seed: int = 1, before: int = 0) -> list[float]:
        torch.manual_seed(before)
        noise: list[Tensor] = []
        train(
            training(data, 3, 24, model=Noisy(), task=Shaken(on_noise=noise.append), seed=seed),
            data,
            None,
            World(rank, 2),
        )
        assert {drawn.shape for drawn in noise} == {(12, 5)}
        return [drawn[0, 0].item() for drawn in noise]

    assert draws() == draws(before=5)
    assert len({*draws(), *draws(rank=1), *draws(seed=2)}) == 9


def test_the_network_learns_from_augmented_inputs_and_is_evaluated_on_others() -> None:
    data, noise = points(24, dtype=torch.float32), list[Tensor]()
    task = Shaken(on_noise=noise.append)
    fields = {"model": Dense(double=False), "optimiser": SGD(lr=0.1)}
    shaken, plain = (train(training(data, 1, 24, task=each, **fields), data, None)[0] for each in (task, Points()))
    (only,) = noise
    order = permutation(24, 3, 0, torch.device("cpu"))
    moved = Split(data.train.inputs[order] + only, data.train.targets[order])
    expected, _ = train(training(data, 1, 24, **fields), TaskData(moved, data.test, (5,), 3, "moved"), None)
    for found, wanted, other in zip(shaken.parameters(), expected.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found, wanted)
        assert not torch.allclose(found, other)
    assert evaluate(task, plain, data.test) == evaluate(Points(), plain, data.test)
    assert len(noise) == 1
