import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tangentscope.probes import VARIABLES, collective_variables
from tangentscope.probes.spectra import eigensolvers

ENTROPIES = ("entropy", "entropy_cosine", "magnitude_entropy")
RANKS = ("effective_rank", "effective_rank_cosine", "participation_ratio")
SHARES = ("entropy_normalised",)
MAGNITUDES = ("trace", "trace_per_entry", "largest_eigenvalue")
NAMES = (*ENTROPIES, *RANKS, *SHARES, *MAGNITUDES)


def random_kernel(side: int, rank: int, seed: int) -> torch.Tensor:
    J = torch.randn(side, rank, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return J @ J.T


def test_needs_are_the_argument_names():
    assert VARIABLES["trace"].needs == ("kernel",)
    assert VARIABLES["entropy"].needs == ("eigenvalues",)
    assert VARIABLES["entropy_cosine"].needs == ("cosine_eigenvalues",)


@pytest.mark.parametrize("side", [2, 7])
def test_identity(side: int):
    found = collective_variables(torch.eye(side), NAMES)
    expected = dict.fromkeys(ENTROPIES, math.log(side)) | dict.fromkeys(RANKS, side)
    expected |= {"entropy_normalised": 1, "trace": side, "trace_per_entry": 1, "largest_eigenvalue": 1}
    assert found == pytest.approx(expected, rel=1e-12)


def test_rank_one():
    v = torch.tensor([1.0, -2.0, 2.0], dtype=torch.float64)
    found = collective_variables(torch.outer(v, v), NAMES)
    p = np.array([1, 2, 2]) / 5
    expected = dict.fromkeys(ENTROPIES, 0.0) | dict.fromkeys(RANKS, 1)
    expected |= {"entropy_normalised": 0, "trace": 9, "trace_per_entry": 3, "largest_eigenvalue": 9}
    expected["magnitude_entropy"] = float(-(p * np.log(p)).sum())
    assert found == pytest.approx(expected, abs=1e-12)


def test_two_by_two_by_hand():
    # Eigenvalues 3 and 1; Θ̂ is Θ/2.
    found = collective_variables(torch.tensor([[2.0, 1.0], [1.0, 2.0]]), NAMES)
    S = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert found["entropy"] == pytest.approx(S)
    assert found["entropy_normalised"] == pytest.approx(S / math.log(2))
    assert found["effective_rank"] == pytest.approx(math.exp(S))
    assert found["entropy_cosine"] == pytest.approx(S)
    assert found["participation_ratio"] == pytest.approx(16 / 10)
    assert found["largest_eigenvalue"] == pytest.approx(3)


def test_cosine_variables_forget_the_magnitudes():
    # BSC App. B.3: diag(1, c) has effective rank 2 whatever c.
    found = collective_variables(torch.diag(torch.tensor([1.0, 1e6])), NAMES)
    assert found["effective_rank_cosine"] == pytest.approx(2)
    assert found["effective_rank"] < 1.001


kernels = st.builds(random_kernel, st.integers(2, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))


@given(kernels)
def test_bounds(kernel: torch.Tensor):
    side = len(kernel)
    found = collective_variables(kernel, NAMES)
    for name in ENTROPIES:
        assert 0 <= found[name] <= math.log(side) + 1e-12, name
    for name in RANKS:
        assert 1 - 1e-12 <= found[name] <= side * (1 + 1e-12), name
    assert 0 <= found["entropy_normalised"] <= 1 + 1e-12
    assert found["participation_ratio"] <= found["effective_rank"] * (1 + 1e-9)  # Rényi entropies fall with order
    assert 0 < found["largest_eigenvalue"] <= found["trace"] * (1 + 1e-12)


@given(kernels, st.sampled_from([1e-30, 1e-3, 7.0, 1e30]), st.randoms(use_true_random=False))
def test_scale_and_order_of_points(kernel: torch.Tensor, scale: float, random):
    order = list(range(len(kernel)))
    random.shuffle(order)
    before = collective_variables(kernel, NAMES)
    after = collective_variables(scale * kernel[order][:, order], NAMES)
    for name in (*ENTROPIES, *RANKS, *SHARES):
        assert after[name] == pytest.approx(before[name], rel=1e-8, abs=1e-8), name
    for name in MAGNITUDES:
        assert after[name] == pytest.approx(scale * before[name], rel=1e-10), name


def test_zero_kernel():
    found = collective_variables(torch.zeros(3, 3), NAMES)
    for name in (*ENTROPIES, *RANKS, *SHARES):
        assert math.isnan(found[name]), name
    for name in MAGNITUDES:
        assert found[name] == 0, name


def test_one_dead_point_leaves_only_the_cosine_undefined():
    found = collective_variables(torch.diag(torch.tensor([1.0, 1.0, 0.0])), NAMES)
    assert {name for name, value in found.items() if math.isnan(value)} == {"entropy_cosine", "effective_rank_cosine"}
    assert found["effective_rank"] == pytest.approx(2)


def test_side_one():
    found = collective_variables(torch.tensor([[4.0]]), NAMES)
    assert found["entropy"] == 0
    assert math.isnan(found["entropy_normalised"])


def test_everything_is_float64():
    kernel = random_kernel(6, 6, 0).float()
    found = collective_variables(kernel, NAMES)
    assert found == collective_variables(kernel.double(), NAMES)
    assert all(type(value) is float for value in found.values())


def test_intermediate_results_are_computed_once(monkeypatch: pytest.MonkeyPatch):
    calls: list[int] = []
    solve = eigensolvers.eigenvalues

    def counted(matrices: torch.Tensor) -> np.ndarray:
        calls.extend(len(matrix) for matrix in matrices)
        return solve(matrices)

    monkeypatch.setattr(eigensolvers, "eigenvalues", counted)
    kernel = random_kernel(4, 4, 0)
    collective_variables(kernel, NAMES)
    assert len(calls) == 2  # Θ and Θ̂
    calls.clear()
    collective_variables(kernel, ("trace", "participation_ratio", "magnitude_entropy"))
    assert not calls


def test_default_names_and_single_name():
    kernel = random_kernel(4, 4, 0)
    assert list(collective_variables(kernel)) == ["trace", "entropy", "effective_rank"]
    assert list(collective_variables(kernel, "entropy")) == ["entropy"]


@pytest.mark.parametrize(
    ("kernel", "names", "error", "message"),
    [
        (torch.eye(2), ("entrpy",), ValueError, "unknown variable 'entrpy', did you mean 'entropy'.*trace_per_entry"),
        (torch.eye(2), ("qqqq",), ValueError, r"unknown variable 'qqqq'. Expected one of: kernel_distance,"),
        (torch.zeros(2, 3), ("trace",), ValueError, r"shape \[2, 3\], expected a square"),
        (torch.zeros(4), ("trace",), ValueError, r"shape \[4\], expected a square"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_errors_say_what_to_do(kernel: torch.Tensor, names: tuple[str, ...], error: type[Exception], message: str):
    with pytest.raises(error, match=message) as caught:
        collective_variables(kernel, names)
    assert "\n" not in str(caught.value)
