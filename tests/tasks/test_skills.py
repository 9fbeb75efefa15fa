"""Skills as weighted points, and sparse parities whose bits are drawn anew."""

import numpy as np
import pytest
import torch

from tangentscope.tasks import Skills, SparseParity

SKILLS_DRAWN = [[5, 4, 1], [5, 6, 0]]


def loss_of(task: Skills, strengths: np.ndarray, split: str = "train") -> float:
    points = getattr(task.load(), split)
    padded = np.append(0.0, strengths)[points.inputs[:, 0].numpy()]
    return task.loss(torch.from_numpy(padded)[:, None], points.targets).double().mean().item()


def test_the_mean_over_points_is_the_mean_over_data():
    """L = ½ Σ_k P_k (R_k − S)², with what lies beyond counted as not learned."""
    strengths = np.linspace(0, 5, 6)
    for endless in (False, True):
        task = Skills(skills=6, alpha=0.5, scale=5, endless=endless)
        shares = task.shares()
        expected = shares[:6] @ (strengths - 5) ** 2 / 2 + 12.5 * shares[6:].sum()
        assert loss_of(task, strengths) == pytest.approx(expected, rel=1e-6)


def test_frequencies_fall_by_their_power_and_sum_to_one():
    few, endless = Skills(skills=50), Skills(skills=50, endless=True)
    assert few.shares().sum() == pytest.approx(1)
    assert endless.shares().sum() == pytest.approx(1)
    assert len(endless.shares()) == 51
    for task in (few, endless):
        np.testing.assert_allclose(
            task.shares()[1:50] / task.shares()[:49], (np.arange(1, 50) / np.arange(2, 51)) ** 1.6
        )


def test_frequencies_may_be_given():
    task = Skills(skills=3, frequencies=(0.5, 0.3, 0.2))
    assert task.moments() == pytest.approx([0.5, 0.3, 0.2])


def test_samples_take_the_place_of_frequencies_in_training_alone():
    task = Skills(skills=20, samples=30, data_seed=4)
    counts = task.moments() * 30
    np.testing.assert_allclose(counts, counts.round())
    assert counts.sum() == pytest.approx(30)
    strengths = np.where(counts > 0, 5.0, 0.0)
    assert loss_of(task, strengths) == pytest.approx(0, abs=1e-9)
    assert loss_of(task, strengths, "test") == pytest.approx(12.5 * task.shares()[counts == 0].sum(), rel=1e-5)
    drawn = [(Skills(skills=3, samples=n, data_seed=1).moments() * n).round().tolist() for n in (10, 11)]
    assert drawn == SKILLS_DRAWN, "results on users' disks rest on these draws"
    assert task.load().fingerprint != Skills(skills=20, samples=30, data_seed=5).load().fingerprint


def test_scores_are_strengths():
    task = Skills(skills=25)
    points = task.load().test
    outputs = torch.linspace(0, 5, 25)[:, None]
    assert task.score(outputs, points.targets) == pytest.approx(float(task.shares() @ np.linspace(0, 1, 25)), rel=1e-5)
    found = task.further_scores(outputs, points.targets)
    assert list(found) == [f"strength_{k}" for k in range(1, 21)]
    assert found["strength_3"] == pytest.approx(2 / 24)


def test_new_bits_keep_skill_and_parity():
    task = SparseParity(online=True, train_size=500, test_size=5, skills=5)
    data = task.load().train
    torch.manual_seed(0)
    seen = task.augmented(data.inputs)
    again = task.augmented(data.inputs)
    assert torch.equal(seen[:, :5], data.inputs[:, :5])
    skill = data.targets[:, 1].long()
    places = skill[:, None] * 3 + torch.arange(3)
    parity = 1 - 2 * (seen[:, 5:].gather(1, places).sum(1) % 2)
    assert torch.equal(5 * parity, data.targets[:, 0])
    assert 0.4 < (seen[:, 5:] != again[:, 5:]).float().mean() < 0.6
    assert seen[:, 5:].mean(0).numpy() == pytest.approx(np.full(32, 0.5), abs=0.12)
    assert set(seen.unique().tolist()) == {0, 1}


def test_bits_are_as_they_are_unless_asked_for():
    task = SparseParity(train_size=20, test_size=5)
    inputs = task.load().train.inputs
    assert task.augmented(inputs) is inputs


def test_new_bits_need_bits():
    with pytest.raises(ValueError, match="new bits are drawn of inputs bits, got inputs skills and online: leave one"):
        SparseParity(online=True, inputs="skills")
