"""Variational auto-encoders: both halves, their shapes, the draw between them, and their kernels by rules alone."""

from math import prod
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

from tangentscope.models import MODELS, ModelError
from tangentscope.models.vae import VAE, Autoencoder
from tangentscope.probes import kernel_plan, tangent_kernel
from tangentscope.probes.kernels.plan import PER_SAMPLE

CASES: dict[str, dict[str, Any]] = {
    "dense": {"kind": "dense", "width": 6, "latent": 3},
    "dense, deep": {"kind": "dense", "width": 5, "depth": 3, "latent": 2, "activation": "tanh"},
    "conv": {"kind": "conv", "width": 3, "latent": 3},
    "conv, deep": {"kind": "conv", "width": 2, "depth": 2, "latent": 2, "activation": "silu"},
}
SHAPE = (1, 6, 5)


@pytest.fixture(params=CASES)
def vae(request: pytest.FixtureRequest) -> VAE:
    return VAE(**CASES[request.param])


def build(vae: VAE, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> Autoencoder:
    torch.manual_seed(seed)
    return vae.build(shape, prod(shape))


SIDES = st.integers(1, 33)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["dense", "conv"]), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), SIDES, SIDES)
def test_any_size_fits_any_image(kind: Any, width: int, depth: int, latent: int, height: int, wide: int):
    vae = VAE(kind=kind, width=width, depth=depth, latent=latent)
    network = build(vae, (2, height, wide))
    pixels, images = 2 * height * wide, torch.rand(3, 2, height, wide)
    assert network(images).shape == (3, pixels + 2 * latent)
    assert network.mean(images).shape == (3, latent)
    assert network.decode(torch.randn(3, latent)).shape == (3, pixels)


def test_outputs_are_decoded_from_a_draw_of_what_was_encoded(vae: VAE):
    network, images = build(vae).eval(), torch.rand(4, *SHAPE)
    torch.manual_seed(5)
    outputs = network(images)
    mean, log_variance = network.encoder(images).split(vae.latent, dim=1)
    torch.manual_seed(5)
    z = mean + (log_variance / 2).exp() * torch.randn(4, vae.latent)
    torch.testing.assert_close(outputs, torch.cat([network.decode(z), mean, log_variance], 1))
    torch.testing.assert_close(network.mean(images), mean)
    assert not torch.equal(network(images), outputs), "another draw"


def test_the_two_halves_mirror_each_other():
    network = build(VAE(kind="conv", width=4, depth=2), (1, 28, 28))
    shapes: list[tuple[int, ...]] = []
    for layer in (*network.encoder, *network.decoder):
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda layer, inputs, output: shapes.append(tuple(output.shape[1:])))
    network(torch.rand(1, 1, 28, 28))
    assert shapes == [(4, 14, 14), (4, 7, 7), (4, 14, 14), (1, 28, 28)]
    dense = build(VAE(width=9, depth=2, latent=3), (1, 28, 28))
    sizes = [(layer.in_features, layer.out_features) for layer in dense.modules() if isinstance(layer, nn.Linear)]
    assert sizes == [(784, 9), (9, 9), (9, 6), (3, 9), (9, 9), (9, 784)]


def test_all_of_a_fresh_network_learns(vae: VAE):
    network = build(vae)
    network(torch.rand(4, *SHAPE)).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_global_seed_fixes_every_parameter(vae: VAE):
    one, same, other = (torch.cat([p.flatten() for p in build(vae, seed=seed).parameters()]) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_weights_have_the_variance_of_their_initialisation():
    for init, fan in [("lecun", 1 / 784), ("he", 2 / 784)]:
        first = build(VAE(width=400, init=init), (1, 28, 28)).encoder[1]
        assert first.weight.var().item() == pytest.approx(fan, rel=0.02)


class Halves(nn.Module):
    """What a task would have the kernel of: no draw is in it."""

    def __init__(self, network: Autoencoder):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network.decode(self.network.mean(x)).sigmoid()


def test_the_kernel_of_both_halves_is_exact_layer_by_layer(vae: VAE):
    network = Halves(build(vae)).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():  # no bias at 0, where a mistake could hide
            parameter.add_(0.1 * torch.randn(parameter.shape))
    x = torch.rand(3, *SHAPE, dtype=torch.float64)
    parameters = list(network.parameters())
    rows = [torch.autograd.grad(value, parameters, retain_graph=True) for value in network(x).flatten()]
    jacobian = torch.stack([torch.cat([gradient.flatten() for gradient in row]) for row in rows])
    expected, pixels = jacobian @ jacobian.T, prod(SHAPE)
    torch.testing.assert_close(tangent_kernel(network, x), expected, rtol=1e-9, atol=1e-9 * expected.max().item())
    traced = expected.view(3, pixels, 3, pixels).diagonal(dim1=1, dim2=3).mean(-1)
    torch.testing.assert_close(tangent_kernel(network, x, outputs="traced"), traced, rtol=1e-9, atol=1e-12)
    assert [layer.name for layer in kernel_plan(network, x).layers if layer.path == PER_SAMPLE] == []


def test_what_cannot_be_built_is_said():
    with pytest.raises(ModelError, match=r"^vae gives back what it gets, 30 numbers for each point; .* 10 outputs"):
        VAE(width=4).build(SHAPE, 10)
    with pytest.raises(ModelError, match=r"^vae takes images .*, got inputs of shape \[9\]: choose another"):
        VAE(kind="conv", width=4).build((9,), 9)
    with pytest.raises(ValidationError, match="kind"):
        VAE(kind="deep", width=4)  # pyright: ignore[reportArgumentType]
    assert MODELS["vae"] is VAE
