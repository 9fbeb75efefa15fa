"""Training images replaced by noisy copies, as many of each class, and test images of their own seed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from published_files import write_batches, write_idx
from pydantic import ValidationError

from tangentscope.pipeline.study.runs import make_runs
from tangentscope.pipeline.study.spec import parse_study
from tangentscope.pipeline.system.errors import UserError
from tangentscope.tasks.cifar import Cifar10
from tangentscope.tasks.errors import DataError
from tangentscope.tasks.mnist import Mnist
from tangentscope.tasks.readers.replacing import NOISE, noisy_copies


def replaced(share: float, **fields) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Labels, which images differ from those without replacement, and distance of each image to its nearest original.

    In pixels of [0, 1].
    """
    plain, other = (Mnist(train_size=400, replaced=r, **fields).load() for r in (0.0, share))
    assert torch.equal(plain.train.targets, other.train.targets), "labels stay: copies are of the same class"
    assert torch.equal(plain.test.inputs, other.test.inputs)
    assert torch.equal(plain.test.targets, other.test.targets)
    scale = Mnist.std[0]
    before, after = (data.train.inputs.flatten(1) * scale for data in (plain, other))
    changed = (before != after).any(1)
    near = torch.stack(
        [
            (after[k] - before[(plain.train.targets == plain.train.targets[k]) & ~changed]).square().mean(1).min()
            for k in range(len(after))
        ]
    )
    return plain.train.targets, changed, near.sqrt()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_share_of_each_class_is_counted_exactly(share: float):
    labels, changed, _ = replaced(share)
    for label in range(10):
        ours = labels == label
        assert int(changed[ours].sum()) == round(share * int(ours.sum()))


def test_what_is_replaced_is_a_noisy_copy_of_what_stays_in_its_class():
    _, changed, near = replaced(0.6)
    assert near[~changed].max() == 0
    assert NOISE == 0.01, "BSC App. D.2"
    np.testing.assert_allclose(near[changed].double().mean(), NOISE, rtol=0.02)
    assert near[changed].min() > 0.5 * NOISE


def test_more_is_replaced_with_a_larger_share_and_other_images_with_another_seed():
    few, many, others = (replaced(*how)[1] for how in ((0.2,), (0.7,), (0.2,)))
    assert torch.equal(few, others)
    assert (few & ~many).sum() == 0
    one, other = (noisy_copies(np.ones((50, 1, 2, 2), np.float32), np.zeros(50), 0.5, seed) for seed in (0, 1))
    assert ((one != 1).any((1, 2, 3)) != (other != 1).any((1, 2, 3))).any()


def test_a_class_with_nothing_left_is_refused():
    labels = np.array([0, 0, 0, 0, 1])
    with pytest.raises(DataError, match=r"of class 1 all 1 training images would be replaced and none left to copy"):
        noisy_copies(np.zeros((5, 1, 2, 2), np.float32), labels, 0.6, 0)


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share: float):
    with pytest.raises(ValidationError, match="replaced"):
        Mnist(replaced=share)


def test_as_many_of_each_class(tmp_path: Path):
    write_batches(tmp_path / "cifar10/cifar-10-batches-py", 150)
    task = Cifar10(partial=True, classes=("bird", "cat", "airplane", "automobile"), per_class=3)
    data = task.load(tmp_path)
    assert torch.bincount(data.train.targets).tolist() == [3, 3, 3, 3]
    assert "3 of each class for training" in data.source
    more = task.model_copy(update={"per_class": 5}).load(tmp_path)
    for label in range(4):
        few, many = (each.train.inputs[each.train.targets == label] for each in (data, more))
        assert torch.equal(few, many[:3]), "a smaller draw is the beginning of a larger one"
    with pytest.raises(DataError, match=r"task.per_class is 10,000, but there are only \d+ training images of class 0"):
        task.model_copy(update={"per_class": 10_000}).load(tmp_path)
    with pytest.raises(ValidationError, match=r"got train_size 5 and per_class 3; give one of them"):
        Cifar10(train_size=5, per_class=3)


def test_test_images_have_a_seed_of_their_own():
    draws = [Mnist(train_size=50, test_size=40, data_seed=seed, test_seed=0).load() for seed in (0, 1)]
    assert torch.equal(draws[0].test.inputs, draws[1].test.inputs)
    assert draws[0].train.targets.tolist() != draws[1].train.targets.tolist()
    assert torch.equal(draws[0].test.inputs, Mnist(test_size=40).load().test.inputs)
    other = Mnist(test_size=40, test_seed=1).load()
    assert not torch.equal(draws[0].test.inputs, other.test.inputs)


STUDY = """
name: draws
task: {name: mnist, test_seed: 0, test_size: 40}
model: {name: mlp, width: 4}
optimiser: {name: adam, lr: 1.0e-3}
train: {epochs: 1, batch_size: full}
KIND
probes: {kernel: {size: 10}}
"""


@pytest.mark.parametrize(
    "kind", ["grid: {task.data_seed: [0, 1]}", "zip: {task.data_seed: [0, 1], task.train_size: [40, 30]}"]
)
def test_draws_of_the_data_can_be_varied(tmp_path: Path, kind: str):
    write_idx(tmp_path / "mnist/MNIST/raw", 60, 60)
    study = STUDY.replace("KIND", f"{kind}\n" if "zip" in kind else f"{kind[:-1]}, task.train_size: [40]}}")
    first, second = make_runs(parse_study(study, "draws.yaml"), tmp_path)
    assert first.data.train.targets.tolist()[:30] != second.data.train.targets.tolist()[:30]
    assert torch.equal(first.data.test.inputs, second.data.test.inputs)
    with pytest.raises(UserError, match=r"task.train_size is 61, but there are only 60 train images"):
        make_runs(parse_study(study, "draws.yaml", ("task.train_size=61", "grid={}", "zip={}")), tmp_path)
