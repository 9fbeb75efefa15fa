"""Conjugate kernels are inner products of what enters layers, and make up the tangent kernel of dense nets."""

import pytest
import torch
from torch import Tensor, nn

from tangentscope import probes
from tangentscope.models import MODELS
from tangentscope.probes import conjugate_kernels


def dense() -> nn.Sequential:
    layers = nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5, bias=False), nn.ReLU(), nn.Linear(5, 3)
    return nn.Sequential(*layers).double()


def sensitivity(network: nn.Module, x: Tensor, layer: nn.Module) -> Tensor:
    """S[(i,a),(j,b)] = ⟨∂f_a(x_i)/∂h, ∂f_b(x_j)/∂h⟩, of what the layer gives, h (BSC eq. 13)."""
    given: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _, __, output: given.append(output))
    outputs = network(x)
    handle.remove()
    rows = [torch.autograd.grad(f, given, retain_graph=True)[0][i] for i, point in enumerate(outputs) for f in point]
    return torch.stack(rows) @ torch.stack(rows).T


def test_sensitivities_times_conjugate_kernels_are_the_tangent_kernel():
    """Θ = Σ_l S_l ∘ (K_l + 1), with the 1 for a bias (BSC eq. 12), and layer by layer."""
    network, x = dense(), torch.randn(7, 6, dtype=torch.float64)
    total = torch.zeros(21, 21, dtype=torch.float64)
    by_layer = probes.layer_kernels(network, x)
    conjugate = conjugate_kernels(network, x)
    assert list(conjugate) == list(by_layer)
    for name, kernel in conjugate.items():
        layer = network.get_submodule(name)
        entering = kernel + (layer.bias is not None)
        part = sensitivity(network, x, layer) * entering.repeat_interleave(3, 0).repeat_interleave(3, 1)
        torch.testing.assert_close(part, by_layer[name], rtol=1e-10, atol=1e-12)
        total += part
    torch.testing.assert_close(total, probes.tangent_kernel(network, x), rtol=1e-10, atol=1e-12)


def test_the_last_one_is_the_feature_kernel():
    network, x = dense(), torch.randn(30, 6, dtype=torch.float64)
    φ = probes.feature_map(network)(x).values
    kernel = conjugate_kernels(network, x, "4")["4"]
    torch.testing.assert_close(kernel, φ @ φ.T)
    metrics = probes.feature_metrics(network, (x, None), names=["feature_trace", "feature_effective_rank"])
    variables = probes.collective_variables(kernel, ["trace_per_entry", "effective_rank"])
    assert metrics["feature_trace"] == pytest.approx(variables["trace_per_entry"])
    assert metrics["feature_effective_rank"] == pytest.approx(variables["effective_rank"])


@pytest.mark.parametrize("points", [1, 2, 9])
def test_few_points_at_a_time_give_the_same(points: int):
    network, x = dense(), torch.randn(points, 6, dtype=torch.float64)
    whole = conjugate_kernels(network, x)
    for name, kernel in conjugate_kernels(network, x, memory_bytes=3000).items():
        torch.testing.assert_close(kernel, whole[name], rtol=1e-12, atol=1e-12)


def test_layers_of_images_take_all_positions():
    network, images = MODELS["cnn"](width=4).build((3, 8, 8), 10), torch.randn(5, 3, 8, 8)
    kernels = conjugate_kernels(network, images)
    assert list(kernels) == ["conv_1", "conv_2", "conv_3", "head"]
    hidden = images
    for name, module in network.named_children():
        if name in kernels:
            torch.testing.assert_close(kernels[name], hidden.flatten(1) @ hidden.flatten(1).T, rtol=1e-4, atol=1e-4)
        hidden = module(hidden).detach()


def test_weights_that_stand_first_and_stacks_of_matrices():
    class Stacks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.randn(2, 2, 3))

        def forward(self, x: Tensor) -> Tensor:
            hidden = torch.tanh(self.first @ x.T).T  # [N, 4]
            stacked = hidden.unflatten(1, (2, 2)).transpose(0, 1) @ self.second  # [2, N, 3]
            return stacked.sum(0)

    network, x = Stacks(), torch.randn(5, 6)
    kernels = probes.conjugate_kernels(network, x)
    hidden = torch.tanh(x @ network.first.T).detach()
    torch.testing.assert_close(kernels[""], x @ x.T + hidden @ hidden.T)  # both weights are the network's own


def test_a_layer_that_some_points_come_by_is_left_out():
    class Routed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList([nn.Linear(4, 3), nn.Linear(4, 3)])
            self.head = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            first = x[:, 0] > 0
            hidden = x.new_zeros(len(x), 3)
            hidden = hidden.index_put((first,), self.experts[0](x[first]))
            return self.head(hidden.index_put((~first,), self.experts[1](x[~first])))

    network, x = Routed(), torch.randn(8, 4)
    x[:5, 0], x[5:, 0] = 1, -1
    assert set(conjugate_kernels(network, x)) == {"head"}
    with pytest.raises(ValueError, match=r"'experts.0' is no layer of Routed that multiplies equally many rows"):
        conjugate_kernels(network, x, "experts.0")


def test_a_layer_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"'haed' is no layer of Sequential .*did you mean 'head'"):
        conjugate_kernels(MODELS["cnn"](width=4).build((3, 8, 8), 10), torch.randn(5, 3, 8, 8), ["haed"])
