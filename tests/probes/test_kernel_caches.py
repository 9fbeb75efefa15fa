"""Caches that networks fill while they run: found as the user left them, and empty for a pass that needs it."""

import copy
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

import pytest
import torch
from kernel_brute_force import brute_force_kernel, relative_error
from kernel_states import described, inputs, net, ordinary
from torch import Tensor, nn

from tangentscope.probes import kernel_plan, tangent_kernel
from tangentscope.probes.kernels.gradients import observation
from tangentscope.probes.network.state import caches, kept, renew


class Cached(nn.Module):
    """As timm's LeViT, EfficientFormer and TinyViT do in eval mode."""

    def __init__(self, kept: Any = None):
        super().__init__()
        self.l, self.bias, self.kept = nn.Linear(3, 4), nn.Parameter(torch.randn(9)), kept

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.kept, dict):
            if self.training or "cpu" not in self.kept:
                self.kept["cpu"] = self.bias[torch.arange(4)]
            return self.l(x) * self.kept["cpu"]
        if self.training or self.kept is None:
            self.kept = self.bias[torch.arange(4)]
        return self.l(x) * self.kept


@pytest.mark.parametrize("make", [lambda: None, dict])
def test_caches_filled_by_a_pass_do_not_outlive_it(make: Callable[[], Any]):
    model, x = Cached(make()), torch.randn(3, 3)
    cache = model.kept
    assert relative_error(tangent_kernel(model, x), brute_force_kernel(copy.deepcopy(model), x, "full")) < 1e-5
    assert model.kept is cache
    assert not model.kept


def test_per_sample_jacobians_find_caches_as_the_user_left_them(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """Else they would not see the parameter, and a loop over samples and outputs would do the work."""

    def run(model: Any, x: Tensor) -> Tensor:
        if model.kept is None:
            model.kept = model.mixing.softmax(0)
        return ordinary(model, x @ model.kept)

    monkeypatch.setattr(observation, "shares_of", lambda *_: [])
    model, x = net(run, mixing=nn.Parameter(torch.randn(6, 6)), kept=None), inputs()
    assert {layer.path for layer in kernel_plan(model, x).layers} == {"per-sample jacobian"}
    caplog.set_level("INFO", logger="tangentscope.probes")
    found = tangent_kernel(model, x)
    assert relative_error(found, brute_force_kernel(copy.deepcopy(model), x, "full")) < 1e-5
    assert "vmap failed" not in caplog.text


@pytest.mark.parametrize("make", [lambda: None, dict])
def test_caches_can_be_emptied(make: Callable[[], Any]):
    """After a validation pass the cache hides the parameter it was computed from."""
    fresh, x = Cached(make()).eval(), torch.randn(3, 3)
    model = copy.deepcopy(fresh)
    with torch.no_grad():
        model(x)
    cache, holds = model.kept, described(model.kept)
    expected = fresh(x)
    with kept(model, torch.device("cpu")) as state:
        found = caches(model)
        assert found == [(model, "kept")]
        state.empty(found)
        for _ in range(2):  # the second pass does not find what the first one has put there
            renew(model)
            outputs = model(x)
            assert torch.equal(outputs, expected)
            assert torch.autograd.grad(outputs.sum(), model.bias)[0].any()
        state.refill()
        renew(model)
        assert torch.autograd.grad(model(x).sum(), model.bias, allow_unused=True)[0] is None
    assert model.kept is cache
    assert described(model.kept) == holds


def test_what_is_a_cache():
    model = net(ordinary, numbers=[1.0], names={"a": "b"}, indices=torch.arange(3), none=None, empty={}, rank=3)
    model.register_buffer("buffer", torch.ones(2))
    model.listed = [model.layer.weight]
    assert caches(model) == []
    model.table = torch.ones(2)
    model.head.kept = {"cpu": torch.ones(2)}
    model.head.lists = defaultdict(list, a=[torch.ones(2)])
    model.layer.kept = deque([(1, torch.ones(2))], maxlen=3)
    model.graph = 2 * model.layer.weight  # of a pass of the user's
    named = {module: name for name, module in model.named_modules()}
    found = {(named[module], name) for module, name in caches(model)}
    assert found == {("", "table"), ("", "graph"), ("head", "kept"), ("head", "lists"), ("layer", "kept")}
    with kept(model, torch.device("cpu")) as state:
        state.empty(caches(model))
        renew(model)
        assert model.table is None
        assert model.graph is None
        assert model.head.kept == {}
        assert model.head.lists["new"] == []
        assert not model.layer.kept
        assert model.layer.kept.maxlen == 3
    assert model.layer.kept
