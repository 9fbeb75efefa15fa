"""Where a prober gets the network of a run from, to fill it with snapshots, and the loss at its points."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from tangentscope.pipeline.config.components import build_network, restore
from tangentscope.pipeline.probing.given import in_form
from tangentscope.pipeline.store.planned import PlannedRun
from tangentscope.pipeline.store.points import inputs_of
from tangentscope.probes.network.checks import Chosen
from tangentscope.probes.network.output import Output
from tangentscope.tasks import Task

Loss = Callable[[Tensor, Tensor], Tensor]
"""Loss of each point from outputs [n, ...] and targets [n, ...]."""


class Part(nn.Module):
    """Some of a network's outputs."""

    def __init__(self, network: nn.Module, columns: slice) -> None:
        super().__init__()
        self.network, self.columns = network, columns

    def forward(self, inputs: Any) -> Tensor:
        """Outputs [n, some] of the network for inputs [n, ...]."""
        return self.network(inputs)[:, self.columns]


def observed(task: Task, network: nn.Module, part: str | None) -> nn.Module:
    """What a task's kernels are of: all outputs of what it observes, or a part of them."""
    whole = task.observed(network)
    return whole if part is None else Part(whole, task.parts()[part])


class Subject(Protocol):
    """Gives networks and losses of planned runs."""

    def network(self, run: PlannedRun) -> nn.Module:
        """A network of its own for each call; its parameters are of no account."""
        ...

    @property
    def output(self) -> Output:
        """Which of what networks return is meant, see `probes.tangent_kernel`."""
        ...

    @property
    def parameters(self) -> Chosen:
        """Which of the parameters that need gradients the kernel is of; None for all."""
        ...

    def inputs(self, points: Mapping[str, Tensor]) -> Any:
        """The inputs among points that were drawn, as networks take them."""
        ...

    def observed(self, run: PlannedRun, network: nn.Module, part: str | None = None) -> nn.Module:
        """What the kernel is of: `network`, one made around it, or a part of the outputs of these."""
        ...

    def loss(self, run: PlannedRun) -> Loss | None:
        """Of what is observed; None where nothing that is measured needs one."""
        ...


@dataclass(frozen=True)
class Planned:
    """Runs of a study file: model and task out of the tables."""

    output: Output = None
    parameters: Chosen = None

    def inputs(self, points: Mapping[str, Tensor]) -> Any:
        """A tensor, or a mini-batch of graphs."""
        return inputs_of(points)

    def network(self, run: PlannedRun) -> nn.Module:
        """As the run's model builds it."""
        return build_network(run.config, *run.data.shapes)

    def observed(self, run: PlannedRun, network: nn.Module, part: str | None = None) -> nn.Module:
        """As the run's task wants it."""
        task = restore(run.config)[0]
        return observed(task, network, part)

    def loss(self, run: PlannedRun) -> Loss | None:
        """The task's."""
        return restore(run.config)[0].observed_loss


@dataclass(frozen=True)
class Attached:
    """A network that a user trains. It travels to probers through Ray, and is never read from storage.

    form: the structure that its inputs have, without rows, as `Given.form` has it.
    """

    module: nn.Module
    loss_of_points: Loss | None
    output: Output = None
    parameters: Chosen = None
    form: Any = None

    def network(self, run: PlannedRun | None = None) -> nn.Module:
        """A copy."""
        return copy.deepcopy(self.module)

    def inputs(self, points: Mapping[str, Tensor]) -> Any:
        """In their form."""
        return inputs_of(points) if self.form is None else in_form(self.form, points)

    def observed(self, run: PlannedRun | None, network: nn.Module, part: str | None = None) -> nn.Module:
        """All of the network's outputs."""
        return network

    def loss(self, run: PlannedRun | None = None) -> Loss | None:
        """The user's."""
        return self.loss_of_points
