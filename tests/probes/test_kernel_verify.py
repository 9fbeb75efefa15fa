"""Rules are held against autograd's own gradients: a wrong one is told of by name, and gives no wrong number."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from kernel_brute_force import brute_force_kernel, relative_error
from kernel_graphs import Net
from torch import Tensor, nn

from tangentscope.probes import kernel_plan, layer_traces, tangent_kernel
from tangentscope.probes.kernels.gradients import chain_rule, rule_check, rules
from tangentscope.probes.kernels.gradients.factors import Dense, Tokens
from tangentscope.probes.kernels.gradients.per_sample import Direct, Outer, Part, Use
from tangentscope.probes.kernels.gradients.rules import RULES
from tangentscope.probes.kernels.gradients.rules.rule import Rule
from tangentscope.probes.kernels.plan import PER_SAMPLE


@pytest.fixture(autouse=True)
def nothing_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule_check, "_disagreeing", {})


def network_of_tokens() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    net = Net(
        lambda net, t: net.head((net.scale * net.norm(net.mix(net.words(t)) + net.places)).tanh().flatten(1)),
        words=nn.Embedding(7, 6),
        mix=nn.Linear(6, 6),
        norm=nn.LayerNorm(6),
        places=nn.Parameter(torch.randn(3, 6)),
        scale=nn.Parameter(torch.randn(6)),
        head=nn.Linear(18, 4),
    )
    return net.double(), torch.randint(7, (5, 3))


def network_of_images() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(36, 3))
    return net.double(), torch.randn(4, 2, 5, 5, dtype=torch.float64)


Spoil = Callable[[Part], Part]


def scaled(part: Part) -> Part:
    """Forgets a factor."""
    if isinstance(part, Outer):
        return replace(part, gradients=lambda values, own=part.gradients: 1.01 * own(values))
    return Direct(part.width, lambda dtype, own=part.jacobian: lambda values: 1.01 * own(dtype)(values))


def shifted(part: Part) -> Part:
    """Meets the inputs of another point."""
    assert isinstance(part, Outer)

    def factor() -> Dense | Tokens:
        own = part.factor()
        if isinstance(own, Tokens):
            return Tokens(own.ids.roll(1, 0), own.vocabulary)
        return Dense(own.values.roll(1, 0))

    return replace(part, factor=factor)


def forgetful(part: Part) -> Part:
    """Leaves out a number of the gradient."""

    def prepare(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        own = part.jacobian(dtype)

        def of(values: Tensor) -> Tensor:
            found = own(values).clone()
            found[:, 0] = 0
            return found

        return of

    return Direct(part.width, prepare)


WRONG: dict[str, tuple[str, Spoil, Callable[[], tuple[nn.Module, Tensor]], set[str]]] = {
    "a factor of linear layers": ("AddmmBackward0", scaled, network_of_tokens, {"mix", "head"}),
    "inputs of linear layers": ("AddmmBackward0", shifted, network_of_tokens, {"mix", "head"}),
    "tokens": ("EmbeddingBackward0", shifted, network_of_tokens, {"words"}),
    "a factor of look-ups": ("EmbeddingBackward0", scaled, network_of_tokens, {"words"}),
    "a scale": ("MulBackward0", scaled, network_of_tokens, {""}),
    "one number of a shift": ("AddBackward0", forgetful, network_of_tokens, {""}),
    "norms": ("NativeLayerNormBackward0", forgetful, network_of_tokens, {"norm"}),
    "windows": ("ConvolutionBackward0", shifted, network_of_images, {"0"}),
    "a factor of convolutions": ("ConvolutionBackward0", scaled, network_of_images, {"0"}),
    "running statistics": ("NativeBatchNormBackward0", scaled, network_of_images, {"1"}),
    "the layer at the end": ("AddmmBackward0", scaled, network_of_images, {"4"}),
}


def spoilt(rule: Rule, spoil: Spoil) -> Rule:
    def part(use: Use, place: int) -> Part | None:
        found = rule.part(use, place)
        return found if found is None or (spoil is shifted and not isinstance(found, Outer)) else spoil(found)

    def joint(use: Use) -> Part | None:
        found = rule.joint(use)
        return None if found is None or spoil is forgetful else spoil(found)

    return replace(rule, part=part, joint=joint)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rule_is_found_and_told_once(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    node, spoil, build, layers = WRONG[name]
    monkeypatch.setattr(rules, "RULES", {**RULES, node: spoilt(RULES[node], spoil)})
    model, inputs = build()
    monkeypatch.setenv("TANGENTSCOPE_CHECK", "never")
    expected = brute_force_kernel(model, inputs, "full")
    assert relative_error(tangent_kernel(model, inputs), expected) > 1e-4, "the rule is right"
    monkeypatch.setenv("TANGENTSCOPE_CHECK", "first")
    for _ in range(2):
        assert relative_error(tangent_kernel(model, inputs), expected) < 1e-10
    assert {layer.name for layer in kernel_plan(model, inputs).layers if layer.path == PER_SAMPLE} >= layers
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert 1 <= len(told) <= 2  # of the few points that are looked at first, and of all
    names = {name.strip() for name in told[0].partition("gradients of ")[2].partition(" by rule")[0].split(",")}
    assert {name.rpartition(".")[0] for name in names} >= layers


def test_a_wrong_chain_is_found(monkeypatch: pytest.MonkeyPatch):
    """From a normalised weight on to the two parameters that it is made of."""
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(5, 6)), nn.Tanh(), nn.Linear(6, 3)).double()
    inputs, own = torch.randn(4, 5, dtype=torch.float64), chain_rule.back
    monkeypatch.setattr(chain_rule, "back", lambda *args: [1.1 * found for found in own(*args)])
    assert relative_error(tangent_kernel(model, inputs), brute_force_kernel(model, inputs, "full")) < 1e-10
    paths = {layer.name: layer.path for layer in kernel_plan(model, inputs).layers}
    assert paths == {"0": "jacobian", "0.parametrizations.weight": PER_SAMPLE, "2": "outputs"}


def test_right_rules_raise_no_alarm(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    """Keys' biases have gradients that are exactly zero, and so has attention of a token to itself."""
    monkeypatch.setenv("TANGENTSCOPE_CHECK", "always")
    for tokens_of_a_point in (1, 4):
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        model = nn.Sequential(layer, nn.Flatten(), nn.Linear(8 * tokens_of_a_point, 3))
        tangent_kernel(model, torch.randn(5, tokens_of_a_point, 8))
        layer_traces(model, torch.randn(5, tokens_of_a_point, 8))
    assert not caplog.records


@pytest.mark.parametrize(("asked", "passes"), [("always", 4), ("first", 2), ("never", 0)])
def test_it_is_made_as_often_as_is_asked_for(asked: str, passes: int, monkeypatch: pytest.MonkeyPatch):
    """Of two kernels, each of which looks at few points first."""
    monkeypatch.setenv("TANGENTSCOPE_CHECK", asked)
    calls, own = [], rule_check._check
    monkeypatch.setattr(rule_check, "_check", lambda *args: calls.append(args) or own(*args))
    model, inputs = network_of_images()
    for _ in range(2):
        tangent_kernel(model, inputs)
    assert len(calls) == passes


def test_an_unknown_wish_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TANGENTSCOPE_CHECK", "often")
    with pytest.raises(ValueError, match="TANGENTSCOPE_CHECK='often' is unknown, expected one of always, first, never"):
        tangent_kernel(*network_of_images())
