"""Variables of the spectrum alone, against closed forms and simulation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tangentscope.probes import collective_variables
from tangentscope.probes.variables.spectrum.eigenvalues_leading import COUNT


def diagonal(*values: float) -> torch.Tensor:
    return torch.diag(torch.tensor(values, dtype=torch.float64))


def one(kernel: torch.Tensor, name: str, **given: object) -> float:
    return float(collective_variables(kernel, [name], **given)[name])


def test_by_hand():
    kernel = diagonal(1, 6, 3, 0)
    assert one(kernel, "largest_share") == pytest.approx(0.6)
    assert one(kernel, "condition_number") == pytest.approx(6)
    assert one(kernel, "numerical_rank") == 3
    assert one(kernel, "constant_overlap") == pytest.approx(0.5)
    assert one(torch.ones(5, 5), "constant_overlap") == pytest.approx(1)
    v = torch.tensor([4.0, -3.0, -3.0, 0.0])  # whose largest component is not of its sum's sign
    assert one(torch.outer(v, v), "constant_overlap") == pytest.approx(2 / math.sqrt(34) / 2)
    leading = collective_variables(kernel, "eigenvalues_leading")["eigenvalues_leading"]
    np.testing.assert_allclose(leading, [6, 3, 1, 0] + [math.nan] * (COUNT - 4))
    many = diagonal(*range(1, 16))
    np.testing.assert_allclose(
        collective_variables(many, "eigenvalues_leading")["eigenvalues_leading"], np.arange(15, 5, -1)
    )


@settings(deadline=None)
@given(st.integers(1, 7), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_rank_is_that_of_the_jacobian(rank: int, side: int, seed: int):
    J = torch.randn(side, rank, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    assert one(J @ J.T, "numerical_rank") == min(rank, side)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.7])
def test_tail_exponent_of_a_power_law_whatever_its_first_mode_and_its_noise(alpha: float):
    values = np.arange(1, 21) ** -alpha
    assert one(diagonal(*values), "tail_exponent") == pytest.approx(alpha, abs=1e-9)
    outlier = [50.0, *values[1:], 1e-7, 1e-9]
    assert one(diagonal(*outlier), "tail_exponent") == pytest.approx(alpha, abs=1e-9)


def test_tail_exponent_of_too_few_modes_is_undefined():
    assert math.isnan(one(diagonal(3, 2, 1), "tail_exponent"))
    assert math.isnan(one(diagonal(3, 2, 1, 1e-7), "tail_exponent"))
    assert one(diagonal(4, 3, 2, 1), "tail_exponent") > 0


@pytest.mark.parametrize("dimensions", [2, 10, 30, 60, 300])
def test_wishart_kernels_have_no_entropy_beyond_the_null(dimensions: int):
    side = 30
    gaps, entropies = [], []
    for seed in range(40):
        J = torch.randn(side, dimensions, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        gaps.append(one(J @ J.T, "entropy_wishart_gap"))
        entropies.append(one(J @ J.T, "entropy"))
    assert abs(np.mean(gaps)) < 1 / (2 * side)
    assert np.mean(entropies) < math.log(side) - 0.01  # that is, the null is not trivial


def test_entropy_beyond_the_null_tells_spectra_apart():
    assert one(torch.eye(7), "entropy_wishart_gap") == pytest.approx(0, abs=1e-9)
    heavy = diagonal(*(100 * np.arange(1, 31.0) ** -1.0))
    assert one(heavy, "entropy_wishart_gap") > 0.3
    assert abs(one(torch.ones(9, 9), "entropy_wishart_gap")) < 1 / 18  # rank one


@settings(deadline=None)
@given(st.integers(2, 6), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_centred_spectrum_against_the_centring_matrix(points: int, rows: int, seed: int):
    J = torch.randn(points * rows, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 1
    C = torch.kron(torch.eye(points).double() - 1 / points, torch.eye(rows).double())
    centred = C @ J @ J.T @ C
    found = collective_variables(J @ J.T, ("entropy_centred", "largest_share_centred"), points=points)
    assert found["entropy_centred"] == pytest.approx(one(centred, "entropy"), abs=1e-9)
    assert found["largest_share_centred"] == pytest.approx(one(centred, "largest_share"), rel=1e-9)


def test_a_kernel_that_cannot_tell_points_apart_has_no_centred_spectrum():
    block = torch.randn(2, 5).double()
    kernel = torch.ones(13, 13).double().kron(block @ block.T)
    blocks = kernel.reshape(13, 2, 13, 2)
    assert bool((blocks - blocks.mean(0)).any())  # the mean of 13 equal numbers is another by rounding
    found = collective_variables(kernel, ("entropy_centred", "largest_share_centred"), points=13)
    assert all(math.isnan(value) for value in found.values())
