"""What every task has: a frozen config, the data it loads, a loss and a score."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel
from torch import Tensor, nn

from tangentscope.tasks.data import TaskData

if TYPE_CHECKING:
    from tangentscope.tasks.readers.published import Published


class Task(BaseModel, frozen=True, extra="forbid"):
    """The fields of a task, as a study file gives them.

    A subclass sets `name` to a `Literal` with its key in `tasks.TASKS`, `version` to an integer that goes up whenever
    the same fields begin to mean another loss, score or choice of data, and `score_name` to what its score is called.
    `published` is the data set it reads, for `tangentscope data`; where a field `dataset` chooses among several,
    `data_sets` has each and `published` is the default's. `observes` says which outputs the kernel is of, where
    `observed` has something to say, and `targets_observed` whether targets and loss are of those outputs.
    """

    name: str
    version: ClassVar[int]
    score_name: ClassVar[str]
    published: ClassVar[Published | None] = None
    data_sets: ClassVar[Mapping[str, Published]] = {}
    observes: ClassVar[str] = "the network's outputs"
    targets_observed: ClassVar[bool] = True

    @abstractmethod
    def load(self, data_dir: Path | None = None) -> TaskData:
        """The data, the same at every call.

        Args:
            data_dir: where the user keeps data sets, each in the layout its field uses.

        Raises:
            DataError: if data are missing (a `MissingDataError` if nothing of them is there), damaged or fewer than
                asked for.
        """

    def checked(self, data_dir: Path | None = None) -> str:
        """What `load` says in `TaskData.source`, with what it raises for files that are missing or damaged.

        A task whose data take long to prepare overrides it and only reads them.
        """
        return self.load(data_dir).source

    def augmented(self, inputs: Any) -> Any:
        """The inputs of a training batch, as in `Split.batch`, as the network is to see them in this step.

        Called in training only, never for evaluations or probes. Randomness comes from torch's generator of the inputs'
        device, which the caller seeds by seed, step and rank.
        """
        return inputs

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of every point, `[n]`, for the caller to sum and divide by the size of the batch over all workers.

        Args:
            outputs: the model's, `[n, outputs]`.
            targets: as in `Split`, `[n, ...]`.
        """

    @abstractmethod
    def score(self, outputs: Tensor, targets: Tensor) -> float:
        """Score of a whole split at once (it need not be a mean over points). Arguments as in `loss`.

        Of a task with validation points the larger score is the better one: the report chooses an epoch by it.
        """

    def further_scores(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """What else to record of a whole split, by name. Arguments as in `loss`."""
        return {}

    def observed(self, network: nn.Module) -> nn.Module:
        """The network whose outputs the kernel differentiates: `network` itself, or one made around it.

        Its outputs are `[n, ...]`, `TaskData.outputs` numbers for each point.

        Raises:
            NetworkError: if the task needs more of a network than this one has. Known when a study is planned.
        """
        return network

    def parts(self) -> Mapping[str, slice]:
        """Parts of the outputs observed that have names, so that kernels can be taken of each; none by default."""
        return {}

    def observed_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of every point, `[n]`, as a function of the outputs observed; for variables that need its gradient."""
        return self.loss(outputs, targets)


def tasks_among(names: Mapping[str, Any]) -> dict[str, type[Task]]:
    """The tasks among a module's names, by what study files call them; a base class has no such name."""
    classes = [value for value in names.values() if isinstance(value, type) and issubclass(value, Task)]
    return {name: each for each in classes if isinstance(name := each.model_fields["name"].default, str)}
