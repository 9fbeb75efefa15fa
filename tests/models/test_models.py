from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from tangentscope.models import MODELS, Model, ModelError
from tangentscope.probes import kernel_plan, tangent_kernel
from tangentscope.probes.kernels.plan import PER_SAMPLE


class Case(NamedTuple):
    """A small network of each architecture, and what it takes: images, sentences or molecules."""

    name: str
    fields: dict[str, Any]
    input_shape: tuple[int, ...] = (1, 8, 8)
    codes: Mapping[str, tuple[int, ...]] = {}

    def model(self) -> Model:
        return MODELS[self.name](name=self.name, **self.fields)

    def network(self) -> nn.Module:
        return self.model().network(self.input_shape, OUTPUTS, self.codes)

    def points(self, n: int, dtype: torch.dtype = torch.float32) -> Tensor | Batch:
        if not self.codes:
            return torch.randn(n, *self.input_shape, dtype=dtype)
        if "atoms" in self.codes:
            return Batch.from_data_list([self._molecule(atoms) for atoms in (4, 1, 3, 6, 2)[:n]])
        (counts,) = self.codes.values()
        return torch.stack([torch.randint(1, most, (n, *self.input_shape[:-1])) for most in counts], -1)

    @property
    def outputs_shape(self) -> tuple[int, ...]:
        return (*self.input_shape[:-1], OUTPUTS) if "words" in self.codes else (OUTPUTS,)

    def _molecule(self, atoms: int) -> Data:
        """A chain and, of many atoms, a bond across; one atom has no bond."""
        ends = torch.tensor([[k, k + 1] for k in range(atoms - 1)] + [[0, 3]] * (atoms > 3)).reshape(-1, 2)
        pairs = torch.stack([ends, ends.flip(1)], 1).reshape(-1, 2).long()
        return Data(
            x=self._draw("atoms", atoms),
            edge_index=pairs.T,
            edge_attr=self._draw("bonds", len(ends)).repeat_interleave(2, 0),
        )

    def _draw(self, part: str, rows: int) -> Tensor:
        return torch.stack([torch.randint(count, (rows,), dtype=torch.int32) for count in self.codes[part]], 1)


MOLECULES = ((2,), {"atoms": (5, 3), "bonds": (4, 2)})
WORDS: dict[str, Any] = {"input_shape": (4, 2), "codes": {"words": (9, 5)}}
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
    "transformer": Case("transformer", {"dim": 6, "heads": 2}, **WORDS),
    "lstm": Case("lstm", {"dim": 6, "depth": 2}),
    "lstm, words": Case("lstm", {"dim": 6}, **WORDS),
    "s4d": Case("s4d", {"dim": 6, "modes": 3}),
    "s4d, words": Case("s4d", {"dim": 6, "depth": 1, "modes": 3}, **WORDS),
    "vit": Case("vit", {"patch": 4, "dim": 6, "depth": 2, "heads": 2, "mlp_ratio": 2}, (3, 8, 8)),
    "gin": Case("gin", {"width": 6, "depth": 2}, *MOLECULES),
    "gin, virtual node": Case("gin", {"width": 4, "depth": 3, "virtual_node": True, "pooling": "sum"}, *MOLECULES),
    "gin, layer": Case("gin", {"width": 6, "depth": 1, "norm": "layer", "virtual_node": True}, *MOLECULES),
    "gcn": Case("gcn", {"width": 6, "depth": 2}, *MOLECULES),
    "gcn, none": Case("gcn", {"width": 5, "depth": 3, "norm": "none", "virtual_node": True}, *MOLECULES),
    "linear": Case("linear", {"std": 0.2}),
    "linear_net": Case("linear_net", {"width": 5, "size": 0.7}),
    "linear_net, normal": Case("linear_net", {"width": 5, "depth": 3, "init": "normal", "size": 0.4}),
    "actor_critic": Case(
        "actor_critic", {"convolutions": [[4, 4, 2], [6, 2, 1]], "hidden": [5], "activation": "tanh"}, (2, 8, 9)
    ),
    "actor_critic, separate": Case(
        "actor_critic", {"convolutions": [[4, 3, 2]], "hidden": [6, 5], "trunk": "separate", "init": "he"}
    ),
}
IMAGES = ("cnn", "resnet18", "vgg16", "vit", "lstm", "s4d")
OUTPUTS = 3


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def built(case: Case, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return case.network()


def first(points: Tensor | Batch, n: int) -> Tensor | Batch:
    return points[:n] if isinstance(points, Tensor) else Batch.from_data_list(points[:n])


def disturbed(network: nn.Module) -> nn.Module:
    """As after some training: nothing at 0 or 1, where a mistake could hide, and running statistics of their own."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
        for name, buffer in network.named_buffers():
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 2) if name.endswith("var") else buffer.normal_(0, 0.5)
    return network


# Networks that draw at random, put out other things than what the kernel is of, or have one output: their tests are in
# their own files.
APART = {"vae", "diagonal_linear", "multilinear", "skill_bases", "scalar_net"}


def test_every_model_has_a_case():
    assert {case.name for case in CASES.values()} == set(MODELS) - APART


@pytest.mark.parametrize("name", sorted(set(MODELS) - APART))
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
    x = case.points(5)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        outputs = network(x)
        torch.testing.assert_close(network(first(x, 2)), outputs[:2], rtol=1e-4, atol=1e-5)
    assert outputs.shape == (5, *case.outputs_shape)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_the_global_seed_fixes_every_parameter(case: Case):
    def parameters(seed: int) -> Tensor:
        return torch.cat([p.flatten() for p in built(case, seed).parameters()])

    assert torch.equal(parameters(0), parameters(0))
    assert not torch.equal(parameters(0), parameters(1))


def test_a_fresh_network_tells_points_apart_and_all_of_it_learns(case: Case):
    network = built(case)
    outputs = network(case.points(4))
    outputs.square().sum().backward()
    assert (outputs.std(0) > 1e-3).all()
    assert outputs.abs().max() < 100
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_sizes_are_known_without_numbers(case: Case):
    with torch.device("meta"):
        empty = case.network()
    shapes = {name: tensor.shape for name, tensor in empty.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in built(case).state_dict().items()}


def brute_force_kernel(network: nn.Module, x: Tensor | Batch) -> Tensor:
    """The definition, one gradient at a time."""
    parameters = list(network.parameters())
    values = network(x).flatten()
    rows = [torch.autograd.grad(v, parameters, retain_graph=True, materialize_grads=True) for v in values]
    jacobian = torch.stack([torch.cat([gradient.flatten() for gradient in row]) for row in rows])
    return jacobian @ jacobian.T


# State spaces' modes enter by their powers, for which there can be no rule.
WITHOUT_RULES = {"_Responses"}


def test_the_kernel_is_exact_layer_by_layer(case: Case):
    network = disturbed(built(case)).double().eval()
    x = case.points(3, torch.float64)
    expected = brute_force_kernel(network, x)
    torch.testing.assert_close(tangent_kernel(network, x), expected, rtol=1e-9, atol=1e-9 * expected.max().item())
    layers = kernel_plan(network, x).layers
    assert {layer.kind for layer in layers if layer.path == PER_SAMPLE} <= WITHOUT_RULES
    assert sum(layer.parameters for layer in layers) == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("name", IMAGES)
def test_a_network_of_images_refuses_other_inputs(name: str):
    with pytest.raises(ModelError, match=r"^" + name + r" takes images .*, got inputs of shape \[9\]: choose another"):
        CASES[name].model().build((9,), OUTPUTS)
