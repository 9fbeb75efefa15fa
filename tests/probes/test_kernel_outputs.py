"""Which of what a model returns is its output."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from kernel_brute_force import TREATMENTS, brute_force_kernel, relative_error
from torch import Tensor, nn
from turns import in_turns

from tangentscope.probes import (
    draw_kernels,
    draw_kernels_and_traces,
    kernel_plan,
    layer_kernels,
    layer_traces,
    measure,
    tangent_kernel,
)
from tangentscope.probes.givens import givens_at
from tangentscope.probes.network.output import Output


class Named(NamedTuple):
    logits: Tensor
    hidden: Tensor


@dataclass
class Parts:
    logits: Tensor
    hidden: Tensor
    loss: Tensor | None = None


class ModelOutput(OrderedDict):
    """As transformers': a mapping with attributes that also takes the place of a value."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __getitem__(self, key: str | int) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def to_tuple(self) -> tuple[Any, ...]:
        return tuple(self.values())


class Returning(nn.Module):
    """Two tensors, logits and hidden ones, put into something."""

    def __init__(self, into: Callable[[Tensor, Tensor], Any]):
        super().__init__()
        self.into, self.body, self.head = into, nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, inputs: Tensor) -> Any:
        hidden = self.body(inputs).tanh()
        return self.into(self.head(hidden), hidden)


class Chosen(nn.Module):
    """Its logits alone, as a model of their own."""

    def __init__(self, of: Returning):
        super().__init__()
        self.body, self.head = of.body, of.head

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.body(inputs).tanh())


WAYS: dict[str, tuple[Callable[[Tensor, Tensor], Any], Output]] = {
    "key of a dict": (lambda f, h: {"logits": f, "hidden": h}, "logits"),
    "key that is a number": (lambda f, h: {3: f, 0: h}, 3),
    "place in a tuple": (lambda f, h: (h, f), 1),
    "place from the end of a list": (lambda f, h: [h, f], -1),
    "name in a named tuple": (lambda f, h: Named(f, h), "logits"),
    "place in a named tuple": (lambda f, h: Named(f, h), 0),
    "attribute of a dataclass": (lambda f, h: Parts(f, h), "logits"),
    "key of a model output": (lambda f, h: ModelOutput(loss=h.sum(), logits=f), "logits"),
    "place in a model output": (lambda f, h: ModelOutput(logits=f, hidden=h), 0),
    "function": (lambda f, h: {"heads": [h, (f,)]}, lambda found: found["heads"][1][0]),
    "function of a tensor": (lambda f, h: torch.cat([f, h], 1), lambda found: found[:, :2]),
    "the one in a tuple": (lambda f, h: (f,), None),
    "the one in a list, beside none": (lambda f, h: [None, f], None),
    "the one in a dict": (lambda f, h: {"logits": f, "temperature": 1.0}, None),
    "the one in a dataclass": (lambda f, h: Parts(f, None), None),  # type: ignore
    "the one deep down": (lambda f, h: {"heads": [(f,)]}, None),
}


@pytest.mark.parametrize(("name", "outputs"), in_turns("outputs", {name: name for name in WAYS}, TREATMENTS))
def test_all_kernels_are_of_the_output_that_is_picked(name: str, outputs: str):
    into, output = WAYS[name]
    model, inputs, draws = Returning(into), torch.randn(5, 3), torch.tensor([[0, 3], [1, 4]])
    alone = Chosen(model)
    expected = brute_force_kernel(alone, inputs, outputs)
    assert relative_error(tangent_kernel(model, inputs, outputs, output=output), expected) < 1e-5
    for function in (layer_kernels, layer_traces):
        torch.testing.assert_close(function(model, inputs, outputs, output=output), function(alone, inputs, outputs))
    planned, wanted = kernel_plan(model, inputs, outputs, output=output), kernel_plan(alone, inputs, outputs)
    assert [layer.outputs for layer in planned.layers] == [layer.outputs for layer in wanted.layers]
    assert planned.kernel_bytes == wanted.kernel_bytes
    torch.testing.assert_close(
        tangent_kernel(model, inputs, outputs, others=inputs[:2], output=output),
        tangent_kernel(alone, inputs, outputs, others=inputs[:2]),
    )
    kernels = draw_kernels(alone, inputs, draws, outputs)
    torch.testing.assert_close(draw_kernels(model, inputs, draws, outputs, output=output), kernels)
    torch.testing.assert_close(draw_kernels_and_traces(model, inputs, draws, outputs, output=output)[0], kernels)


@pytest.mark.parametrize("name", WAYS)
def test_measurements_and_givens_are_of_the_output_that_is_picked(name: str):
    into, output = WAYS[name]
    model, inputs, draws = Returning(into).double(), torch.randn(7, 3).double(), np.array([[0, 3, 2], [1, 4, 6]])
    initial = Returning(into).double()
    given = {"targets": torch.arange(7) % 2, "loss": nn.CrossEntropyLoss(reduction="none")}
    wanted = ("trace", "kinetic_energy", "kernel_distance", "layer_traces")
    found = measure(model, inputs, draws, "full", wanted, **given, initial=initial, output=output)
    expected = measure(Chosen(model), inputs, draws, "full", wanted, **given, initial=Chosen(initial))
    assert found.reasons == {}
    for variable, values in found.values.items():
        np.testing.assert_allclose(values, expected.values[variable], rtol=1e-9)
    np.testing.assert_allclose(found.profiles["layer_traces"], expected.profiles["layer_traces"], rtol=1e-9)
    names = {"labels", "classes", "residual", "output_hessian"}
    torch.testing.assert_close(
        givens_at(model, inputs, *given.values(), names, output=output),
        givens_at(Chosen(model), inputs, *given.values(), names),
    )


def test_networks_without_a_rule_are_of_the_output_that_is_picked():
    """A recurrent layer returns its states beside its outputs; its Jacobians are taken sample by sample."""
    model, inputs = nn.GRU(3, 2, batch_first=True).double(), torch.randn(4, 5, 3).double()

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = model

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x)[0]

    expected = brute_force_kernel(Last(), inputs, "full")
    assert relative_error(tangent_kernel(model, inputs, output=0), expected) < 1e-10


BOTH = Returning(lambda f, h: {"logits": f, "hidden": h})
PAIR = Returning(lambda f, h: (f, h))
DATA = Returning(lambda f, h: Parts(f, h))
DEEP = Returning(lambda f, h: {"heads": (f, h)})
TRIES: dict[str, tuple[nn.Module, Output, type[Exception], str]] = {
    "two of a dict": (BOTH, None, TypeError, "returned a dict, expected a floating-point tensor .*it holds 'logits', "
                      "'hidden': pick one with output=, such as output='logits'"),
    "two of a tuple": (PAIR, None, TypeError, "returned a tuple, .*it holds 0, 1: .*such as output=0"),
    "two of a dataclass": (DATA, None, TypeError, "returned a Parts, .*'logits', 'hidden'.*output='logits'"),
    "two deep down": (DEEP, None, TypeError, r"it holds 'heads': pick a tensor with a function.*found\[...\]"),
    "nothing": (Returning(lambda f, h: None), None, TypeError, "returned a NoneType, expected a floating-point tensor"),
    "an object": (Returning(lambda f, h: object()), None, TypeError, "returned a object.*output=lambda found"),
    "no such key": (BOTH, "logit", ValueError, "output='logit' is nothing that Returning returned .*a dict.*, "
                    "did you mean 'logits'.* expected one of 'logits', 'hidden'"),
    "a place in a dict": (BOTH, 0, ValueError, "output=0 is nothing that .*'logits', 'hidden'"),
    "no such place": (PAIR, 2, ValueError, "output=2 is nothing that .*a tuple.*expected one of 0, 1"),
    "no such attribute": (DATA, "hiden", ValueError, "did you mean 'hidden'"),
    "no tensor": (DEEP, "heads", TypeError, "output='heads' picks a tuple out of what Returning returned, .*0, 1"),
    "a function without a tensor": (PAIR, lambda found: [*found], TypeError, "the function output= picks a list"),
    "a key of a tensor": (Returning(lambda f, h: f), "logits", TypeError, "returned a tensor: leave output out"),
    "whole numbers": (Returning(lambda f, h: (f.argmax(1), f)), 0, TypeError, "a torch.int64 tensor, expected"),
    "of all points at once": (Returning(lambda f, h: (f.sum(0), f)), 0, ValueError, r"shape \[2\] for 4 inputs"),
}  # fmt: skip


@pytest.mark.parametrize("name", TRIES)
@pytest.mark.usefixtures("unchecked")
def test_errors_name_what_there_is(name: str):
    model, output, error, message = TRIES[name]
    inputs = torch.randn(4, 3)
    for refuse in (
        lambda: tangent_kernel(model, inputs, output=output),
        lambda: kernel_plan(model, inputs, output=output),
        lambda: givens_at(model, inputs, torch.zeros(4, 2), None, {"labels"}, output=output),
        lambda: measure(model, inputs, np.array([[0, 1, 2, 3]]), "traced", output=output),
    ):
        with pytest.raises(error, match=message if "points at once" not in name else "shape") as caught:
            refuse()
        assert "\n" not in str(caught.value)


def test_what_a_function_raises_comes_through():
    with pytest.raises(ZeroDivisionError):
        tangent_kernel(BOTH, torch.randn(4, 3), output=lambda found: 1 / 0)
