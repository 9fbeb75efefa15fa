"""Tasks, one file each: data, loss, score, and which outputs the kernel differentiates.

A task is a frozen config whose fields a study file spells out. To add one, write `tasks/two_moons.py`:

    class TwoMoons(Task, frozen=True):
        name: Literal["two_moons"] = "two_moons"
        train_size: int = Field(default=1000, ge=1)

        version: ClassVar[int] = 1
        score_name: ClassVar[str] = "accuracy"

        def load(self, data_dir: Path | None = None) -> TaskData: ...
        def loss(self, outputs: Tensor, targets: Tensor) -> Tensor: ...
        def score(self, outputs: Tensor, targets: Tensor) -> float: ...

and add its line to `TASKS`.
"""

from tasks.base import DataError, Split, Task, TaskData
from tasks.mnist import Mnist

TASKS: dict[str, type[Task]] = {
    "mnist": Mnist,
}

__all__ = ["TASKS", "DataError", "Mnist", "Split", "Task", "TaskData"]
