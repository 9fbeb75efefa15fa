from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training_cases import RUN

from pipeline.launch import Launch
from pipeline.snapshots import Recorder
from pipeline.storage import Storage
from pipeline.training import Training, initialise
from tasks import TaskData


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
