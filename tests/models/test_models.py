from typing import Any, NamedTuple

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from models import MODELS, Model, ModelError
from probes import kernel_plan, tangent_kernel
from probes.kernels.plan import PER_SAMPLE


class Case(NamedTuple):
    """A small network of each architecture, and images it takes."""

    name: str
    fields: dict[str, Any]
    input_shape: tuple[int, int, int] = (1, 8, 8)

    def model(self) -> Model:
        return MODELS[self.name](name=self.name, **self.fields)


CASES = {
    "mlp": Case("mlp", {"width": 8}),
    "cnn": Case("cnn", {"width": 4, "depth": 3}),
    "cnn, hidden": Case("cnn", {"width": 3, "depth": 1, "hidden": 5, "pooling": "average"}, (3, 7, 6)),
    "cnn, ntk": Case("cnn", {"width": 4, "depth": 2, "activation": "tanh", "init": "ntk"}),
    "resnet18": Case("resnet18", {"width": 2}, (3, 8, 8)),
    "resnet18, group": Case("resnet18", {"width": 4, "norm": "group"}, (3, 16, 16)),
    "resnet18, none": Case("resnet18", {"width": 2, "norm": "none"}, (3, 8, 8)),
    "vgg16": Case("vgg16", {"width": 2}, (3, 32, 32)),
    "vgg16, plain": Case("vgg16", {"width": 2, "batch_norm": False}, (1, 32, 32)),
    "vit": Case("vit", {"patch": 4, "dim": 6, "depth": 2, "heads": 2, "mlp_ratio": 2}, (3, 8, 8)),
    "actor_critic": Case(
        "actor_critic", {"convolutions": [[4, 4, 2], [6, 2, 1]], "hidden": [5], "activation": "tanh"}, (2, 8, 9)
    ),
    "actor_critic, separate": Case(
        "actor_critic", {"convolutions": [[4, 3, 2]], "hidden": [6, 5], "trunk": "separate", "init": "he"}
    ),
}
OUTPUTS = 3


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def built(case: Case, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return case.model().build(case.input_shape, OUTPUTS)


def disturbed(network: nn.Module) -> nn.Module:
    """As after some training: nothing at 0 or 1, where a mistake could hide, and running statistics of their own."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
        for name, buffer in network.named_buffers():
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 2) if name.endswith("var") else buffer.normal_(0, 0.5)
    return network


def test_every_model_has_a_case():
    assert {case.name for case in CASES.values()} == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_known_by_the_name_of_its_line_in_the_table(name: str):
    model = CASES[name].model()
    assert MODELS[model.name] is type(model)
    assert isinstance(model.version, int)
    with pytest.raises(ValidationError, match="name"):
        type(model)(**{**model.model_dump(), "name": "another"})
    with pytest.raises(ValidationError, match="frozen"):
        model.name = "another"


def test_a_model_maps_points_to_outputs_and_depends_on_its_parameters_only(case: Case):
    network = disturbed(built(case)).eval()
    x = torch.randn(5, *case.input_shape)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        outputs = network(x)
        torch.testing.assert_close(network(x[:2]), outputs[:2], rtol=1e-4, atol=1e-5)
    assert outputs.shape == (5, OUTPUTS)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_the_global_seed_fixes_every_parameter(case: Case):
    def parameters(seed: int) -> Tensor:
        return torch.cat([p.flatten() for p in built(case, seed).parameters()])

    assert torch.equal(parameters(0), parameters(0))
    assert not torch.equal(parameters(0), parameters(1))


def test_a_fresh_network_tells_points_apart_and_all_of_it_learns(case: Case):
    network = built(case)
    outputs = network(torch.randn(4, *case.input_shape))
    outputs.square().sum().backward()
    assert (outputs.std(0) > 1e-3).all()
    assert outputs.abs().max() < 100
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_sizes_are_known_without_numbers(case: Case):
    with torch.device("meta"):
        empty = case.model().build(case.input_shape, OUTPUTS)
    shapes = {name: tensor.shape for name, tensor in empty.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in built(case).state_dict().items()}


def brute_force_kernel(network: nn.Module, x: Tensor) -> Tensor:
    """The definition, one gradient at a time."""
    parameters = list(network.parameters())
    rows = [torch.autograd.grad(value, parameters, retain_graph=True) for value in network(x).flatten()]
    jacobian = torch.stack([torch.cat([gradient.flatten() for gradient in row]) for row in rows])
    return jacobian @ jacobian.T


def test_the_kernel_is_exact_layer_by_layer(case: Case):
    network = disturbed(built(case)).double().eval()
    x = torch.randn(3, *case.input_shape, dtype=torch.float64)
    expected = brute_force_kernel(network, x)
    torch.testing.assert_close(tangent_kernel(network, x), expected, rtol=1e-9, atol=1e-9 * expected.max().item())
    layers = kernel_plan(network, x).layers
    assert [layer.name for layer in layers if layer.path == PER_SAMPLE] == []
    assert sum(layer.parameters for layer in layers) == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("name", [name for name in MODELS if name != "mlp"])
def test_a_network_of_images_refuses_other_inputs(name: str):
    with pytest.raises(ModelError, match=r"^" + name + r" takes images .*, got inputs of shape \[9\]: choose another"):
        CASES[name].model().build((9,), OUTPUTS)
