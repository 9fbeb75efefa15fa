import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tangentscope.probes import eigenvalues, spectrum
from tangentscope.probes.spectra import eigensolvers
from tangentscope.probes.spectra.exact import eigensystem, spectra


@pytest.fixture(autouse=True, params=["torch", "numpy"])
def _solver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(eigensolvers, "_torch_is_ahead", lambda device, threads: request.param == "torch")


def kernel_with(values: list[float]) -> torch.Tensor:
    """A kernel with the given eigenvalues and random eigenvectors."""
    Q = torch.linalg.qr(torch.randn(len(values), len(values), dtype=torch.float64)).Q
    return Q @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ Q.T


def test_known_eigenvalues_in_descending_order():
    found = spectrum(kernel_with([1.0, 4.0, 0.25]))
    np.testing.assert_allclose(found.eigenvalues, [4, 1, 0.25], rtol=1e-12)
    assert found.clipped_mass == 0
    np.testing.assert_array_equal(eigenvalues(torch.eye(3)), [1, 1, 1])


def test_float32_kernels_are_solved_in_float64():
    kernel = kernel_with([1.0, 1e-3, 1e-6]).float()
    found = spectrum(kernel).eigenvalues
    assert found.dtype == np.float64
    reference = np.linalg.eigvalsh(kernel.double().numpy())[::-1]
    np.testing.assert_allclose(found, reference, rtol=0, atol=1e-14)  # float32 would be off by 1e-7


def test_negative_eigenvalues_are_clipped_and_reported():
    found = spectrum(kernel_with([3.0, 0.5, -0.5]))
    np.testing.assert_allclose(found.eigenvalues, [3, 0.5, 0], atol=1e-12)
    assert found.eigenvalues[2] == 0
    assert found.clipped_mass == pytest.approx(0.5 / 4)


def test_noise_below_float64_resolution_is_zero():
    v = torch.randn(50, dtype=torch.float64)
    found = spectrum(torch.outer(v, v))
    assert found.eigenvalues[0] == pytest.approx(float(v @ v))
    assert not found.eigenvalues[1:].any()
    assert 0 <= found.clipped_mass < 1e-13


def test_zero_and_negative_kernels():
    zero = spectrum(torch.zeros(3, 3))
    assert not zero.eigenvalues.any()
    assert zero.clipped_mass == 0
    negative = spectrum(-torch.eye(3))
    assert not negative.eigenvalues.any()
    assert negative.clipped_mass == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("entry", [(0, 0), (0, 1)])
def test_non_finite_kernels_give_nan(bad: float, entry: tuple[int, int]):
    kernel = torch.eye(3)
    kernel[entry] = kernel[entry[::-1]] = bad
    found = spectrum(kernel)
    assert found.eigenvalues.shape == (3,)
    assert np.isnan(found.eigenvalues).all()
    assert math.isnan(found.clipped_mass)


def test_arrays_are_as_good_as_tensors():
    kernel = kernel_with([2.0, 1.0])
    np.testing.assert_array_equal(eigenvalues(kernel.numpy()), eigenvalues(kernel))


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_both_products_of_a_matrix_share_their_spectrum(rows: int, columns: int, seed: int):
    J = torch.randn(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    ours, dual = eigenvalues(J @ J.T), eigenvalues(J.T @ J)
    shared = min(rows, columns)
    scale = float((J**2).sum())
    np.testing.assert_allclose(ours[:shared], dual[:shared], atol=1e-12 * scale)
    assert (ours[shared:] <= 1e-12 * scale).all()
    assert ours.sum() == pytest.approx(scale)
    assert (np.diff(ours) <= 0).all()


@pytest.mark.parametrize(
    ("kernel", "error", "message"),
    [
        (torch.zeros(2, 3), ValueError, r"shape \[2, 3\], expected a square"),
        (torch.zeros(2, 2, 3, 3), ValueError, r"shape \[2, 2, 3, 3\].*reshape"),
        (torch.zeros(0, 0), ValueError, r"shape \[0, 0\]"),
        (torch.tensor([[1.0, 0.5], [0.2, 1.0]]), ValueError, "differs from its transpose by up to 0.3"),
        (torch.eye(2, dtype=torch.int64), TypeError, "dtype torch.int64"),
        ([[1.0]], TypeError, "is a list, expected a tensor or array"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_errors_say_what_to_do(kernel: object, error: type[Exception], message: str):
    with pytest.raises(error, match=message) as caught:
        spectrum(kernel)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_tests_check_shapes():
    """The annotations are live under pytest: a wrong shape is refused before our own message."""
    with pytest.raises(TypeError, match=r"(?s)Type-check.*kernel"):
        spectrum(torch.zeros(2, 3))


def test_a_stack_is_solved_as_each_alone():
    kernels = [kernel_with([3.0, 0.5, -0.5]), kernel_with([1.0, 2.0, 0.0]), torch.zeros(3, 3).double()]
    for found, kernel in zip(spectra(kernels), kernels, strict=True):
        alone = spectrum(kernel)
        np.testing.assert_array_equal(found.eigenvalues, alone.eigenvalues)
        assert found.clipped_mass == alone.clipped_mass


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_draw_that_is_not_finite_is_nan_for_itself_alone(bad: float):
    kernels = [kernel_with([3.0, 1.0]) for _ in range(3)]
    kernels[1][0, 0] = bad
    first, second, third = spectra(kernels)
    assert np.isnan(second.eigenvalues).all()
    assert math.isnan(second.clipped_mass)
    np.testing.assert_allclose([first.eigenvalues, third.eigenvalues], [[3, 1], [3, 1]])
    assert all(np.isnan(found.eigenvalues).all() for found in spectra(kernels[1:2]))
    assert spectra(kernels[:0]) == []


def test_eigensystem():
    kernel = kernel_with([5.0, 2.0, 1.0, 0.1])
    found, vectors = eigensystem(kernel)
    np.testing.assert_allclose(found.eigenvalues, [5, 2, 1, 0.1])
    np.testing.assert_allclose(kernel.numpy() @ vectors, vectors * found.eigenvalues, atol=1e-12)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(4), atol=1e-12)
    assert (vectors[np.abs(vectors).argmax(0), np.arange(4)] > 0).all()
    broken, nothing = eigensystem(torch.full((2, 2), math.nan).double())
    assert np.isnan(broken.eigenvalues).all()
    assert np.isnan(nothing).all()
