"""Networks that write while they run: nothing of it is left, and every pass is the same function."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from kernel_states import HELD, described, inputs, net, ordinary, plain
from torch import Tensor, nn

from tangentscope.probes import kernel_plan, layer_traces, tangent_kernel
from tangentscope.probes.network import copies
from tangentscope.probes.network.state import kept, renew

CPU = torch.device("cpu")


@pytest.mark.parametrize("call", [tangent_kernel, layer_traces, kernel_plan])
@pytest.mark.parametrize("held", HELD)
def test_what_modules_hold_is_as_before(held: str, call: Callable):
    write, make = HELD[held]

    def run(model: Any, x: Tensor) -> Tensor:
        rows = model.layer(x)
        write(model, rows)
        return model.head(rows.tanh())

    model, x = net(run, kept=make()), inputs()
    before = described(vars(model))
    found = call(model, x)
    assert described(vars(model)) == before
    if call is tangent_kernel:
        torch.testing.assert_close(found, plain(model, x))


@pytest.mark.parametrize("held", HELD)
def test_what_modules_hold_is_as_before_after_an_error(held: str):
    write, make = HELD[held]

    def run(model: Any, x: Tensor) -> Tensor:
        write(model, model.layer(x))
        model.layer.eval_flag_set_by_forward = True
        raise ArithmeticError("broken network")

    model = net(run, kept=make())
    before = described(vars(model))
    with pytest.raises(ArithmeticError):
        tangent_kernel(model, inputs())
    assert described(vars(model)) == before
    assert not hasattr(model.layer, "eval_flag_set_by_forward")


def test_every_pass_finds_what_the_user_left():
    """A network whose outputs depend on how often it was called is a function of its inputs all the same."""

    def run(model: Any, x: Tensor) -> Tensor:
        model.calls += 1
        model.steps += 1
        seen.append((model.calls, int(model.steps)))
        return model.calls * ordinary(model, x) * model.steps

    seen: list[tuple[int, int]] = []
    model, x = net(run, calls=6), inputs()
    model.register_buffer("steps", torch.tensor(1))
    found = tangent_kernel(model, x)
    assert len(seen) > 1
    assert set(seen) == {(7, 2)}
    assert (model.calls, int(model.steps)) == (6, 1)
    torch.testing.assert_close(found, plain(model, x) * 14**2)


def test_buffers_changed_in_place_are_as_before():
    """The graph of one pass holds the buffer as that pass made it; the next pass starts from the user's."""

    def run(model: Any, x: Tensor) -> Tensor:
        model.scale.mul_(2)
        return model.head(model.layer(x).tanh() * model.scale)

    model, x = net(run), inputs()
    model.register_buffer("scale", torch.full((6,), 0.5))
    model.register_buffer("unused", torch.ones(2), persistent=False)
    before = {name: described(buffer) for name, buffer in model.named_buffers()}
    found = tangent_kernel(model, x)
    assert {name: described(buffer) for name, buffer in model.named_buffers()} == before
    assert list(model.state_dict()) == ["scale", "layer.weight", "layer.bias", "head.weight", "head.bias"]
    torch.testing.assert_close(found, plain(model, x))


def test_gradients_written_into_buffers_are_gone():
    """As language models keep keys and values: the buffer becomes part of the graph."""

    def run(model: Any, x: Tensor) -> Tensor:
        model.keys[: len(x)] = model.layer(x)
        return model.head(model.keys[: len(x)].tanh())

    model, x = net(run), inputs()
    model.register_buffer("keys", torch.zeros(5, 6))
    keys = model.keys
    found = tangent_kernel(model, x)
    assert model.keys is keys
    assert not keys.requires_grad
    assert keys.is_leaf
    assert not keys.any()
    torch.testing.assert_close(found, plain(model, x))


def test_views_see_what_is_written_into_their_base():
    def run(model: Any, x: Tensor) -> Tensor:
        model.keys[: len(x)] = model.layer(x).detach()
        return ordinary(model, x) * (1 + model.both[0, : len(x)].sum(1, keepdim=True))

    model, x = net(run, both=torch.zeros(2, 5, 6)), inputs()
    model.keys, model.kept = model.both[0], [model.both[1]]
    factors = 1 + model.layer(x).detach().sum(1).repeat_interleave(2)
    torch.testing.assert_close(tangent_kernel(model, x), plain(model, x) * factors * factors[:, None])
    assert not model.both.any()
    assert model.keys.data_ptr() == model.both.data_ptr()


def test_tensors_of_inference_mode_can_be_used():
    """A validation pass under it leaves tables that no backward pass may keep."""
    model, x = net(lambda model, x: model.head((model.layer(x) * model.table).tanh())), inputs()
    with torch.inference_mode():
        model.table = torch.ones(6)
    table = model.table
    torch.testing.assert_close(tangent_kernel(model, x), plain(model, x))
    assert model.table is table


def test_buffers_put_elsewhere_or_differentiated_are_as_before():
    """Neither counts as a change of the tensor's numbers."""

    def run(model: Any, x: Tensor) -> Tensor:
        assert not model.place.requires_grad
        model.place.requires_grad_(True)
        model.scale.data = model.scale + 1
        return ordinary(model, x) * model.scale

    model, x = net(run), inputs()
    model.register_buffer("scale", torch.ones(1))
    model.register_buffer("place", torch.zeros(1))
    before = {name: described(buffer) for name, buffer in model.named_buffers()}
    torch.testing.assert_close(tangent_kernel(model, x), 4 * plain(model, x))
    assert {name: described(buffer) for name, buffer in model.named_buffers()} == before


@pytest.mark.parametrize("at_once", [0, 2**20])
def test_large_tensors_are_copied_when_they_are_written_into(at_once: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(copies, "AT_ONCE", at_once)

    def run(model: Any, x: Tensor) -> Tensor:
        model.steps += 1
        return ordinary(model, x) * model.steps[0] * model.ones[0]

    model, x = net(run), inputs()
    model.register_buffer("steps", torch.ones(100))
    model.register_buffer("ones", torch.ones(100))
    model.register_buffer("of_numpy", torch.from_numpy(np.ones(100)))
    addresses = [buffer.data_ptr() for buffer in model.buffers()]
    with kept(model, CPU):
        assert torch._C._is_cow_tensor(model.ones) == (at_once == 0)
    torch.testing.assert_close(tangent_kernel(model, x), 4 * plain(model, x))
    assert (model.steps == 1).all()
    assert [buffer.data_ptr() for buffer in model.buffers()] == addresses


def test_parameters_are_never_copied():
    seen = []
    model, x = net(lambda model, x: (seen.append(addresses(model)), ordinary(model, x))[1]), inputs()
    model.alias, model.listed, model.frozen = model.layer.weight.data, [model.head.weight], nn.Parameter(torch.ones(2))
    model.frozen.requires_grad_(False)

    def addresses(model: Any) -> list[int]:
        tensors = (*model.parameters(), model.alias, *model.listed)
        return [*map(id, tensors), model.alias.data_ptr()]

    before = addresses(model)
    tangent_kernel(model, x)
    assert all(found == before for found in seen)
    assert addresses(model) == before


def test_attributes_of_tensors_are_there():
    model, x = net(lambda model, x: ordinary(model, x) * model.table.factor), inputs()
    model.table = torch.ones(1)
    model.table.factor = 2
    torch.testing.assert_close(tangent_kernel(model, x), 4 * plain(model, x))


def test_networks_that_are_kept_twice():
    model = net(ordinary, kept=[])
    table = model.table = torch.zeros(2)
    with kept(model, CPU):
        with kept(model, CPU):
            model.table.add_(1)
            model.kept.append(1)
            renew(model)
            assert not model.kept
            assert not model.table.any()
        model.table.add_(1)
        model.kept.append(1)
        renew(model)
        assert not model.kept
        assert not model.table.any()
    assert model.table is table
    renew(model)
    assert model.table is table
