"""Large parameters are copied while the next batch is computed: never after they have changed."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from training_cases import Noisy, filled, points, states, training

from tangentscope.pipeline.config.optimisers import SGD
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.snapshots import parameters_of
from tangentscope.pipeline.training import recorder as recording
from tangentscope.pipeline.training.loop import train
from tangentscope.pipeline.training.recorder import Recorder


@pytest.fixture(autouse=True)
def all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_OVERLAP_BYTES", 0)


@pytest.fixture(autouse=True)
def as_late_as_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes each copy only when somebody waits for it, the last moment that a slow thread may have."""

    class Late:
        def __init__(self, *about: Any) -> None: ...

        def submit(self, copy: Callable[..., None], *given: Any) -> Any:
            return SimpleNamespace(result=lambda: copy(*given))

        def shutdown(self) -> None: ...

    monkeypatch.setattr(recording, "ThreadPoolExecutor", Late)


def test_parameters_are_copied_when_they_are_waited_for_and_buffers_at_once(
    storage: Storage, recorder_of: Callable[..., Recorder]
) -> None:
    network = nn.BatchNorm1d(3)
    with recorder_of(network) as recorder:
        recorder.snapshot(0, filled(network, 1.0), overlap=True)
        filled(network, 2.0)  # which nobody may do before `settle`: it shows when the copy is made
        network(torch.rand(5, 3))  # a forward pass changes buffers
        recorder.settle()
        filled(network, 3.0)
        recorder.settle()  # there is nothing to wait for
    (state,) = states(storage).values()
    assert torch.equal(state["weight"], torch.full((3,), 2.0))
    assert torch.equal(state["running_mean"], torch.zeros(3))
    assert int(state["num_batches_tracked"]) == 0
    assert len(recorder.copy_seconds) == 1


def test_small_networks_are_copied_at_once(
    storage: Storage, recorder_of: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = nn.Linear(2, 2)
    monkeypatch.setattr(recording, "_OVERLAP_BYTES", 24)  # what it has
    with recorder_of(network) as recorder:
        recorder.snapshot(0, filled(network, 1.0), overlap=True)
        filled(network, 2.0)
    (state,) = states(storage).values()
    assert torch.equal(state["weight"], torch.ones(2, 2))


@pytest.mark.parametrize("then", ["snapshot", "checkpoint", "leave"])
def test_whatever_comes_next_waits_for_the_copy(
    then: str, storage: Storage, recorder_of: Callable[..., Recorder]
) -> None:
    network = nn.Linear(2, 2)
    with recorder_of(network) as recorder:
        recorder.snapshot(0, filled(network, 1.0), overlap=True)
        if then == "snapshot":
            recorder.snapshot(1, filled(network, 1.0))
        elif then == "checkpoint":
            recorder.checkpoint(1, {})
    assert set(states(storage)) == ({0, 1} if then == "snapshot" else {0})
    assert bool(storage.list("runs/0123456789ab/checkpoints")) == (then == "checkpoint")


def test_every_snapshot_of_a_training_is_of_its_moment(storage: Storage, recorder_of: Callable[..., Recorder]) -> None:
    data = points(23, dtype=torch.float32)
    what = training(data, model=Noisy(), optimiser=SGD(lr=0.5, momentum=0.9))
    expected: dict[int, dict[str, torch.Tensor]] = {}

    class Keeping(Recorder):
        def snapshot(self, step: int, module: nn.Module, overlap: bool = False) -> None:
            expected[step] = {name: tensor.clone() for name, tensor in module.state_dict().items()}
            super().snapshot(step, module, overlap)

    with recorder_of(what, data, cls=Keeping) as recorder:
        train(what, data, recorder)
    found = states(storage)
    assert found.keys() == expected.keys()
    for step, state in found.items():
        assert all(torch.equal(state[name], tensor) for name, tensor in expected[step].items())


def test_parameters_are_told_from_buffers_by_the_names_they_have_without_wrappers() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    network.register_module("tied", network[0])
    names = {"0.weight", "0.bias", "1.weight", "1.bias", "tied.weight", "tied.bias"}
    assert parameters_of(network) == parameters_of(nn.DataParallel(network)) == names
