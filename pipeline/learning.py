"""What makes one update: a network alone, on one worker or many, or several networks of one architecture at once.

All randomness is a pure function of (seed, step, rank): the permutation of an epoch, and what dropout or augmentation
draw in a step. The step counter is therefore the whole random and sampler state, and a training resumed from any
checkpoint goes on exactly as it would have.
"""

import copy
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from models import Model
from pipeline.optimisers import Optimiser
from pipeline.plan import restore
from pipeline.snapshots import plain_state
from tasks import Split, Task, TaskData


@dataclass(frozen=True)
class World:
    """This worker's place among those that train one run together."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


@dataclass(frozen=True)
class Training:
    """What to train: the parts of a run's config, and its steps as planned."""

    task: Task
    model: Model
    optimiser: Optimiser
    seed: int
    batch_size: int  # points in a global batch, over all workers
    epoch_steps: int
    steps: int
    schedule: frozenset[int]  # steps with a snapshot
    evaluations: frozenset[int]  # steps with a row of loss and score


def training_of(record: Mapping[str, Any]) -> Training:
    """The training that a run's record in ``plan.json`` describes."""
    task, model, optimiser, _ = restore(record["config"])
    return Training(
        task,
        model,
        optimiser,
        record["seed"],
        record["batch_size"],
        record["epoch_steps"],
        record["steps"],
        frozenset(record["schedule"]),
        frozenset(record["evaluations"]),
    )


class Learner(Protocol):
    """Networks, one a run, and how they are updated."""

    step: int
    """Updates made so far."""

    @property
    def modules(self) -> Sequence[nn.Module]:
        """The networks, unwrapped; each update changes them in place."""
        ...

    def update(self) -> None:
        """Make one update of every network."""
        ...

    def state(self, member: int) -> dict[str, Any]:
        """A copy of all that one network's training resumes from."""
        ...


class Alone:
    """One network, and this worker's part in its training.

    Args:
        what: The run.
        train: The points it learns from, on the world's device.
        module: The network at the start.
        world: This worker's rank, the number of workers and the device.
        wrap: Makes the module one whose backward averages gradients over workers (DDP).
        checkpoint: What ``state`` gave, as bytes, to resume from.
    """

    def __init__(
        self,
        what: Training,
        train: Split,
        module: nn.Module,
        world: World,
        wrap: Callable[[nn.Module], nn.Module] = lambda module: module,
        checkpoint: bytes | None = None,
    ) -> None:
        self.modules = [module.train()]
        self.optimiser, self.step = _resumed(what, module, world.device, checkpoint)
        self._what, self._train, self._world, self._network = what, train, world, wrap(module)
        self._order = _Order(what, len(train), world.device)

    def update(self) -> None:
        """One step of the optimiser on this worker's share of the batch."""
        what, world = self._what, self._world
        _seed(mix(what.seed, self.step, world.rank, "step"), world.device)
        everything = self._order.batch(self.step)
        inputs, targets = self._train.batch(everything[world.rank :: world.size])
        # Summed over this worker's share and divided by the global batch: unequal shares weigh by their points. DDP
        # divides by the number of workers, which the factor takes back.
        with _updating(self.optimiser, what, self.step):
            (what.task.loss(self._network(inputs), targets).sum() * (world.size / len(everything))).backward()
        self.step += 1

    def state(self, member: int = 0) -> dict[str, Any]:
        """Step, parameters and buffers, and the optimiser's state."""
        return _state(self.step, self.modules[member], self.optimiser.state_dict())


class Together:
    """Networks of one architecture that differ by their seeds only, in one pass over stacks of their parameters.

    Every network sees the batches it would see alone. What it computes differs by rounding, as the products of all are
    taken at once.

    Args:
        whats: The runs.
        train: The points they learn from, on `device`.
        modules: The networks at the start; from then on views of the stacks.
        device: Where they are trained.
        checkpoints: What ``state`` gave for each, as bytes, all of one step; None at the start.

    Raises:
        RuntimeError: What torch says of a network that cannot be vectorised, also at the first update.
    """

    def __init__(
        self,
        whats: Sequence[Training],
        train: Split,
        modules: Sequence[nn.Module],
        device: torch.device,
        checkpoints: Sequence[bytes] | None = None,
    ) -> None:
        self.modules = [module.train() for module in modules]
        resumed = [
            _resumed(what, module, device, checkpoints[k] if checkpoints else None)
            for k, (what, module) in enumerate(zip(whats, modules, strict=True))
        ]
        steps = {step for _, step in resumed}
        if len(steps) > 1:
            raise ValueError(f"checkpoints of the steps {sorted(steps)}, expected one step: train them apart")
        self.step = steps.pop()
        self._parameters, self._buffers = stack_module_state(list(modules))
        for k, module in enumerate(self.modules):
            for name, tensor in (*module.named_parameters(), *module.named_buffers()):
                tensor.data = (self._parameters | self._buffers)[name].data[k]
        self.optimiser = whats[0].optimiser.build(self._parameters.values())
        if self.step:
            self.optimiser.load_state_dict(_stacked([optimiser.state_dict() for optimiser, _ in resumed]))
        self._skeleton = copy.deepcopy(modules[0]).to("meta")
        self._whats, self._train, self._device = whats, train, device
        self._orders = [_Order(what, len(train), device) for what in whats]

    def update(self) -> None:
        """One step of the optimiser, which works entry by entry and so on each network as alone."""
        task = self._whats[0].task
        inputs, targets, shared = self._batch()
        with _updating(self.optimiser, self._whats[0], self.step):
            outputs = vmap(self._forward, in_dims=(0, 0, None if shared else 0))(
                self._parameters, self._buffers, inputs
            )
            losses = task.loss(outputs.flatten(0, 1), targets)
            (losses.sum() * (len(self._whats) / len(losses))).backward()
        self.step += 1

    def state(self, member: int) -> dict[str, Any]:
        """Of one network, as it would be if it were trained alone."""
        found = self.optimiser.state_dict()
        of_one = {
            number: {name: value[member] if _has_entries(name, value) else value for name, value in entries.items()}
            for number, entries in found["state"].items()
        }
        return _state(self.step, self.modules[member], {**found, "state": of_one})

    def _forward(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return functional_call(self._skeleton, (parameters, buffers), (inputs,))

    def _batch(self) -> tuple[Tensor, Tensor, bool]:
        """Inputs [networks, n, …], or [n, …] where all networks share them; targets [networks · n, …]; which it is."""
        places = torch.stack([order.batch(self.step) for order in self._orders])
        if places.shape[1] == len(self._train):  # a full batch: its order is of no account
            inputs, targets = self._train.inputs, self._train.targets
            return inputs, targets.repeat(len(places), *[1] * (targets.dim() - 1)), True
        inputs, targets = self._train.batch(places.flatten())
        return inputs.unflatten(0, places.shape), targets, False


def initialise(what: Training, data: TaskData, device: torch.device) -> nn.Module:
    """The network at step 0, fixed by the seed; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(what.seed, 0, 0, "init"))
        return what.model.build(data.input_shape, data.outputs).to(device)


def mix(*parts: int | str) -> int:
    """A 63-bit seed that is a pure function of its parts, and unrelated for neighbouring ones."""
    digest = hashlib.blake2b(":".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class _Order:
    """In which order a run visits its points, epoch by epoch."""

    def __init__(self, what: Training, count: int, device: torch.device) -> None:
        self._what, self._count, self._device = what, count, device
        self._epoch, self._order = -1, torch.empty(0)

    def batch(self, step: int) -> Tensor:
        """Places [n] of the global batch that the update after `step` sees."""
        epoch, batch = divmod(step, self._what.epoch_steps)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, permutation(self._count, self._what.seed, epoch, self._device)
        return self._order[batch * self._what.batch_size : (batch + 1) * self._what.batch_size]


def permutation(count: int, seed: int, epoch: int, device: torch.device) -> Tensor:
    """The order [count] in which an epoch visits the points."""
    generator = torch.Generator().manual_seed(mix(seed, epoch, "order"))
    return torch.randperm(count, generator=generator).to(device)


@contextmanager
def _updating(optimiser: torch.optim.Optimizer, what: Training, step: int) -> Iterator[None]:
    """One step of the optimiser, at the rate that the schedule has for it, on the gradients that the block makes."""
    scale = what.optimiser.schedule.scale(step, what.epoch_steps, what.steps)
    for group in optimiser.param_groups:
        group["lr"] = what.optimiser.lr * scale
    optimiser.zero_grad(set_to_none=True)
    yield
    optimiser.step()


def _resumed(
    what: Training, module: nn.Module, device: torch.device, checkpoint: bytes | None
) -> tuple[torch.optim.Optimizer, int]:
    """The optimiser and the step at which training goes on; the module is filled from the checkpoint."""
    optimiser = what.optimiser.build(module.parameters())
    if checkpoint is None:
        return optimiser, 0
    state = torch.load(io.BytesIO(checkpoint), map_location=device, weights_only=True)
    module.load_state_dict(state["module"])
    optimiser.load_state_dict(state["optimiser"])
    return optimiser, int(state["step"])


def _stacked(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of the optimisers of several networks, the state of one for the stacks of their parameters."""
    first = states[0]
    together = {
        number: {
            name: torch.stack([state["state"][number][name] for state in states])
            if _has_entries(name, value)
            else value
            for name, value in entries.items()
        }
        for number, entries in first["state"].items()
    }
    return {**first, "state": together}


def _has_entries(name: str, value: Any) -> bool:
    # Beside tensors of the parameter's shape torch's optimisers count their steps, the same for all networks.
    return isinstance(value, Tensor) and name != "step"


def _state(step: int, module: nn.Module, optimiser: dict[str, Any]) -> dict[str, Any]:
    return {"step": step, "module": _copy(plain_state(module)), "optimiser": _copy(optimiser)}


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copy(item) for item in value)
    return value


def _seed(seed: int, device: torch.device) -> None:
    # torch.manual_seed would visit every accelerator there might be, at each step.
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
