"""Inputs as people have them: structures of tensors, constants among them, and graphs of several kinds."""

from collections import OrderedDict, UserDict
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import torch
from kernel_brute_force import TREATMENTS, block, brute_force_kernel, least_memory, relative_error
from kernel_graphs import Net
from torch import Tensor, nn
from turns import in_turns

from tangentscope.probes import (
    draw_indices,
    draw_kernels,
    draw_kernels_and_traces,
    kernel_plan,
    layer_kernels,
    layer_traces,
    measure,
    tangent_kernel,
)
from tangentscope.probes.givens import givens_at
from tangentscope.probes.kernels.engine import jacobian
from tangentscope.probes.network.batch import as_batch

N = 5


class Pair(NamedTuple):
    features: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Record:
    features: Tensor
    mask: Tensor
    name: str = "batch"
    doubled: Tensor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "doubled", 2 * self.mask)


@dataclass
class Once:
    """Tokens that remember how they were made."""

    features: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        self.features = 3 * self.features
        self.rows = self.features.sum(1)


class Encoding(UserDict):
    """As transformers' ``BatchEncoding``: a mapping of its own, whose values are attributes too."""

    def __init__(self, data: dict[str, Any]):
        super().__init__(data)
        self.encodings = ["kept"]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.data[name]
        except KeyError:
            raise AttributeError(name) from None


class Body(nn.Module):
    """Masked tokens through two layers with a rule and two parameters without one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)
        self.memory = nn.GRUCell(4, 4)
        self.shift = nn.Parameter(torch.randn(4))

    def of(self, features: Tensor, mask: Tensor) -> Tensor:
        hidden = (self.first(features).tanh() + self.shift) * mask[:, :, None]
        return self.second(self.memory(hidden.sum(1)))


class Single(Body):
    """The same of one tensor [N, tokens, 3 + 1]."""

    def forward(self, both: Tensor) -> Tensor:
        return self.of(both[..., :3].contiguous(), both[..., 3].contiguous())


class Spread(Body):
    def forward(self, features: Tensor, mask: Tensor, *, scale: float | Tensor = 1.0) -> Tensor:
        return scale * self.of(features, mask)


class Attributes(Body):
    def forward(self, inputs: Any) -> Tensor:
        return self.of(inputs.features, inputs.mask)


class Keys(Body):
    def forward(self, inputs: Any) -> Tensor:
        return self.of(inputs["features"], inputs["mask"])


class One(Body):
    def forward(self, pair: Any) -> Tensor:
        return self.of(*pair)


class Nested(Body):
    def forward(self, inputs: Any, kind: str) -> Tensor:
        assert kind == "text"
        return self.of(inputs["tokens"][0], inputs["tokens"][1]["mask"] * inputs["one"])


def tensors() -> tuple[Tensor, Tensor]:
    return torch.randn(N, 4, 3, dtype=torch.float64), torch.rand(N, 4, dtype=torch.float64)


STRUCTURES: dict[str, tuple[type[Body], Callable[[Tensor, Tensor], Any]]] = {
    "dict, keywords": (Spread, lambda x, m: {"features": x, "mask": m}),
    "dict in another order, with constants": (Spread, lambda x, m: {"scale": 1.0, "mask": m, "features": x}),
    "tensor without dimensions": (Spread, lambda x, m: {"features": x, "mask": m, "scale": torch.ones(()).double()}),
    "ordered dict": (Spread, lambda x, m: OrderedDict(mask=m, features=x)),
    "mapping that cannot be changed": (Spread, lambda x, m: MappingProxyType({"features": x, "mask": m})),
    "encoding, keywords": (Spread, lambda x, m: Encoding({"features": x, "mask": m})),
    "encoding, one argument": (Attributes, lambda x, m: Encoding({"features": x, "mask": m})),
    "dict, one argument": (Keys, lambda x, m: {"features": x, "mask": m}),
    "tuple": (Spread, lambda x, m: (x, m)),
    "list": (Spread, lambda x, m: [x, m]),
    "tuple, one argument": (One, lambda x, m: (x, m)),
    "named tuple, positions": (Spread, lambda x, m: Pair(x, m)),
    "named tuple, one argument": (Attributes, lambda x, m: Pair(x, m)),
    "frozen dataclass": (Attributes, lambda x, m: Record(x, m)),
    "dataclass": (Attributes, lambda x, m: Once(x / 3, m)),
    "nested": (Nested, lambda x, m: ({"tokens": (x, {"mask": m}), "one": torch.ones(()), "no": [None, 2]}, "text")),
    "one tensor in a tuple": (Single, lambda x, m: (torch.cat([x, m[..., None]], 2),)),
}  # fmt: skip


def built(name: str) -> tuple[nn.Module, Any, Single, Tensor]:
    """A model with its structure, and the same parameters and numbers as one tensor."""
    kind, structure = STRUCTURES[name]
    features, mask = tensors()
    model, single = kind().double(), Single().double()
    single.load_state_dict(model.state_dict())
    return model, structure(features, mask), single, torch.cat([features, mask[..., None]], 2)


def equal(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("name", "outputs"), in_turns("structures", {name: name for name in STRUCTURES}, TREATMENTS))
def test_structures_have_the_kernel_of_their_tensors(name: str, outputs: str):
    model, inputs, single, both = built(name)
    expected = brute_force_kernel(single, both, outputs)
    assert relative_error(tangent_kernel(model, inputs, outputs), expected) < 1e-10
    equal(layer_kernels(model, inputs, outputs), layer_kernels(single, both, outputs))
    equal(layer_traces(model, inputs, outputs), layer_traces(single, both, outputs))


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_between_batches_and_in_draws(name: str):
    model, inputs, single, both = built(name)
    whole, first = brute_force_kernel(single, both, "full"), torch.arange(2)
    others = as_batch(inputs).take(first).data
    assert type(others) is (dict if "cannot be changed" in name else type(inputs))
    equal(tangent_kernel(model, inputs, others=others), block(whole, N, range(N), [0, 1]))
    draws = torch.tensor([[0, 3, 1], [4, 4, 2]])
    kernels, traces = draw_kernels_and_traces(model, inputs, draws)
    equal(draw_kernels(model, inputs, draws), kernels)
    for number, draw in enumerate(draws.tolist()):
        equal(kernels[number], block(whole, N, draw, draw))
        equal(sum(trace[number] for trace in traces.values()), kernels[number].trace())


@pytest.mark.parametrize("name", ["dict, keywords", "tuple", "frozen dataclass", "nested"])
def test_little_memory_takes_structures_in_blocks(name: str):
    model, inputs, single, both = built(name)
    least = least_memory(lambda memory_bytes: tangent_kernel(model, inputs, memory_bytes=memory_bytes))
    assert kernel_plan(model, inputs, memory_bytes=least).blocks > 1
    equal(tangent_kernel(model, inputs, memory_bytes=least), brute_force_kernel(single, both, "full"))


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_are_measured(name: str):
    model, inputs, single, both = built(name)
    draws = draw_indices(N, draws=3, size=3, seed=0)
    given = {"targets": torch.arange(N) % 2, "loss": nn.CrossEntropyLoss(reduction="none")}
    wanted = ("trace", "kinetic_energy", "label_alignment", "layer_traces")
    found, expected = (measure(*what, draws, "full", wanted, **given) for what in ((model, inputs), (single, both)))
    for one, other in ((found.values, expected.values), (found.profiles, expected.profiles)):
        assert one.keys() == other.keys()
        for variable, values in one.items():
            equal(torch.from_numpy(values), torch.from_numpy(other[variable]))
    labels = [givens_at(*what, *given.values(), {"residual"})["residual"] for what in ((model, inputs), (single, both))]
    equal(*labels)


def test_plans_of_structures_are_those_of_their_tensors():
    model, inputs, single, both = built("dict, keywords")
    ours, theirs = kernel_plan(model, inputs), kernel_plan(single, both)
    assert [(layer.name, layer.path, layer.parameters) for layer in ours.layers] == [
        (layer.name, layer.path, layer.parameters) for layer in theirs.layers
    ]


def test_points_of_structures_are_taken_together_where_no_rule_knows_a_parameter(monkeypatch: pytest.MonkeyPatch):
    """By vmap, over all tensors at once; one point after another would take ages."""

    class Gram(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own = nn.Parameter(torch.randn(3, 3, dtype=torch.float64))

        def forward(self, features: Tensor, mask: Tensor, scale: Tensor) -> dict[str, Tensor]:
            rows = features @ (self.own @ self.own.T) * mask[:, :, None]
            return {"rows": rows, "sums": scale * rows.tanh().sum(1)}

    def refuse(*args: object) -> None:
        raise AssertionError("one by one")

    monkeypatch.setattr(jacobian._PerSampleJacobian, "_by_loop", refuse)
    model, (features, mask), scale = Gram(), tensors(), torch.tensor(2.0, dtype=torch.float64)
    kernel = tangent_kernel(model, {"scale": scale, "mask": mask, "features": features}, output="sums")
    whole = Net(lambda net, x: net.gram(x[..., :3], x[..., 3], scale)["sums"], gram=model)
    expected = brute_force_kernel(whole, torch.cat([features, mask[..., None]], 2), "full")
    assert relative_error(kernel, expected) < 1e-10


@pytest.mark.parametrize("factor", [2.0, torch.tensor(2.0, dtype=torch.float64)])
def test_constants_are_passed_on(factor: float | Tensor):
    model, inputs, *_ = built("dict, keywords")
    equal(tangent_kernel(model, inputs | {"scale": factor}), 4 * tangent_kernel(model, inputs))


def test_a_compiled_model_takes_what_it_wraps_takes():
    model, inputs, single, both = built("dict, keywords")
    compiled = torch.compile(model, backend="eager")
    equal(tangent_kernel(compiled, inputs), tangent_kernel(single, both))
    compiled = torch.compile(Keys().double(), backend="eager")
    assert tangent_kernel(compiled, inputs).shape == (2 * N, 2 * N)


def test_a_model_may_spoil_its_inputs():
    class Greedy(Keys):
        def forward(self, inputs: dict[str, Tensor]) -> Tensor:
            mask = inputs.pop("mask")
            found = self.of(inputs["features"], mask.clone())
            mask.zero_()
            return found

    model, inputs, *_ = built("dict, one argument")
    greedy = Greedy().double()
    greedy.load_state_dict(model.state_dict())
    before = {name: tensor.clone() for name, tensor in inputs.items()}
    equal(tangent_kernel(greedy, inputs), tangent_kernel(model, inputs))
    assert inputs.keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in inputs.items())


def test_what_a_dataclass_made_of_its_fields_goes_with_them():
    """Nothing is made again: features would be scaled once more, and a copy would lose what else it keeps."""
    features, mask = tensors()
    record = Once(features, mask)
    record.label = "own"  # type: ignore
    some = as_batch(record).take(torch.tensor([3, 1])).data
    assert torch.equal(some.features, 3 * features[[3, 1]])
    assert torch.equal(some.rows, record.rows[[3, 1]])
    assert some.label == "own"
    assert len(record.features) == N
    assert torch.equal(as_batch(Record(features, mask)).take(torch.tensor([2])).data.doubled, 2 * mask[[2]])
    assert as_batch(Encoding({"features": features})).sample(1).data.encodings == ["kept"]
