"""What networks keep between calls, what a kernel leaves behind in them, and copies that stand for their originals."""

import copy
from collections.abc import Callable

import pytest
import torch
from kernel_brute_force import relative_error
from torch import Tensor, nn
from wild_case import Wild, disturb, right_or_refused
from wild_kept import COPIES, KEPT, Attention, Cached, Merged

from tangentscope.probes import kernel_plan, layer_kernels, layer_traces, measure, tangent_kernel

pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")  # scripts are, and are in use

CASE = {case.name: case for case in [*KEPT, *COPIES]}
IN_THE_NETWORK = [
    "kept in an attribute", "kept by device", "adapter merged in eval mode", "kept as a property", "kept by length",
]  # fmt: skip
EMPTIED_BY_TRAINING: dict[str, Callable[[], nn.Module]] = {
    "kept in an attribute": Cached, "kept by device": Attention, "adapter merged in eval mode": Merged,
}  # fmt: skip


@pytest.mark.parametrize("case", KEPT, ids=lambda case: case.name)
def test_a_second_kernel_is_the_first(case: Wild):
    model, inputs = case.make(torch.float64)
    first, second = (tangent_kernel(model, inputs) for _ in range(2))
    assert relative_error(second, case.kernel("full")) <= 1e-10
    assert torch.equal(first, second)


@pytest.mark.parametrize("call", [tangent_kernel, layer_kernels, layer_traces, kernel_plan])
@pytest.mark.parametrize("name", IN_THE_NETWORK)
def test_nothing_that_was_kept_outlives_the_call(name: str, call: Callable[[nn.Module, Tensor], object]):
    """A network in training is measured, learns, and is evaluated: not with what it had when it was measured."""
    case = CASE[name]
    model, inputs = case.make(torch.float64)
    call(model.train(), inputs)
    disturb(model)
    fresh = case.make(torch.float64)[0]
    fresh.load_state_dict(model.state_dict())
    with torch.no_grad():
        for one in (model, fresh):  # no call of eval(), at which some would empty what they keep
            for module in one.modules():
                module.training = False
        torch.testing.assert_close(model(inputs), fresh(inputs), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", IN_THE_NETWORK)
def test_what_was_kept_before_stays(name: str):
    """In eval mode a network keeps its own: a kernel neither takes it away nor puts something else there."""
    model, inputs = CASE[name].make(torch.float64)
    model.eval()(inputs)
    before = {key: value for key, value in vars(model).items() if not key.startswith("_")}
    inside = {key: dict(value) for key, value in before.items() if isinstance(value, dict)}
    tangent_kernel(model, inputs)
    after = {key: value for key, value in vars(model).items() if not key.startswith("_")}
    assert after.keys() == before.keys()
    assert all(after[key] is value for key, value in before.items())
    for key, value in inside.items():
        assert after[key].keys() == value.keys()
        assert all(after[key][k] is v for k, v in value.items())


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", EMPTIED_BY_TRAINING)
def test_a_pass_without_gradients_takes_no_parameters_away(name: str, mode: str):
    """A validation pass leaves tensors without gradients behind, which training would not use: right, or refused."""
    case = CASE[name]
    model, inputs = case.make(torch.float64)
    for module in model.modules():
        module.training = False
    with torch.no_grad():
        model(inputs)
    if mode == "train":
        for module in model.modules():
            module.training = True
    right_or_refused(case, model, inputs, "full", "keeps|kept|cache")
    assert all(module.training == (mode == "train") for module in model.modules())


@pytest.mark.parametrize("name", IN_THE_NETWORK)
def test_training_goes_on_after_a_kernel(name: str):
    """Nothing that was kept holds a graph that is gone."""
    model, inputs = CASE[name].make(torch.float64)
    tangent_kernel(model.train(), inputs)
    model.eval()(inputs).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


# Copies


def without_finish(case: Wild) -> tuple[nn.Module, Tensor]:
    return Wild(case.name, case.build, case.inputs).make(torch.float64)


@pytest.mark.parametrize(
    "name", ["copy of a scripted layer", "copy of one scripted layer among others", "copy of a scripted network"]
)
def test_a_copy_has_the_kernel_of_its_original(name: str):
    model, inputs = without_finish(CASE[name])
    kept, _ = CASE[name].make(torch.float64)
    torch.testing.assert_close(tangent_kernel(kept, inputs), tangent_kernel(model, inputs), rtol=1e-10, atol=1e-12)


def test_a_copy_as_the_network_at_the_beginning():
    model, inputs = without_finish(CASE["copy of one scripted layer among others"])
    initial = copy.deepcopy(model)
    names = ["trace_ratio", "kernel_distance"]
    found = measure(model, inputs, torch.tensor([[0, 1, 2]]), "full", names, initial=initial)
    assert float(found.values["trace_ratio"][0]) == pytest.approx(0, abs=1e-10)  # nothing has changed
    assert float(found.values["kernel_distance"][0]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("case", [case for case in COPIES if not case.slow], ids=lambda case: case.name)
def test_no_layer_of_a_copy_is_missing(case: Wild):
    model, inputs = case.make(torch.float64)
    traces = layer_traces(model, inputs)
    assert sorted(traces) == sorted(case.layers())
    assert all(trace > 0 for trace in traces.values())
