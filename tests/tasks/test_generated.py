"""Tasks that are made up from their fields: sines, the step, linear targets, and arithmetic."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

from tangentscope.models import Transformer
from tangentscope.probes import tangent_kernel
from tangentscope.tasks import TASKS, DataError, GaussianLinear, Modular, Sines, Step


def inputs(task: Sines | Step | GaussianLinear, split: str = "train") -> Tensor:
    values = task.load().splits[split].inputs
    assert isinstance(values, Tensor)
    return values


def refused(name: str, **fields) -> str:
    with pytest.raises(ValidationError) as caught:
        TASKS[name](name=name, **fields)
    (error,) = caught.value.errors()
    assert "\n" not in error["msg"]
    return error["msg"]


def test_sine_features_have_their_intensities():
    for task, expected in [
        (Sines(features=3, exponent=-1.0), [1, 1 / 4, 1 / 9]),
        (Sines(features=4, intensities="plateau", leading=2, train_size=6), [1, 1, 3, 3]),
        (Sines(features=2, intensities="equal"), [1, 1]),
    ]:
        assert task.intensity() == pytest.approx(expected)
        features = inputs(task.model_copy(update={"test_size": 20_000}), "test").double()
        moments = features.T @ features / len(features)
        torch.testing.assert_close(moments, torch.diag(torch.tensor(expected).double()), rtol=0.05, atol=0.06)


def test_the_sines_target_is_one_of_the_features():
    task = Sines(features=12, intensities="equal", frequency=10, test_size=50)
    data = task.load()
    torch.testing.assert_close(data.test.targets, data.test.inputs[:, 9:10] / 2**0.5)  # pyright: ignore
    assert task.score(data.test.targets, data.test.targets) == 1


def test_noise_is_added_to_training_targets_alone():
    clean, noisy = (Sines(train_size=2000, noise=noise).load() for noise in (0.0, 0.5))
    difference = noisy.train.targets - clean.train.targets
    assert difference.std().item() == pytest.approx(0.5, rel=0.1)
    assert torch.equal(noisy.train.inputs, clean.train.inputs)  # pyright: ignore
    features, targets = noisy.test.inputs, noisy.test.targets
    torch.testing.assert_close(targets, features[:, :1] / 2**0.5)  # pyright: ignore


def test_random_labels_are_normal_and_know_nothing_of_x():
    targets = Sines(random_labels=True, train_size=5000).load().train.targets
    assert targets.mean().item() == pytest.approx(0, abs=0.06)
    assert targets.std().item() == pytest.approx(1, abs=0.05)
    assert len(targets.unique()) == 5000


def test_a_plateau_needs_more_features():
    told = refused("sines", features=5, intensities="plateau")
    assert told.endswith("a plateau of 5 leading features needs more in all, got 5")


def test_the_step_is_at_zero():
    data = Step(train_size=500, test_size=4).load()
    assert data.test.inputs.flatten().tolist() == [-0.75, -0.25, 0.25, 0.75]  # pyright: ignore
    assert data.test.targets.flatten().tolist() == [0, 0, 1, 1]
    x = data.train.inputs
    assert isinstance(x, Tensor)
    assert torch.equal(data.train.targets, (x > 0).float())
    assert -1 <= x.min() < -0.9
    assert 0.9 < x.max() <= 1


def test_an_odd_number_of_test_points_would_have_one_at_the_step():
    assert "multiple of 2" in refused("step", test_size=3)


def test_linear_targets_are_sums_of_scaled_inputs():
    task = GaussianLinear(scales=(1.0, -2.0, 0.0), variances=(2.0, 1.0, 0.5), train_size=9)
    data = task.load()
    x = data.train.inputs
    assert isinstance(x, Tensor)
    torch.testing.assert_close(data.train.targets, x[:, :1] - 2 * x[:, 1:2])
    torch.testing.assert_close((x.double().T @ x.double() / 9).numpy(), np.diag(task.moments()), rtol=1e-6, atol=1e-6)
    apart = task.model_copy(update={"apart": True}).load()
    torch.testing.assert_close(apart.train.targets, x * torch.tensor(task.scales))
    assert apart.outputs == 3
    assert (task.target() == [1, -2, 0]).all()


def test_free_draws_have_the_variances_in_the_mean():
    task = GaussianLinear(scales=(1.0, 1.0), variances=(4.0, 0.25), exact=False, train_size=20_000)
    x = inputs(task).double()
    np.testing.assert_allclose(x.T @ x / len(x), np.diag([4, 0.25]), atol=0.15)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"scales": (1.0, 2.0), "variances": (1.0,)}, "each scale needs a variance, got 2 scales, 1 variances"),
        ({"variances": (1.0, 1.0, 0.0, 1.0, 1.0)}, "variances must be above 0, got (1.0, 1.0, 0.0, 1.0, 1.0)"),
        ({"train_size": 4}, "exact moments of 5 inputs need as many points, got train_size 4"),
    ],
)
def test_linear_targets_that_cannot_be_are_refused(fields: dict, told: str):
    assert told in refused("gaussian_linear", **fields)


OPERATIONS = {
    "addition": lambda a, b, c, p: (a + b - c) % p == 0,
    "subtraction": lambda a, b, c, p: (a - b - c) % p == 0,
    "multiplication": lambda a, b, c, p: (a * b - c) % p == 0,
    "division": lambda a, b, c, p: b != 0 and (b * c - a) % p == 0,
}


@given(st.sampled_from(sorted(OPERATIONS)), st.sampled_from([2, 3, 5, 7, 11]), st.floats(0.2, 0.8), st.integers(0, 9))
@settings(max_examples=30)
def test_each_pair_of_the_table_stands_once_with_its_result(operation: str, p: int, share: float, seed: int):
    task = Modular(p=p, operation=operation, share=share, data_seed=seed)  # pyright: ignore
    try:
        data = task.load()
    except DataError:
        assert p == 2
        return
    words = torch.cat([data.train.inputs, data.test.inputs])[..., 0]  # pyright: ignore
    results = torch.cat([data.train.targets, data.test.targets])
    a, b = words[:, 0] - 1, words[:, 2] - 1
    pairs = set(zip(a.tolist(), b.tolist(), strict=True))
    assert len(pairs) == len(words) == p * (p - 1 if operation == "division" else p)
    holds = OPERATIONS[operation]
    assert all(holds(int(x), int(y), int(z), p) for x, y, z in zip(a, b, results, strict=True))
    assert len(data.train) == round(share * len(words))
    ((count,),) = data.codes.values()
    assert words.min() >= 1
    assert words.max() < count
    assert set(words[:, 1].tolist()) == {p + 1}


def test_numbers_are_both_one_hot():
    task = Modular(p=5, inputs="numbers")
    codes, numbers = task.model_copy(update={"inputs": "codes"}).load(), task.load()
    x = numbers.train.inputs
    assert isinstance(x, Tensor)
    a, b = (side.argmax(1) for side in x.split(5, 1))
    assert torch.equal(torch.stack([a, b], 1) + 1, codes.train.inputs[:, [0, 2], 0])  # pyright: ignore
    assert (x.sum(1) == 2).all()
    assert numbers.input_shape == (10,)
    assert not numbers.codes


def test_the_kernel_of_sentences_is_of_the_result():
    task = Modular(p=3)
    data = task.load()
    network = Transformer(dim=4, heads=1, depth=1).network(data.input_shape, data.outputs, data.codes)
    observed = task.observed(network)
    batch, targets = data.train.batch(torch.arange(2))
    outputs = network(batch)
    assert outputs.shape == (2, 4, 3)
    torch.testing.assert_close(observed(batch), outputs[:, -1])
    torch.testing.assert_close(task.observed_loss(observed(batch), targets), task.loss(outputs, targets))
    assert tangent_kernel(observed, batch).shape == (6, 6)
    assert task.score(outputs, outputs[:, -1].argmax(1)) == 1
    dense = Modular(p=3, inputs="numbers")
    assert isinstance(dense.observed(plain := nn.Linear(6, 3)), nn.Linear)
    assert dense.observed(plain) is plain


def test_division_needs_a_prime():
    told = "division needs a prime p, got 91, which 7 divides: choose another p"
    assert refused("modular", p=91).endswith(told)
    assert Modular(p=91, operation="addition").p == 91


@pytest.mark.parametrize(("share", "count"), [(1.0, 20), (1.5, 30), (0.001, 0)])
def test_more_than_the_table_has_is_refused(share: float, count: int):
    with pytest.raises(DataError) as caught:
        Modular(p=5, share=share).load()
    assert str(caught.value) == (
        f"task.share {share:g} takes {count} of the table's 20 pairs to learn from, expected some but not all: "
        "choose another share"
    )
