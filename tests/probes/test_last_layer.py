"""The last linear layer is found by what it does, and Φ is what enters it; all else is refused with a reason."""

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from feature_networks import ENDINGS, REFUSED, C, D, Ending, P
from kernel_graphs import embedded, gin, molecules
from torch import Tensor, nn

from tangentscope import probes
from tangentscope.models import MODELS


def same(features: probes.Features, wanted: Tensor, outputs: Tensor) -> None:
    torch.testing.assert_close(features.values, wanted)
    torch.testing.assert_close(features.outputs, outputs.flatten(1))
    made = features.values.double() @ features.weight.T + features.bias
    torch.testing.assert_close(made, outputs.flatten(1).double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ENDINGS)
def test_the_layer_is_found_by_what_it_does(name: str):
    head, weight = ENDINGS[name]
    network, x = Ending(head), torch.randn(5, D)
    features = probes.feature_map(network)(x)
    outputs = network(x).detach()
    same(features, network.features(x).detach(), outputs.reshape(5, -1))
    torch.testing.assert_close(features.weight, weight(network).detach().double(), rtol=1e-6, atol=1e-7)
    assert features.layer == ""


@pytest.mark.parametrize("name", REFUSED)
def test_other_networks_are_refused_with_the_reason(name: str):
    head, reason = REFUSED[name]
    with pytest.raises(ValueError, match=reason) as refusal:
        probes.feature_map(Ending(head))(torch.randn(5, D))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["linear", "weight first", "a position by index", "scaled by a parameter"])
def test_few_points_at_a_time_give_the_same(name: str):
    network, x = Ending(ENDINGS[name][0]), torch.randn(70, D)
    whole, parts = probes.feature_map(network)(x), probes.feature_map(network, memory_bytes=2000)(x)
    torch.testing.assert_close(parts.values, whole.values)
    torch.testing.assert_close(parts.bias, whole.bias, rtol=1e-5, atol=1e-6)


def test_a_pass_keeps_nothing_of_the_layers_before_the_last():
    """Bytes that the passes of all points save for a backward pass: Φ and no more."""
    network = nn.Sequential(nn.Linear(D, 50), nn.Tanh(), nn.Linear(50, 50), nn.Tanh(), nn.Linear(50, C))
    x, saved = torch.randn(400, D), dict[int, int]()

    def count(tensor: Tensor) -> Tensor:
        if tensor.dim() and len(tensor) == len(x):
            saved[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        probes.feature_map(network)(x)
    assert sum(saved.values()) == len(x) * 50 * 4


def test_points_that_are_not_finite_keep_the_others():
    network, x = Ending(ENDINGS["linear"][0]), torch.randn(5, D)
    x[3] = torch.nan
    features = probes.feature_map(network)(x)
    assert features.values.isnan().any(1).tolist() == [False, False, False, True, False]
    torch.testing.assert_close(features.bias, network.b.detach().double(), rtol=1e-5, atol=1e-6)


def test_a_network_whose_features_are_zero_for_most_points():
    """There the bias is all of the outputs, and rounding of the others' is no part of it."""
    network = nn.Sequential(nn.Linear(D, 4), nn.ReLU(), nn.Linear(4, C, bias=False))
    with torch.no_grad():
        network[0].bias.fill_(-2)
    x = torch.randn(50, D)
    same(probes.feature_map(network)(x), network[1](network[0](x)).detach(), network(x).detach())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_features_keep_the_precision_of_the_network(dtype: torch.dtype):
    network, x = Ending(ENDINGS["a position by index"][0]).to(dtype), torch.randn(70, D).to(dtype)
    features = probes.feature_map(network)(x)
    assert features.values.dtype == dtype
    torch.testing.assert_close(features.values, network.features(x).detach())


def test_a_linear_model_has_its_inputs_as_features():
    network, x = nn.Linear(D, C), torch.randn(5, D)
    same(probes.feature_map(network)(x), x, network(x).detach())


def test_frozen_networks_and_users_states_stay_as_they_are():
    network = nn.Sequential(nn.Linear(D, P), nn.BatchNorm1d(P), nn.ReLU(), nn.Dropout(), nn.Linear(P, C))
    network[0].requires_grad_(False)
    network[4].weight.requires_grad_(False)
    network[4].bias.grad = torch.ones(C)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    needed = [parameter.requires_grad for parameter in network.parameters()]
    with torch.no_grad():
        features = probes.feature_map(network)(torch.randn(9, D))
    assert features.layer == "4"
    assert network.training
    assert [parameter.requires_grad for parameter in network.parameters()] == needed
    assert torch.equal(network[4].bias.grad, torch.ones(C))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with pytest.raises(ValueError, match="come of log_softmax"):
        probes.feature_map(nn.Sequential(network, nn.LogSoftmax(1)))(torch.randn(9, D))
    assert [parameter.requires_grad for parameter in network.parameters()] == needed


@dataclass
class Returned:
    logits: Tensor
    hidden: Tensor


class OfTwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Linear(D, P), nn.Linear(2, P), nn.Linear(P, C)

    def forward(self, left: Tensor, right: Tensor) -> Returned:
        hidden = torch.relu(self.left(left) + self.right(right))
        return Returned(self.head(hidden), hidden)


@pytest.mark.parametrize("kind", [dict, tuple])
def test_inputs_and_outputs_of_any_structure(kind: type):
    network, left, right = OfTwoInputs(), torch.randn(5, D), torch.randn(5, 2)
    inputs = {"left": left, "right": right} if kind is dict else (left, right)
    returned = network(left, right)
    features = probes.feature_map(network, output="logits")(inputs)
    same(features, returned.hidden.detach(), returned.logits.detach())
    assert features.layer == "head"


@pytest.mark.parametrize("build", [gin, embedded])
def test_graphs_have_the_features_of_their_pooled_nodes(build):
    network, graphs = build().eval(), molecules(3, 5, 7, 4)()
    features = probes.feature_map(network)(graphs)
    torch.testing.assert_close(features.outputs, network(graphs).detach(), rtol=1e-5, atol=1e-5)
    assert features.layer == "head"


MODELS_OF_IMAGES = {
    "mlp": ({"width": 8, "init": "ntk"}, "linear_3", 8),
    "cnn": ({"width": 4}, "head", 16),
    "resnet18": ({"width": 2}, "fc", 16),
    "vit": ({"dim": 8, "heads": 2, "depth": 1, "patch": 4}, "head", 8),
}


@pytest.mark.parametrize("name", MODELS_OF_IMAGES)
def test_our_models(name: str):
    fields, layer, p = MODELS_OF_IMAGES[name]
    network = MODELS[name](**fields).build((3, 16, 16), 10)
    features = probes.feature_map(network)(torch.randn(3, 3, 16, 16))
    assert (features.layer, features.values.shape[1]) == (layer, p)


@pytest.mark.parametrize("trunk", ["shared", "separate"])
def test_the_actor_and_the_critic_have_features_each(trunk: str):
    network = MODELS["actor_critic"](trunk=trunk, convolutions=(), hidden=(P,)).build((4, 1, 1), 3)
    states = torch.randn(6, 4, 1, 1)
    with pytest.raises(ValueError, match="come of 2 layers"):
        probes.feature_map(network)(states)
    for part, output in {"actor": lambda found: found[:, :2], "critic": lambda found: found[:, 2:]}.items():
        assert probes.feature_map(network, output=output)(states).layer.startswith(part)


def test_a_parametrised_weight_counts_as_its_layers():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(P, C))
    features = probes.feature_map(nn.Sequential(nn.Linear(D, P), layer))(torch.randn(5, D))
    assert features.layer == "1"
    torch.testing.assert_close(features.weight, layer.weight.detach().double())


def test_a_tied_weight_is_that_of_the_last_layer():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(P, P))

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x @ self.table) @ self.table.T

    network, x = Tied(), torch.randn(5, P)
    same(probes.feature_map(network)(x), F.relu(x @ network.table).detach(), network(x).detach())


def test_hooks_on_gradients_are_neither_called_nor_lost():
    network, calls = nn.Sequential(nn.Linear(D, P), nn.Tanh(), nn.Linear(P, C)), []
    for module in (network, network[2]):
        module.register_full_backward_hook(lambda *_: calls.append(0))
    assert probes.feature_map(network)(torch.randn(5, D)).layer == "2"
    assert not calls
    network(torch.randn(5, D)).sum().backward()
    assert len(calls) == 2


@pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")
def test_scripted_networks_are_seen_through():
    network = nn.Sequential(nn.Linear(D, P), nn.Tanh(), nn.Linear(P, C))
    scripted, x = torch.jit.script(network), torch.randn(5, D)
    for _ in range(3):  # TorchScript optimises what has been called a few times
        same(probes.feature_map(scripted)(x), network[:2](x).detach(), network(x).detach())


def test_a_network_that_differentiates_itself_needs_more_than_the_last_layer():
    """The gradient of its energy by its own hidden units, which need gradients for that."""

    class Differentiating(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.energy, self.head = nn.Linear(D, P), nn.Linear(P, 1), nn.Linear(P, C)

        def force(self, x: Tensor) -> Tensor:
            hidden = self.hidden(x)
            return torch.autograd.grad(torch.tanh(self.energy(hidden)).sum(), hidden, create_graph=True)[0]

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.force(x))

    network, x = Differentiating(), torch.randn(5, D)
    same(probes.feature_map(network)(x), network.force(x).detach(), network(x).detach())
