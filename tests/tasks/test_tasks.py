import pytest
import torch
from pydantic import ValidationError

from tasks import TASKS, DataError, Split, Task, TaskData


@pytest.fixture(params=TASKS)
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


def test_loss_and_score_fit_the_data(task: Task):
    loaded = task.load()
    inputs, targets = loaded.train.batch(torch.arange(7))
    assert inputs.shape == (7, *loaded.input_shape)
    outputs = torch.randn(7, loaded.outputs, requires_grad=True)
    losses = task.loss(outputs, targets)
    assert losses.shape == (7,)
    losses.sum().backward()
    assert outputs.grad is not None
    assert isinstance(task.score(outputs, targets), float)
    assert task.score_name


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
