"""Trainings that are solved and not descended: gradient flow, least squares of least norm, closed forms.

Where a network is after a step does not depend on how it was asked for: a training that goes on from a checkpoint
starts again and ends at the same numbers.
"""

import copy
import io
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from tangentscope.models.solvable.base import Solvable
from tangentscope.pipeline.config.solvers import Flow, LeastNorm, Solution
from tangentscope.pipeline.training.learner import Learner, Training, nothing, state_of
from tangentscope.tasks import Split, Task
from tangentscope.tasks.moments import HasMoments


def solved(what: Training, train: Split, module: nn.Module, checkpoint: bytes | None = None) -> Learner:
    """The learner of a training by a solver.

    Args:
        what: The run.
        train: All points it learns from.
        module: The network at the start.
        checkpoint: What ``state`` gave, as bytes, to resume from.

    Raises:
        TypeError: The optimiser is none of the solvers, or model or task are not what it is for.
    """
    solver, start = what.optimiser, copy.deepcopy(module)
    if isinstance(solver, Flow):
        path: _Path = _FlowPath(solver, what, train, start)
    elif isinstance(solver, LeastNorm):
        path = _LeastNormPath(what.task, train, start)
    elif isinstance(solver, Solution) and isinstance(what.model, Solvable) and isinstance(what.task, HasMoments):
        path = _SolutionPath(solver, what.model, what.task, start)
    else:
        raise TypeError(f"{solver.name} does not solve {what.model.name} on {what.task.name}")
    return _Solved(what, module, path, checkpoint)


class _Path(ABC):
    """Where a network goes."""

    @abstractmethod
    def at(self, step: int) -> np.ndarray:
        """All its parameters after a step, in its order, float64; steps do not descend from call to call."""


class _Solved:
    """A network that is moved along its path, to the steps at which anybody looks."""

    def __init__(self, what: Training, module: nn.Module, path: _Path, checkpoint: bytes | None) -> None:
        self.modules, self.step = [module.train()], 0
        self._path, self._seen = path, what.schedule | what.evaluations | {what.steps}
        if checkpoint is not None:
            self.step = int(torch.load(io.BytesIO(checkpoint), weights_only=True)["step"])
            self._move()

    def update(self, before_step: Callable[[], None] = nothing) -> None:
        """Go on by one step."""
        self.step += 1
        if self.step in self._seen:
            before_step()
            self._move()

    def state(self, member: int = 0) -> dict[str, Any]:
        """The step, from which a training goes on; parameters as they were when somebody last looked."""
        return state_of(self.step, self.modules[member], {})

    def _move(self) -> None:
        _set(self.modules[0], self._path.at(self.step))


class _FlowPath(_Path):
    def __init__(self, flow: Flow, what: Training, train: Split, start: nn.Module) -> None:
        from tangentscope.models.solvable.flow import GradientFlow  # loads SciPy's solvers

        inputs, targets = everything(train, torch.float64)
        self._rate = flow.lr
        self._flow = GradientFlow(
            start.cpu(),
            lambda network: what.task.loss(network(inputs), targets).mean(),
            rtol=flow.rtol,
            atol=flow.atol,
            method=flow.method,
            max_gradients=flow.max_gradients,
        )

    def at(self, step: int) -> np.ndarray:
        return self._flow.to(step * self._rate)


class _SolutionPath(_Path):
    def __init__(self, solution: Solution, model: Solvable, task: HasMoments, start: nn.Module) -> None:
        self._rate, self._model, self._task, self._start = solution.lr, model, task, start

    def at(self, step: int) -> np.ndarray:
        time = step * self._rate
        parts = self._model.solved(self._start, time, self._task.target(), self._task.moments())
        return np.concatenate([np.ravel(part) for part in parts])


class _LeastNormPath(_Path):
    """The start, and from the first step on the solution."""

    def __init__(self, task: Task, train: Split, start: nn.Module) -> None:
        self._task, self._train, self._start = task, train, start.cpu().double()

    def at(self, step: int) -> np.ndarray:
        start = parameters_to_vector(self._start.parameters()).detach()
        if step:
            inputs, targets = everything(self._train, torch.float64)
            wanted, weights = least_squares(self._task, self._outputs(inputs), targets)
            rows = self._jacobian(inputs)
            roots = weights.sqrt().flatten()
            residual = (wanted - self._outputs(inputs)).flatten()
            start = start + torch.from_numpy(
                np.linalg.lstsq((rows * roots[:, None]).numpy(), (residual * roots).numpy(), rcond=None)[0]
            )
        return start.numpy()

    def _outputs(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            return self._start(inputs)

    def _jacobian(self, inputs: Tensor) -> Tensor:
        """∂f/∂θ `[n · outputs, parameters]`, which a network that is linear has everywhere."""
        named = dict(self._start.named_parameters())
        found = torch.func.jacrev(lambda p: torch.func.functional_call(self._start, p, (inputs,)).flatten())(named)
        return torch.cat([part.flatten(1) for part in found.values()], 1).detach()


def least_squares(task: Task, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Of a loss that is Σ_a w_a (f_a − y_a)²/2 for each point: y and w, of the shape of `outputs`; y is 0 where w is.

    Args:
        task: Whose loss it is.
        outputs: At which it is looked at, float64.
        targets: As in `Split`.

    Raises:
        ValueError: It is another loss.
    """

    def gradient(at: Tensor) -> Tensor:
        at = at.clone().requires_grad_()
        return torch.autograd.grad(task.loss(at, targets).sum(), at)[0]

    drawn = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(0), dtype=outputs.dtype)
    origin = gradient(torch.zeros_like(outputs))
    weights = gradient(torch.ones_like(outputs)) - origin
    if not torch.allclose(gradient(drawn), weights * drawn + origin, rtol=1e-9, atol=1e-9) or (weights < 0).any():
        raise ValueError(f"{task.name}'s loss is no squared error")
    return torch.where(weights > 0, -origin / weights, 0.0), weights


def is_linear(network: nn.Module, inputs: Any) -> bool:
    """Whether a network's outputs at some inputs are linear in its parameters, but for a constant. In float64."""
    network = copy.deepcopy(network).cpu().double()
    generator = torch.Generator().manual_seed(0)
    start = parameters_to_vector(network.parameters()).detach()
    one, other = (torch.randn(start.shape, generator=generator, dtype=start.dtype) for _ in range(2))

    def at(parameters: Tensor) -> Tensor:
        vector_to_parameters(parameters, network.parameters())
        with torch.no_grad():
            return network(inputs).double()

    together = at(one + other) + at(torch.zeros_like(one))
    apart = at(one) + at(other)
    return torch.allclose(together, apart, rtol=1e-9, atol=1e-9 * max(1.0, float(apart.abs().max())))


def everything(split: Split, dtype: torch.dtype) -> tuple[Any, Tensor]:
    """All inputs and targets of a split on the processor; those that are no whole numbers in this precision."""
    inputs, targets = split.to("cpu").batch(torch.arange(len(split)))
    of_numbers = isinstance(inputs, Tensor) and inputs.is_floating_point()
    return (inputs.to(dtype) if of_numbers else inputs), (targets.to(dtype) if targets.is_floating_point() else targets)


def _set(module: nn.Module, parameters: np.ndarray) -> None:
    place = 0
    with torch.no_grad():
        for parameter in module.parameters():
            part = parameters[place : place + parameter.numel()]
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(part)).view_as(parameter))
            place += parameter.numel()
