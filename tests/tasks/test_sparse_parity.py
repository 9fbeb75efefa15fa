from math import isnan
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tangentscope.models.solvable.linear import least_norm
from tangentscope.models.solvable.skill_bases import strengths_over_data
from tangentscope.tasks import SparseParity, Split


def arrays(split: Split) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, signs g and skills."""
    assert isinstance(split.inputs, Tensor)
    return split.inputs.numpy(), split.targets[:, 0].sign().numpy(), split.targets[:, 1].long().numpy()


def test_the_target_is_the_parity_of_the_skills_own_bits():
    task = SparseParity(skills=4, bits=10, relevant=3, scale=2.0, train_size=500, test_size=5)
    inputs, signs, skills = arrays(task.load().train)
    control, bits = inputs[:, :4], inputs[:, 4:]
    assert (control == np.eye(4)[skills]).all()
    assert set(np.unique(bits)) == {0, 1}
    relevant = {0: [0, 1, 2], 1: [3, 4, 5], 2: [6, 7, 8], 3: [9, 0, 1]}
    assert all((-1) ** row[relevant[k]].sum() == sign for row, k, sign in zip(bits, skills, signs, strict=True))
    assert (task.load().train.targets[:, 0].abs() == 2).all()


def test_skills_occur_with_their_frequencies():
    task = SparseParity(skills=3, alpha=0.6, train_size=50_000, test_size=1)
    frequencies = task.frequencies()
    assert frequencies.sum() == pytest.approx(1)
    assert frequencies[0] / frequencies[1] == pytest.approx(2**1.6)
    counts = np.bincount(arrays(task.load().train)[2])
    np.testing.assert_allclose(counts / 50_000, frequencies, atol=0.01)


def test_a_balanced_test_has_as_many_points_of_each_skill():
    task = SparseParity(skills=4, train_size=5, test_size=42, balanced_test=True)
    assert np.bincount(arrays(task.load().test)[2]).tolist() == [11, 11, 10, 10]


def same_points(**fields: Any) -> tuple[Split, SparseParity]:
    task = SparseParity(skills=3, bits=12, train_size=4000, test_size=1, **fields)
    return task.load().train, task


def test_skills_as_inputs_are_their_values():
    bits, _ = same_points()
    skills, task = same_points(inputs="skills")
    inputs, signs, index = arrays(skills)
    assert torch.equal(bits.targets, skills.targets)
    assert (inputs == np.eye(3)[index] * signs[:, None]).all()
    torch.testing.assert_close(skills.inputs @ torch.from_numpy(task.target()).float(), skills.targets[:, 0])


@pytest.mark.parametrize("functions", [1, 2, 4, 9])
def test_basis_functions_are_orthonormal_and_make_up_the_skill(functions: int):
    """Nam eq. 5.4, over all points of few bits."""
    split, task = same_points(inputs="bases", functions=functions)
    inputs, signs, index = arrays(split)
    assert inputs.shape == (4000, 3, functions)
    np.testing.assert_allclose(inputs.sum(2) / functions**0.5, np.eye(3)[index] * signs[:, None], atol=1e-5)
    total = inputs.reshape(4000, -1) @ task.target().ravel()
    np.testing.assert_allclose(total, split.targets[:, 0], rtol=1e-5)
    every = (np.arange(2**12)[:, None] >> np.arange(12)) & 1
    functions_of_bits = task._bases(every)
    moments = functions_of_bits.T @ functions_of_bits / 2**12
    np.testing.assert_allclose(moments, np.eye(functions), atol=1e-12)


def test_few_samples_of_a_skill_teach_their_share_of_it():
    """Least norm on real samples of the task against d_k/D_c."""
    shots, samples, strengths = 32, 16, []
    task = SparseParity(skills=1, inputs="bases", functions=shots)
    for _, split in zip(range(300), task.batches(samples), strict=False):
        inputs, signs, _ = arrays(split)
        strengths.append(least_norm(inputs[:, 0], task.scale * signs).sum() / shots**0.5)
    assert np.mean(strengths) == pytest.approx(strengths_over_data(samples, task.scale, shots), rel=0.06)


def test_strengths_are_those_of_each_skill():
    task = SparseParity(skills=3, train_size=1, test_size=300, balanced_test=True)
    targets = task.load().test.targets
    learned = torch.tensor([1.0, 0.5, 0.0])
    outputs = (learned[targets[:, 1].long()] * targets[:, 0])[:, None]
    scores = task.further_scores(outputs, targets)
    assert scores == pytest.approx({"strength_1": 1, "strength_2": 0.5, "strength_3": 0})
    assert task.score(outputs, targets) == pytest.approx(0.5)
    assert task.loss(outputs, targets).mean().item() == pytest.approx(25 / 2 * (0 + 0.25 + 1) / 3)


def test_a_skill_without_points_has_no_strength():
    task = SparseParity(skills=30)
    scores = task.further_scores(torch.ones(1, 1), torch.tensor([[5.0, 1.0]]))
    assert list(scores) == [f"strength_{k}" for k in range(1, 21)]
    assert scores["strength_2"] == pytest.approx(0.2)
    assert isnan(scores["strength_1"])


def test_batches_are_new_at_every_step_and_the_same_for_a_seed():
    task = SparseParity()
    one, again, other = (task.batches(8, seed=seed) for seed in (0, 0, 1))
    first, second = next(one), next(one)
    assert torch.equal(first.inputs, next(again).inputs)  # pyright: ignore
    assert not torch.equal(first.inputs, second.inputs)  # pyright: ignore
    assert not torch.equal(first.inputs, next(other).inputs)  # pyright: ignore
    assert first.inputs.shape == (8, 37)  # pyright: ignore


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"relevant": 33}, "a skill of 33 relevant bits needs as many bits, got 32"),
        (
            {"inputs": "bases", "bits": 3, "functions": 9},
            "3 bits have 8 functions, got 9: take more bits",
        ),
        ({"balanced_test": True, "test_size": 4}, "a balanced test of 5 skills needs as many points, got 4"),
    ],
)
def test_a_task_that_cannot_be_is_refused(fields: dict[str, Any], told: str):
    with pytest.raises(ValidationError) as caught:
        SparseParity(**fields)
    (error,) = caught.value.errors()
    assert error["msg"] == f"Value error, {told}"
