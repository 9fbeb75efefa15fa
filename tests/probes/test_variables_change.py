"""Variables that compare a kernel with an earlier one."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tangentscope.probes import collective_variables

SIDE = 6


def random_kernel(side: int = SIDE, seed: int = 0) -> Tensor:
    J = torch.randn(side, 2 * side, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return J @ J.T


def rotation(side: int, seed: int) -> Tensor:
    A = torch.randn(side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.linalg.qr(A).Q


def test_distance_and_velocity_against_the_definition():
    kernel, initial, previous = (random_kernel(seed=seed) for seed in range(3))

    def cosine(other: Tensor) -> float:
        return float((kernel * other).sum() / (kernel.norm() * other.norm()))

    names = ("kernel_distance", "kernel_velocity", "kernel_velocity_log")
    found = collective_variables(
        kernel, names, initial_kernel=initial, previous_kernel=previous, step=30, previous_step=20
    )
    assert found["kernel_distance"] == pytest.approx(1 - cosine(initial))
    assert found["kernel_velocity"] == pytest.approx((1 - cosine(previous)) / 10)
    assert found["kernel_velocity_log"] == pytest.approx((1 - cosine(previous)) / math.log(30 / 20))


def test_distances_by_hand():
    kernel, other = torch.diag(torch.tensor([1.0, 0.0])), torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    assert collective_variables(kernel, "kernel_distance", initial_kernel=other)["kernel_distance"] == pytest.approx(
        0.5
    )
    apart = torch.diag(torch.tensor([0.0, 3.0]))
    assert collective_variables(kernel, "kernel_distance", initial_kernel=apart)["kernel_distance"] == pytest.approx(1)
    assert collective_variables(kernel, "kernel_distance", initial_kernel=7 * kernel)["kernel_distance"] == 0


def test_small_distances_keep_their_digits():
    # cos of the angle between diag(1, 0) and diag(1, ε) is 1 − ε²/2, which 1 − cos in float64 takes for 1 at ε = 1e-9.
    kernel, near = torch.diag(torch.tensor([1.0, 0.0])).double(), torch.diag(torch.tensor([1.0, 1e-9]).double())
    found = collective_variables(kernel, "kernel_distance", initial_kernel=near)["kernel_distance"]
    assert found == pytest.approx(5e-19, rel=1e-6, abs=0)


@pytest.mark.parametrize(("step", "before", "per_step", "per_log"), [(5, 0, True, False), (5, 5, False, False)])
def test_velocities_without_a_time_are_undefined(step: int, before: int, per_step: bool, per_log: bool):
    names = ("kernel_velocity", "kernel_velocity_log")
    found = collective_variables(
        random_kernel(), names, previous_kernel=random_kernel(seed=1), step=step, previous_step=before
    )
    assert [math.isfinite(found[name]) for name in names] == [per_step, per_log]


def test_trace_ratio():
    found = collective_variables(2.5 * torch.eye(3), "trace_ratio", initial_kernel=torch.eye(3))
    assert found["trace_ratio"] == pytest.approx(1.5)


def misalignments(kernel: Tensor, other: Tensor) -> dict[str, float]:
    names = ("misalignment_subspace", "misalignment_vectors", "misalignment_rank")
    found = collective_variables(kernel, names, initial_kernel=other)
    again = collective_variables(
        kernel, ("misalignment_subspace_step", "misalignment_vectors_step"), previous_kernel=other
    )
    assert [found[name] for name in names[:2]] == list(again.values())
    return {name: float(value) for name, value in found.items()}


def test_nothing_rotates_when_only_eigenvalues_change():
    Q = rotation(SIDE, 0)
    kernels = [
        Q @ torch.diag(torch.tensor(values).double()) @ Q.T for values in ([9, 8, 4, 3, 2, 1], [7, 3, 2, 1.5, 1, 0.1])
    ]
    found = misalignments(*kernels)
    assert found["misalignment_subspace"] == pytest.approx(0, abs=1e-12)
    assert found["misalignment_vectors"] == pytest.approx(0, abs=1e-12)


def test_modes_that_swap_rotate_as_vectors_and_not_as_a_subspace():
    # All points alike in size, so that Θ̂ = Θ/2 and n follows from the eigenvalues (4, 3.6, 0.25, 0.15): round(e^S) = 2.
    H = torch.tensor([[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]).double() / 2
    kernel = H @ torch.diag(torch.tensor([4, 3.6, 0.25, 0.15]).double()) @ H.T
    swapped = H @ torch.diag(torch.tensor([3.6, 4, 0.25, 0.15]).double()) @ H.T
    p = np.array([4, 3.6, 0.25, 0.15]) / 8
    n = round(math.exp(-(p * np.log(p)).sum()))
    assert n == 2
    found = misalignments(kernel, swapped)
    assert found["misalignment_rank"] == n
    assert found["misalignment_subspace"] == pytest.approx(0, abs=1e-12)
    assert found["misalignment_vectors"] == pytest.approx(1)


def test_the_rank_is_that_of_the_cosine_normalised_kernel():
    diagonal = torch.diag(torch.tensor([1.0, 1e6, 1e3, 1.0]))
    assert collective_variables(diagonal, "misalignment_rank")["misalignment_rank"] == 4
    v = torch.randn(5, 1).double()
    assert collective_variables(v @ v.T, "misalignment_rank")["misalignment_rank"] == 1
    dead = torch.diag(torch.tensor([1.0, 0.0]))
    assert all(math.isnan(value) for value in misalignments(dead, torch.eye(2)).values())


def test_misalignment_of_unrelated_kernels_is_at_its_chance_level():
    side, n = 12, 4
    vectors = [rotation(side, seed).numpy() for seed in range(400)]
    found = [
        collective_variables(
            torch.eye(side),
            "misalignment_subspace",
            eigenvectors=V,
            initial_eigenvectors=W,
            misalignment_rank=float(n),
        )["misalignment_subspace"]
        for V, W in zip(vectors[::2], vectors[1::2], strict=True)
    ]
    assert np.mean(found) == pytest.approx(1 - n / side, abs=4 * np.std(found) / math.sqrt(len(found)))
    assert np.std(found) < 0.1


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(0, 2**32 - 2))
def test_bounds(side: int, seed: int):
    found = misalignments(random_kernel(side, seed), random_kernel(side, seed + 1))
    n = found.pop("misalignment_rank")
    assert n in range(1, side + 1)
    for value in found.values():
        assert -1e-12 <= value <= 1
    assert found["misalignment_subspace"] <= 1 - max(0, 2 * n - side) / n + 1e-9  # large subspaces must meet
