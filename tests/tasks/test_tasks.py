from pathlib import Path
from typing import Any

import pytest
import torch
from published_files import written
from pydantic import ValidationError

from tangentscope.tasks import TASKS, DataError, Game, MissingDataError, Split, Task, TaskData


# Games have tests of their own.
@pytest.fixture(params=[name for name, task in TASKS.items() if not issubclass(task, Game)])
def task(request: pytest.FixtureRequest) -> Task:
    return TASKS[request.param](name=request.param)


def points(n: int = 6, offset: float = 0.0) -> Split:
    return Split(torch.arange(2.0 * n).view(n, 2) + offset, torch.arange(n))


def data(train: Split, test: Split) -> TaskData:
    return TaskData(train=train, test=test, input_shape=(2,), outputs=6, source="made up")


def test_a_task_is_known_by_the_name_of_its_line_in_the_table(task: Task):
    assert TASKS[task.name] is type(task)
    assert isinstance(task.version, int)
    with pytest.raises(ValidationError, match="name"):
        type(task)(name="another")
    with pytest.raises(ValidationError, match="train_sise"):
        type(task)(train_sise=3)
    with pytest.raises(ValidationError, match="frozen"):
        task.name = "another"


# Synthetic files are not the published ones.
ASKED: dict[str, dict[str, Any]] = {
    **{name: {"partial": True} for name in ("cifar10", "cifar100", "greek", "molecules")},
    "sines": {"train_size": 7},
    "skills": {"samples": 30},
}


def test_loss_and_score_fit_the_data(task: Task, tmp_path: Path):
    if task.published:
        written(task.name, tmp_path)
    task = task.model_copy(update=ASKED.get(task.name, {}))
    loaded = task.load(tmp_path)
    inputs, targets = loaded.train.batch(torch.arange(7))
    numbers = inputs if isinstance(inputs, torch.Tensor) else inputs.x
    assert numbers.shape[1:] == loaded.input_shape
    positions = targets.shape[1:] if task.name == "greek" else ()
    outputs = torch.randn(7, *positions, loaded.outputs, requires_grad=True)
    losses = task.loss(outputs, targets)
    assert losses.shape == (7,)
    losses.sum().backward()
    assert outputs.grad is not None
    assert isinstance(task.score(outputs, targets), float)
    assert task.score_name
    assert task.augmented(inputs) is inputs, "unless asked for"
    for split in loaded.splits.values():
        parts = [tensor for name, tensor in split.tensors().items() if name != "targets"]
        assert all(torch.isfinite(part).all() for part in parts)
    for part, counts in loaded.codes.items():
        assert all(counts), part
    assert task.checked(tmp_path) == loaded.source


def test_the_same_fields_give_the_same_data(task: Task, tmp_path: Path):
    folder = written(task.name, tmp_path) if task.published else None
    task = task.model_copy(update=ASKED.get(task.name, {}))
    data, again = task.load(tmp_path), task.load(tmp_path)
    assert data.fingerprint == again.fingerprint
    if "data_seed" in type(task).model_fields:
        assert task.model_copy(update={"data_seed": 1}).load(tmp_path).fingerprint != data.fingerprint
        assert f"(data_seed {task.data_seed})" in data.source
    assert folder is None or str(folder) in data.source


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.published])
def test_data_that_are_nowhere_are_said_to_be_missing(name: str, tmp_path: Path):
    task = TASKS[name](name=name)
    own = {"mnist": {"source": "idx"}, "mnist_vae": {"source": "idx"}, "auto_mpg": {"source": "uci"}}
    task = task.model_copy(update=own.get(task.name, {}))
    published = task.published
    assert published is not None
    for data_dir, places in [(tmp_path, published.folders(tmp_path)), (None, ["no data directory was given"])]:
        with pytest.raises(MissingDataError) as caught:
            task.load(data_dir)
        assert [str(part) for part in [*places, *published.md5] if str(part) not in str(caught.value)] == []
        assert "\n" not in str(caught.value)


def test_a_batch_keeps_the_order_asked_for():
    inputs, targets = points().batch(torch.tensor([4, 0, 4]))
    assert targets.tolist() == [4, 0, 4]
    assert inputs.tolist() == [[8, 9], [0, 1], [8, 9]]


def test_a_split_moves_as_a_whole():
    moved = points().to("meta")
    assert {moved.inputs.device.type, moved.targets.device.type} == {"meta"}
    assert len(moved) == 6


def test_a_split_needs_a_target_for_every_input():
    with pytest.raises(ValueError, match="3 inputs, 2 targets"):
        Split(torch.zeros(3, 1), torch.zeros(2))


def test_the_fingerprint_is_of_the_contents():
    fingerprint = data(points(), points(3)).fingerprint
    assert len(fingerprint) == 16
    assert int(fingerprint, 16) >= 0
    assert data(points(), points(3)).fingerprint == fingerprint


@pytest.mark.parametrize(
    "other",
    [
        data(points(offset=1.0), points(3)),
        data(points(), points(3, offset=1.0)),
        data(points(3), points()),
        data(Split(*points().batch(torch.arange(5, -1, -1))), points(3)),
        data(Split(points().inputs.view(6, 2, 1), points().targets), points(3)),
        data(Split(points().inputs.view(torch.int32), points().targets), points(3)),
    ],
    ids=["train values", "test values", "splits swapped", "order", "shape", "dtype of the same bytes"],
)
def test_the_fingerprint_changes_with_the_contents(other: TaskData):
    assert other.fingerprint != data(points(), points(3)).fingerprint


def test_a_data_error_is_a_value_error():
    assert issubclass(DataError, ValueError)
