from math import sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from tangentscope.models.cnn import CNN


def build(input_shape: tuple[int, int, int] = (1, 28, 28), seed: int = 0, **fields) -> nn.Sequential:
    torch.manual_seed(seed)
    return CNN(**fields).build(input_shape, 10)


def of_type(network: nn.Module, kind: type) -> list:
    return [module for module in network if isinstance(module, kind)]


SIDES = st.integers(1, 33)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 5), st.integers(1, 7), st.integers(0, 4), st.integers(1, 3), st.integers(1, 33), st.integers(1, 33)
)
def test_any_width_and_depth_fit_any_image(width: int, depth: int, hidden: int, channels: int, height: int, wide: int):
    network = build((channels, height, wide), width=width, depth=depth, hidden=hidden)
    assert network(torch.randn(2, channels, height, wide)).shape == (2, 10)
    assert len(of_type(network, nn.Conv2d)) == depth
    pools, sides = 0, [height, wide]
    while pools < depth and min(sides) >= 4:
        pools, sides = pools + 1, [side // 2 for side in sides]
    assert len(of_type(network, nn.MaxPool2d)) == pools
    features = width * sides[0] * sides[1]
    convolutions = 9 * channels * width + width + (depth - 1) * (9 * width * width + width)
    dense = features * hidden + hidden + hidden * 10 + 10 if hidden else features * 10 + 10
    assert sum(p.numel() for p in network.parameters()) == convolutions + dense


def test_it_computes_what_it_says():
    network = build(width=3, depth=2, hidden=4, activation="tanh", pooling="average")
    parameters = dict(network.named_parameters())
    x = torch.randn(5, 1, 28, 28)
    y = F.avg_pool2d(F.conv2d(x, parameters["conv_1.weight"], parameters["conv_1.bias"], padding=1).tanh(), 2)
    y = F.avg_pool2d(F.conv2d(y, parameters["conv_2.weight"], parameters["conv_2.bias"], padding=1).tanh(), 2)
    y = F.linear(y.flatten(1), parameters["hidden.weight"], parameters["hidden.bias"]).tanh()
    torch.testing.assert_close(network(x), F.linear(y, parameters["head.weight"], parameters["head.bias"]))


@pytest.mark.parametrize(("init", "variance"), [("lecun", 1 / 288), ("he_uniform", 2 / 288), ("xavier", 2 / 576)])
def test_the_fans_of_a_convolution_are_channels_times_window(init: str, variance: float):
    weight = dict(build(width=32, depth=2, init=init).named_parameters())["conv_2.weight"]
    assert weight.var().item() == pytest.approx(variance, rel=5 * sqrt(2 / weight.numel()))


def test_ntk_starts_as_the_function_that_lecun_starts_as():
    x = torch.randn(6, 1, 28, 28)
    lecun, ntk = (build(width=8, hidden=8, init=init) for init in ("lecun", "ntk"))  # one seed: the same normals
    torch.testing.assert_close(ntk(x), lecun(x), rtol=1e-4, atol=1e-5)
    assert dict(ntk.named_parameters())["conv_2.weight"].std().item() == pytest.approx(1, rel=0.2)
