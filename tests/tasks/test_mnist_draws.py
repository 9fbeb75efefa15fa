"""Which images of MNIST are drawn."""

import pytest
import torch
from mnist_pixels import pairs, pixels
from pydantic import ValidationError

from tangentscope.tasks.errors import DataError
from tangentscope.tasks.mnist import Mnist


def test_a_smaller_draw_begins_a_larger_one():
    small, large, all_ = (Mnist(train_size=n, test_size=n).load() for n in (10, 300, None))
    for split in ("train", "test"):
        for fewer, more in [(small, large), (large, all_)]:
            n = len(getattr(fewer, split))
            assert torch.equal(getattr(fewer, split).inputs, getattr(more, split).inputs[:n])
            assert torch.equal(getattr(fewer, split).targets, getattr(more, split).targets[:n])
    assert len(small.train) == len(small.test) == 10


def test_another_data_seed_draws_other_points_of_the_same_splits():
    first, second = Mnist(train_size=50).load(), Mnist(train_size=50, data_seed=1).load()
    assert first.fingerprint != second.fingerprint
    assert first.train.targets.tolist() != second.train.targets.tolist()
    one, other = (pairs(pixels(data.test.inputs), data.test.targets) for data in (first, second))
    assert one == other


def test_asking_for_more_than_there_is_names_both_numbers():
    with pytest.raises(DataError, match=r"train_size is 4,001, but there are only 4,000 train images"):
        Mnist(train_size=4001).load()
    with pytest.raises(DataError, match=r"test_size is 1,001, but there are only 1,000 test images"):
        Mnist(test_size=1001).load()


@pytest.mark.parametrize("field", ["train_size", "test_size"])
def test_an_empty_split_is_refused(field: str):
    with pytest.raises(ValidationError, match=field):
        Mnist(**{field: 0})
