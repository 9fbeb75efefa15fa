"""Whatever else networks change while they run, and unusual modules: all is as before a kernel."""

import copy
import inspect
import random
import types
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from kernel_brute_force import brute_force_kernel, relative_error
from kernel_states import described, inputs, net, ordinary, plain
from torch import Tensor, nn

from tangentscope.probes import tangent_kernel
from tangentscope.probes.network.state import kept, renew

CPU = torch.device("cpu")


# Flags, gradients, random numbers


def test_flags_set_by_forward_are_as_before():
    def run(model: Any, x: Tensor) -> Tensor:
        model.head.train()
        model.blocks[0].eval()
        model.layer.bias.requires_grad_(False)
        return ordinary(model, x)

    model = net(run, blocks=[nn.Linear(2, 2)]).eval()
    tangent_kernel(model, inputs())
    assert model.blocks[0].training
    assert not model.head.training
    assert model.layer.bias.requires_grad


class Doubling(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0
        self.register_buffer("scale", torch.full((6,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.scale.mul_(2)
        self.train()
        return x * self.scale * self.calls


HIDDEN: dict[str, tuple[Callable[[nn.Module], Any], Callable[[Any], nn.Module]]] = {
    "list": (lambda part: [part], lambda held: held[0]),
    "dict": (lambda part: {"part": part}, lambda held: held["part"]),
    "attribute": (lambda part: part, lambda held: held),
    "object": (lambda part: types.SimpleNamespace(part=part), lambda held: held.part),
}


@pytest.mark.parametrize("hide", HIDDEN)
def test_modules_that_are_not_registered(hide: str):
    """``modules()`` does not lead to them, attributes do."""
    make, find = HIDDEN[hide]
    part: Any = Doubling().eval()
    model, x = net(lambda model, x: ordinary(model, find(vars(model)["hidden"])(x))), inputs()
    vars(model)["hidden"] = make(part)
    assert list(model.modules()) == [model, model.layer, model.head]
    before = described(part.scale)
    torch.testing.assert_close(tangent_kernel(model, x), plain(model, x))
    assert described(part.scale) == before
    assert part.calls == 0
    assert not part.training


def test_gradients_are_as_before_where_forward_makes_some():
    def run(model: Any, x: Tensor) -> Tensor:
        model.layer(x).sum().backward()
        return ordinary(model, x)

    model, x = net(run), inputs()
    model.layer.weight.grad = torch.ones(6, 6)
    given = model.layer.weight.grad
    found = tangent_kernel(model, x)
    assert model.layer.weight.grad is given
    assert (given == 1).all()
    assert [p.grad for p in (model.layer.bias, *model.head.parameters())] == [None] * 3
    torch.testing.assert_close(found, plain(model, x))


def draws() -> list[Any]:
    return [random.random(), float(np.random.randn()), float(torch.rand(()))]


@pytest.mark.parametrize("error", [False, True])
def test_random_numbers_go_on_as_before(error: bool):
    """A network may seed all generators and draw: a fixed noise, but the user's numbers are others."""

    def run(model: Any, x: Tensor) -> Tensor:
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)
        noise = sum(draws())
        if error:
            raise ArithmeticError("broken network")
        return ordinary(model, x) * noise

    def seed() -> None:
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        np.random.randn()  # keeps the second of a pair back

    model, x = net(run), inputs()
    kernel_of = inspect.unwrap(tangent_kernel)  # checks of types, which only tests make, draw random numbers
    seed()
    expected = draws()
    seed()
    if error:
        with pytest.raises(ArithmeticError):
            kernel_of(model, x)
    else:
        kernel_of(model, x)
    assert draws() == expected


def test_random_networks_are_no_functions():
    """Generators are not set back between passes: a random network must not be made to look like a function."""
    model = net(lambda model, x: ordinary(model, x) * torch.rand(()))
    with pytest.raises(ValueError, match="change with the other points of the batch or from call to call"):
        tangent_kernel(model, inputs())


GENERATORS: dict[str, tuple[Callable[[], Any], Callable[[Any], float]]] = {
    "torch": (torch.Generator, lambda g: float(torch.rand((), generator=g))),
    "python": (lambda: random.Random(0), lambda g: g.random()),
    "numpy": (lambda: np.random.default_rng(0), lambda g: g.random()),
    "numpy's old one": (lambda: np.random.RandomState(0), lambda g: g.rand()),
}


@pytest.mark.parametrize("kind", GENERATORS)
def test_generators_of_a_network_go_on_as_before(kind: str):
    make, draw = GENERATORS[kind]
    model, x = net(lambda model, x: ordinary(model, x) * (1 + draw(model.generator)), generator=make()), inputs()
    noise = 1 + draw(make())
    torch.testing.assert_close(tangent_kernel(model, x), noise**2 * plain(model, x))
    assert 1 + draw(model.generator) == noise


# Modules of unusual kinds


class Counting(nn.Module):
    calls: int
    kept: Tensor | None
    table: dict[str, Tensor]

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(6, 6), nn.Linear(6, 2)
        self.calls, self.kept, self.table = 3, None, {}
        self.register_buffer("steps", torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        rows = self.layer(x)
        self.calls += 1
        self.steps.add_(1)
        if self.kept is None:
            self.kept = rows
        self.table["rows"] = rows
        return self.head(torch.tanh(rows)) * self.steps[0]


@pytest.fixture
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        yield


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("kind", ["alone", "within", "deep copy", "traced"])
def test_modules_of_torchscript(kind: str):
    origin, x = Counting(), inputs()
    script: Any = torch.jit.script(origin)
    if kind == "deep copy":
        script = copy.deepcopy(script)
    if kind == "traced":
        script = torch.jit.trace(origin.eval(), x)
        steps = script.steps
        steps.zero_()
    model: nn.Module = nn.Sequential(script) if kind == "within" else script
    steps, parameters = script.steps, list(script.parameters())
    if kind == "deep copy":  # its parameters are no leaves
        with kept(model, CPU):
            model(x)
            renew(model)
            model(x)
            assert (script.steps == 1).all()
    else:
        torch.testing.assert_close(tangent_kernel(model, x), plain(origin, x))
    assert script.steps is steps
    assert all(now is before for now, before in zip(script.parameters(), parameters, strict=True))
    assert not steps.any()
    if kind != "traced":
        assert (script.calls, script.kept, script.table) == (3, None, {})


class Guarded(nn.Module):
    """Has attributes in slots, and lets nobody set any after it was built."""

    __slots__ = ("calls", "later")
    built = False

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(6, 6), nn.Linear(6, 2)
        self.register_buffer("steps", torch.zeros(2))
        self.calls = torch.zeros(2)
        self.built = True

    def __setattr__(self, name: str, value: object) -> None:
        if self.built and name != "training":
            raise AttributeError(f"{name} is fixed")
        super().__setattr__(name, value)

    def forward(self, x: Tensor) -> Tensor:
        self.steps.add_(1)
        self.calls.add_(1)
        object.__setattr__(self, "later", x)
        return ordinary(self, x) * self.steps[0] * self.calls[0]


def test_modules_that_guard_their_attributes():
    model, x = Guarded(), inputs()
    steps, calls = model.steps, model.calls
    torch.testing.assert_close(tangent_kernel(model, x), plain(model, x))
    assert model.steps is steps
    assert model.calls is calls
    assert not steps.any()
    assert not calls.any()
    assert not hasattr(model, "later")


class Trainer:
    """Owns a network, and lets itself be called."""

    def __call__(self) -> None: ...


@pytest.mark.parametrize("owner", [Trainer(), Trainer, nn.Linear(2, 2)], ids=["object", "class", "module"])
def test_a_weak_proxy_of_what_owns_the_network(owner: Any):
    """As trainers leave one in the modules that they train: it says that it has the attributes of its object."""
    model, points = net(ordinary), inputs()
    expected = brute_force_kernel(model, points, "full")
    model.trainer = weakref.proxy(owner)
    assert relative_error(tangent_kernel(model, points), expected) < 1e-5
    assert type(model.trainer) in weakref.ProxyTypes


def test_lazy_modules_and_hooks_are_left_alone():
    lazy = nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d())
    handle = lazy[0].register_forward_hook(lambda *_: None)
    with kept(lazy, CPU):
        pass
    handle.remove()
    assert not lazy[0]._forward_hooks
    assert isinstance(lazy[0].weight, nn.UninitializedParameter)
    assert lazy(torch.ones(2, 4)).shape == (2, 3)


def test_modules_made_by_forward_are_gone():
    def run(model: Any, x: Tensor) -> Tensor:
        if not hasattr(model, "late"):
            model.late = nn.Identity()
            model.register_buffer("more", torch.ones(1))
        return ordinary(model, model.late(x))

    model, x = net(run), inputs()
    torch.testing.assert_close(tangent_kernel(model, x), plain(model, x))
    assert list(model._modules) == ["layer", "head"]
    assert not list(model.buffers())
