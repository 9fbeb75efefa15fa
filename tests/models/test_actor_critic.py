"""Actor and critic: what they share, what they take, and kernels of each."""

import pytest
import torch
from torch import Tensor, nn

from tangentscope.models import MODELS, ModelError
from tangentscope.probes import tangent_kernel

FIELDS = {"convolutions": [], "hidden": [6], "activation": "tanh"}


def built(trunk: str) -> nn.Module:
    torch.manual_seed(0)
    return MODELS["actor_critic"](**FIELDS, trunk=trunk).build((4,), 3).double()


def reaches(network: nn.Module, output: int) -> set[str]:
    """The parameters that an output depends on."""
    outputs = network(torch.randn(5, 4, dtype=torch.float64))
    slopes = torch.autograd.grad(outputs[:, output].sum(), list(network.parameters()))
    return {name for (name, _), slope in zip(network.named_parameters(), slopes, strict=True) if slope.any()}


def test_one_trunk_is_for_both_and_two_are_for_one_each():
    both = reaches(built("shared"), 0) & reaches(built("shared"), 2)
    assert both == {"trunk.1.weight", "trunk.1.bias"}
    assert reaches(built("separate"), 0) == reaches(built("separate"), 1) != set()
    assert reaches(built("separate"), 0).isdisjoint(reaches(built("separate"), 2))


@pytest.mark.parametrize("trunk", ["shared", "separate"])
@pytest.mark.parametrize("shape", [(1, 40, 40), (4, 52, 40), (3, 29, 38)])
def test_every_pixel_is_seen_by_actor_and_critic(trunk: str, shape: tuple[int, ...]):
    # Smooth, so that no unit is off; 40 pixels are those of Atari frames and of Catch.
    network = MODELS["actor_critic"](trunk=trunk, activation="tanh").build(shape, 4)
    frames = torch.rand(3, *shape, requires_grad=True)
    for part in (slice(0, -1), slice(-1, None)):
        (slopes,) = torch.autograd.grad(network(frames)[:, part].square().sum(), frames)
        assert (slopes.abs().sum((0, 1)) > 0).all()


def test_windows_that_reach_the_edges_get_no_zeros():
    network = MODELS["actor_critic"]().build((1, 36, 44), 4)
    assert [type(layer) for layer in network.trunk][:4] == [nn.Conv2d, nn.ReLU, nn.Conv2d, nn.ReLU]


class Part(nn.Module):
    def __init__(self, network: nn.Module, part: slice) -> None:
        super().__init__()
        self.network, self.part = network, part

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)[:, self.part]


@pytest.mark.parametrize("trunk", ["shared", "separate"])
def test_the_kernels_of_actor_and_critic_are_blocks_of_that_of_both(trunk: str):
    network, x = built(trunk), torch.randn(5, 4, dtype=torch.float64)
    both = tangent_kernel(network, x).view(5, 3, 5, 3)
    actor = tangent_kernel(Part(network, slice(0, -1)), x).view(5, 2, 5, 2)
    critic = tangent_kernel(Part(network, slice(-1, None)), x)
    torch.testing.assert_close(actor, both[:, :2, :, :2])
    torch.testing.assert_close(critic, both[:, 2, :, 2])
    assert (trunk == "separate") == (both[:, :2, :, 2].abs().max().item() == 0)


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ModelError, match=r"a window of 4 pixels on a map of 3×3: give smaller windows"):
        MODELS["actor_critic"]().build((1, 16, 16), 3)
    with pytest.raises(ModelError, match="needs an action and a value, got 1 output"):
        MODELS["actor_critic"](**FIELDS).build((4,), 1)
