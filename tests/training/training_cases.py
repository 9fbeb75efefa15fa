"""Small tasks, models and trainings for the tests of training, snapshots and measuring."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from tangentscope.models import Model
from tangentscope.pipeline.config.optimisers import SGD
from tangentscope.pipeline.store import layout, run_files
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.store.snapshots import read_snapshot
from tangentscope.pipeline.training.learner import Training
from tangentscope.pipeline.training.recorder import Recorder
from tangentscope.tasks import Split, Task, TaskData

RUN = "0123456789ab"
INPUTS, OUTPUTS = 5, 3


class Points(Task, frozen=True):
    """Regression on made-up points: half the squared error; the score is the largest error of the split."""

    name: Literal["points"] = "points"
    version: ClassVar[int] = 1
    score_name: ClassVar[str] = "worst"

    def load(self, data_dir: Path | None = None) -> TaskData:
        raise AssertionError("nobody loads these data")

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return 0.5 * (outputs - targets).square().sum(1)

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        return (outputs - targets).abs().max().item()


class Watched(Points, frozen=True):
    """Calls `on_update` with the targets of each training batch, before the loss is known."""

    on_update: Callable[[Tensor], None]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if outputs.requires_grad:
            self.on_update(targets)
        return super().loss(outputs, targets)


class Dense(Model, frozen=True):
    """Two dense layers, in double precision unless told otherwise."""

    name: Literal["dense"] = "dense"
    double: bool = True
    version: ClassVar[int] = 1

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        net = nn.Sequential(nn.Linear(*input_shape, 7), nn.Tanh(), nn.Linear(7, outputs))
        return net.double() if self.double else net


class Noisy(Model, frozen=True):
    """Dropout, which draws at each step, and batch norm, whose buffers belong to the state."""

    name: Literal["noisy"] = "noisy"
    version: ClassVar[int] = 1

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        hidden = [nn.Linear(*input_shape, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.4)]
        return nn.Sequential(*hidden, nn.Linear(8, outputs))


def points(train: int = 23, test: int = 9, dtype: torch.dtype = torch.float64) -> TaskData:
    """Data of a fixed random teacher."""
    generator = torch.Generator().manual_seed(train)
    inputs = torch.randn(train + test, INPUTS, generator=generator, dtype=torch.float64)
    teacher = torch.randn(INPUTS, OUTPUTS, generator=generator, dtype=torch.float64)
    splits = Split(inputs.to(dtype), inputs.mm(teacher).sin().to(dtype))
    parts = [Split(splits.inputs[part], splits.targets[part]) for part in (slice(train), slice(train, None))]
    return TaskData(*parts, (INPUTS,), OUTPUTS, "made up")


def training(data: TaskData, epochs: float = 3.0, batch_size: int = 6, **fields: Any) -> Training:
    """A training of `Dense` by SGD on `Points`, a snapshot and a row at each step; `fields` replace the defaults."""
    epoch_steps = -(-len(data.train) // batch_size)
    steps = max(1, round(epochs * epoch_steps))
    everywhere = frozenset(range(steps + 1))
    defaults: dict[str, Any] = {"task": Points(), "model": Dense(), "optimiser": SGD(lr=0.1), "seed": 3}
    defaults |= {"schedule": everywhere, "evaluations": everywhere}
    return Training(batch_size=batch_size, epoch_steps=epoch_steps, steps=steps, **defaults | fields)


class Choosy(Recorder):
    """Publishes a checkpoint at the given steps only; train with `checkpoint_seconds=-1` so that one is due always."""

    at: frozenset[int] = frozenset()

    def checkpoint(self, step: int, state: Any) -> None:
        if step in self.at:
            super().checkpoint(step, state)


def publish_plan(storage: Storage, runs: tuple[str, ...] = (RUN,)) -> None:
    """As much of a plan as reading tables needs."""
    config = {"task": {"name": "points"}, "model": {"name": "dense"}}
    shape = {"name": "seed=0", "seed": 0, "config": config, "varied": {}, "steps": 0, "epoch_steps": 1, "schedule": [0]}
    records = [{"run": run, **shape} for run in runs]
    storage.write_json(layout.PLAN, {"study": "tests", "varied": [], "runs": records})


def history(storage: Storage) -> dict[tuple[int, str, str], float]:
    """Rows of loss and score by step, split and variable, as readers of the store see them."""
    publish_plan(storage)
    frame = Store(storage).history()
    return {(row.step, row.split, row.variable): row.value for row in frame.itertuples()}


def checksums(storage: Storage) -> dict[int, str]:
    """Checksums of the present trajectory's snapshots by step."""
    return {name.step: name.checksum for name in run_files.current_snapshots(storage, RUN)}


def states(storage: Storage) -> dict[int, dict[str, Tensor]]:
    """The present trajectory's snapshots by step, as read from their files."""
    names = run_files.current_snapshots(storage, RUN)
    return {name.step: read_snapshot(storage, RUN, name)[0] for name in names}


def filled(module: nn.Module, value: float) -> nn.Module:
    """The module with every parameter set to `value`, in place."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(value)
    return module


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)
