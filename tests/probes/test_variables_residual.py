"""Variables of the residual against loops, autograd and an explicit Gauss-Newton matrix."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tangentscope.probes import collective_variables


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Net:
    """A small network on N points, and its derivatives by autograd."""

    def __init__(self, outputs: int):
        self.model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, outputs)).double()
        self.x = normal(7, 4, seed=1)
        self.f = self.model(self.x)

    def gradient(self, value: Tensor) -> Tensor:
        gradients = torch.autograd.grad(value, list(self.model.parameters()), retain_graph=True)
        return torch.cat([gradient.flatten() for gradient in gradients])

    @property
    def jacobian(self) -> Tensor:
        return torch.stack([self.gradient(value) for value in self.f.flatten()])


@pytest.fixture(params=[1, 3])
def net(request: pytest.FixtureRequest) -> Net:
    return Net(request.param)


def modes(kernel: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and columns, descending."""
    values, vectors = np.linalg.eigh(kernel.numpy())
    return values[::-1], vectors[:, ::-1]


def test_kinetic_energies_are_those_of_gradient_flow(net: Net):
    y = normal(*net.f.shape, seed=2)
    J = net.jacobian
    velocity = (-J @ net.gradient(((net.f - y) ** 2).sum() / 2)).reshape(net.f.shape)  # ḟ = −J ∂L/∂θ
    expected = [0.5 * sum(float(v) ** 2 for v in row) for row in velocity]
    found = collective_variables(J @ J.T, ("kinetic_energies", "kinetic_energy"), residual=net.f - y)
    np.testing.assert_allclose(found["kinetic_energies"], expected, rtol=1e-10)
    assert found["kinetic_energy"] == pytest.approx(np.mean(expected))


def test_kinetic_energy_bound_is_cvs_sum_over_gradients(net: Net):
    y = normal(*net.f.shape, seed=2)
    J = net.jacobian
    losses = ((net.f - y) ** 2).sum(1) / 2
    gradients = sum(float((net.gradient(loss) ** 2).sum()) for loss in losses)  # Σ_p ‖∂L(x_p)/∂θ‖²
    traces = [sum(float(J[k] @ J[k]) for k in range(i * y.shape[1], (i + 1) * y.shape[1])) for i in range(len(y))]
    found = collective_variables(J @ J.T, "kinetic_energy_bound", residual=net.f - y)
    assert found["kinetic_energy_bound"] == pytest.approx(np.mean([0.5 * trace * gradients for trace in traces]))


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 3), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_kinetic_energy_is_within_n_times_its_bound(points: int, outputs: int, parameters: int, seed: int):
    J, r = normal(points * outputs, parameters, seed=seed), normal(points, outputs, seed=seed + 1)
    found = collective_variables(J @ J.T, ("kinetic_energy", "kinetic_energy_bound"), residual=r)
    assert found["kinetic_energy"] <= points * found["kinetic_energy_bound"] * (1 + 1e-9)


def test_kinetic_energy_bound_holds_for_unrelated_points_and_not_for_equal_ones():
    r = torch.ones(4, 1, dtype=torch.float64)
    names = ("kinetic_energy", "kinetic_energy_bound")
    assert collective_variables(torch.eye(4), names, residual=r) == pytest.approx(
        dict(zip(names, (0.5, 2), strict=True))
    )
    assert collective_variables(torch.ones(4, 4), names, residual=r) == pytest.approx(
        dict(zip(names, (8, 2), strict=True))
    )


def test_modes_against_loops(net: Net):
    y = normal(*net.f.shape, seed=2)
    residual = (net.f - y).detach()
    kernel = net.jacobian @ net.jacobian.T + torch.diag(torch.arange(residual.numel()) / 10)  # all modes apart
    values, vectors = modes(kernel)
    r = residual.flatten().numpy()
    factors, weights = [], []
    for k in range(len(r)):
        v = vectors[:, k]
        v = -v if v[np.abs(v).argmax()] < 0 else v
        factors.append(values[k] * float(v @ r))
        weights.append(float(v @ r) ** 2)
    names = ("projection_factors", "mode_coupling", "loss_rate_shares", "spectral_position")
    found = collective_variables(kernel, names, residual=residual)
    np.testing.assert_allclose(found["projection_factors"], factors, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found["mode_coupling"], np.cumsum(weights) / (r @ r), rtol=1e-8)
    rates = values * np.array(weights)
    np.testing.assert_allclose(found["loss_rate_shares"], rates / rates.sum(), rtol=1e-8, atol=1e-12)
    rate = float(r @ kernel.numpy() @ r)
    assert found["spectral_position"] == pytest.approx(rate / (r @ r) / float(kernel.trace()))


def test_modes_of_a_diagonal_kernel_by_hand():
    kernel, r = torch.diag(torch.tensor([1.0, 4.0, 0.0, 0.0])), torch.tensor([[2.0], [-1.0], [3.0], [1.0]])
    found = collective_variables(
        kernel, ("projection_factors", "mode_coupling", "loss_rate_shares", "spectral_position"), residual=r
    )
    np.testing.assert_allclose(found["projection_factors"], [-4, 2, 0, 0], atol=1e-14)
    np.testing.assert_allclose(found["mode_coupling"], [1 / 15, 5 / 15, 10 / 15, 1])  # the null space shares its 10
    np.testing.assert_allclose(found["loss_rate_shares"], [0.5, 0.5, 0, 0])
    assert found["spectral_position"] == pytest.approx(8 / 15 / 5)


def test_a_residual_in_one_mode():
    J = normal(6, 9)
    values, vectors = modes(J @ J.T)
    for k in (0, 3, 5):
        r = torch.from_numpy(7 * vectors[:, k].copy()).reshape(3, 2)
        found = collective_variables(J @ J.T, ("spectral_position", "mode_coupling", "loss_rate_shares"), residual=r)
        assert found["spectral_position"] == pytest.approx(values[k] / values.sum())
        np.testing.assert_allclose(found["mode_coupling"], np.arange(6) >= k, atol=1e-12)
        np.testing.assert_allclose(found["loss_rate_shares"], np.arange(6) == k, atol=1e-12)


def test_no_residual_is_nan_where_it_is_divided_by():
    r = torch.zeros(3, 1)
    names = ("spectral_position", "mode_coupling", "loss_rate_shares", "kinetic_energy", "kinetic_energy_bound")
    found = collective_variables(torch.eye(3), names, residual=r)
    assert {name for name, value in found.items() if np.isnan(value).all()} == set(names[:3])
    assert found["kinetic_energy"] == found["kinetic_energy_bound"] == 0


def test_sharpness_is_that_of_the_gauss_newton_matrix():
    net = Net(3)
    targets = torch.arange(7) % 3
    J = net.jacobian
    H = torch.stack(
        [
            torch.autograd.functional.hessian(lambda f, t=target: F.cross_entropy(f, t), row)
            for row, target in zip(net.f.detach(), targets, strict=True)
        ]
    )
    gauss_newton = J.T @ torch.block_diag(*H) @ J / 7
    found = collective_variables(J @ J.T, "sharpness", output_hessian=H)["sharpness"]
    assert found == pytest.approx(float(torch.linalg.eigvalsh(gauss_newton)[-1]))
    mixed = H.clone()
    mixed[0] = -mixed[0]  # an indefinite Hessian has its Gauss-Newton matrix too
    gauss_newton = J.T @ torch.block_diag(*mixed) @ J / 7
    found = collective_variables(J @ J.T, "sharpness", output_hessian=mixed)["sharpness"]
    assert found == pytest.approx(float(torch.linalg.eigvalsh(gauss_newton)[-1]))


def test_sharpness_of_squares_is_the_largest_eigenvalue_over_n(net: Net):
    kernel = net.jacobian @ net.jacobian.T
    H = torch.eye(net.f.shape[1]).expand(7, -1, -1)
    found = collective_variables(kernel, ("sharpness", "largest_eigenvalue"), output_hessian=H)
    assert found["sharpness"] == pytest.approx(found["largest_eigenvalue"] / 7)


def test_a_step_above_two_over_sharpness_diverges():
    x, y = normal(9, 3), normal(9, 1, seed=1)
    sharpness = collective_variables(x @ x.T, "sharpness", output_hessian=torch.ones(9, 1, 1))["sharpness"]
    for factor, diverges in ((0.99, False), (1.01, True)):
        w = normal(3, 1, seed=2)
        for _ in range(2000):
            w = w - factor * 2 / sharpness * x.T @ (x @ w - y) / 9
        assert (float(w.norm()) > 1e3) == diverges
