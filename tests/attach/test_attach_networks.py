"""Networks of other kinds, and networks that change while they are watched: right numbers, or a line that says so."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

from tangentscope import pipeline, probes
from tangentscope.pipeline.driver.attach.portable import portable
from tangentscope.pipeline.system.errors import UserError

X, LABELS = torch.linspace(-1, 1, 24).reshape(8, 3), torch.arange(8) % 2


def train(attach: Callable[..., Any], model: nn.Module, change: Callable[[int], None] = lambda step: None) -> Any:
    """A loop of four updates of all parameters that need gradients; `change` is called before each step."""
    with attach(model, train=(X, LABELS), kernel={"size": 8}) as watch:
        for step in range(4):
            change(step)
            watch(step)
            loss = F.cross_entropy(model(X), LABELS)
            loss.backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.grad is not None:
                        parameter -= 0.1 * parameter.grad
                        parameter.grad = None
    return watch


def traces(tmp_path) -> list[float]:
    return pipeline.load(tmp_path / "mine").sort_values("step")["value"].tolist()


def trace(model: nn.Module) -> float:
    return float(probes.tangent_kernel(model, X).trace())


def dense() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


class Merging(nn.Module):
    """A frozen weight with a trained part of low rank, which eval() merges into it, as loralib's layers do."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 3), requires_grad=False)
        self.a, self.b = nn.Parameter(torch.randn(1, 3)), nn.Parameter(torch.randn(2, 1))
        self.bias, self.merged = nn.Parameter(torch.zeros(2)), False

    def train(self, mode: bool = True) -> "Merging":
        super().train(mode)
        if mode == self.merged:
            self.weight.data += (-1 if mode else 1) * (self.b @ self.a).data
            self.merged = not mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight if self.merged else self.weight + self.b @ self.a, self.bias)


class WithExtra(nn.Sequential):
    def get_extra_state(self) -> dict[str, int]:
        return {"version": 3}

    def set_extra_state(self, state: Any) -> None:
        raise AssertionError("no snapshot has it")


class Turning(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("turn", torch.tensor([1.0 + 2.0j, 0.5j], dtype=torch.complex128))

    def forward(self, x: Tensor) -> Tensor:
        return (self.layer(x) * self.turn).abs().float()


def compiled_within() -> nn.Module:
    model = dense()
    model[0] = torch.compile(model[0], backend="eager")
    return model


def parallel_within() -> nn.Module:
    model = dense()
    model[0] = nn.DataParallel(nn.Sequential(model[0]))
    return model


def old_norm() -> nn.Module:
    model = dense()
    with pytest.warns(FutureWarning, match="weight_norm"):
        model[0] = nn.utils.weight_norm(model[0])
    model(X)  # the weight that its hook computes has a graph now
    return model


KINDS: dict[str, Callable[[], nn.Module]] = {
    "compiled within": compiled_within,
    "parallel within": parallel_within,
    "weight norm by a hook": old_norm,
    "spectral norm by a hook": lambda: nn.Sequential(nn.utils.spectral_norm(nn.Linear(3, 2))),
    "merges weights in eval()": Merging,
    "extra state that is no tensor": lambda: WithExtra(nn.Linear(3, 2)),
    "complex buffer": Turning,
    "lightning's flags": lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_networks_of_all_kinds_are_measured_as_they_are(attach, tmp_path, kind: str) -> None:
    torch.manual_seed(0)
    model = KINDS[kind]()
    first = trace(model)
    watch = train(attach, model)
    assert watch.troubles == ()
    found = traces(tmp_path)
    assert (found[0], found[-1]) == pytest.approx((first, trace(model)), rel=1e-4)


def test_parameters_are_frozen_and_thawed_while_it_is_watched(attach, tmp_path) -> None:
    model = dense()
    model[0].requires_grad_(False)
    expected = []

    def change(step: int) -> None:
        if step == 2:
            model[0].requires_grad_(True)
            model[2].requires_grad_(False)
        expected.append(trace(model))

    assert train(attach, model, change).troubles == ()
    assert traces(tmp_path)[:4] == pytest.approx(expected, rel=1e-5)
    assert expected[1] != pytest.approx(expected[2], rel=0.1)


def prune_it(model: nn.Sequential) -> None:
    prune.l1_unstructured(model[0], "weight", 0.5)


def grow_it(model: nn.Sequential) -> None:
    model[2] = nn.Linear(4, 3)


@pytest.mark.parametrize("change", [prune_it, grow_it])
def test_a_network_that_changes_its_shape_is_told_and_the_loop_goes_on(attach, tmp_path, change, caplog) -> None:
    model = dense()
    watch = train(attach, model, lambda step: change(model) if step == 2 else None)
    assert watch.step == 4
    (trouble,) = watch.troubles
    assert trouble.startswith("the network has changed its shape: ")
    assert caplog.messages == [f"attach: {trouble}"]
    assert pipeline.load(tmp_path / "mine", "snapshots")["step"].tolist() == [0, 1]


def test_a_network_merged_when_it_was_attached_is_told(attach, caplog) -> None:
    model = Merging().eval()
    watch = attach(model, train=(X, LABELS))
    model.train()
    watch(0)
    watch.close()
    assert any("outputs at two points differ" in trouble for trouble in watch.troubles)


def test_a_network_whose_copy_is_another_function_is_refused(attach) -> None:
    class Twice(nn.Linear):
        times = 2.0

        def __deepcopy__(self, memo: dict) -> nn.Module:
            return nn.utils.skip_init(Twice, 3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.times * super().forward(x)

    model = Twice(3, 2)
    model.times = 3.0
    with pytest.raises(UserError, match="outputs at two points differ by"):
        attach(model, train=(X, LABELS))


def test_a_network_that_nobody_trains_is_told(attach) -> None:
    with attach(dense(), train=(X, LABELS)) as watch:
        for step in range(4):
            watch(step)
    assert watch.troubles == (
        "the snapshots of steps 0 and 1 are the same to the last bit: is the network that is recorded the one that is "
        "trained?",
    )


def test_a_copy_has_no_gradients_and_leaves_the_network_alone() -> None:
    model = compiled_within()
    F.cross_entropy(model(X), LABELS).backward()
    before = [*model.state_dict()]
    copied = portable(nn.DataParallel(model))
    assert all(parameter.grad is None for parameter in copied.parameters())
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert [*copied.state_dict()] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert [*model.state_dict()] == before
