"""One update of a network, on one worker or many; :mod:`pipeline.training.vectorised` has several networks.

All randomness is a pure function of (seed, step, rank): the permutation of an epoch, and what dropout or augmentation
draw in a step. The step counter is therefore the whole random and sampler state, and a training resumed from any
checkpoint goes on exactly as it would have.
"""

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tangentscope.models import Model
from tangentscope.pipeline.config.components import restore
from tangentscope.pipeline.config.optimisers import Optimiser
from tangentscope.pipeline.config.train import Course, Precision, Train
from tangentscope.pipeline.store.planned import PlannedRun
from tangentscope.pipeline.store.snapshots import plain_state
from tangentscope.pipeline.training.last_layer import train_last_layer_only
from tangentscope.tasks import Split, Task, TaskData


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
    precision: Precision = "float32"
    course: Course | None = None  # by which it is trained; None in a loop that does not ask for it


def training_of(run: PlannedRun) -> Training:
    """The training that a planned run describes."""
    task, model, optimiser, course = restore(run.config)
    return Training(
        task,
        model,
        optimiser,
        run.seed,
        run.batch_size,
        run.epoch_steps,
        run.steps,
        frozenset(run.snapshots),
        frozenset(run.evaluations),
        course.precision if isinstance(course, Train) else "float32",
        course,
    )


def nothing() -> None:
    """What there is to do before a step if nobody wants anything."""


class Learner(Protocol):
    """Networks, one a run, and how they are updated."""

    @property
    def step(self) -> int:
        """Updates made so far."""
        ...

    @property
    def modules(self) -> Sequence[nn.Module]:
        """The networks, unwrapped; each update changes them in place."""
        ...

    def update(self, before_step: Callable[[], None] = nothing) -> None:
        """Make one update of every network; `before_step` is called right before their parameters change."""
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
        self.optimiser, self.step = resumed(what, module, world.device, checkpoint)
        self._what, self._train, self._world, self._network = what, train, world, wrap(module)
        self._order = Order(what, len(train), world.device)

    def update(self, before_step: Callable[[], None] = nothing) -> None:
        """One step of the optimiser on this worker's share of the batch."""
        what, world = self._what, self._world
        seed_generators(mix(what.seed, self.step, world.rank, "step"), world.device)
        everything = self._order.batch(self.step)
        inputs, targets = self._train.batch(everything[world.rank :: world.size])
        # Summed over this worker's share and divided by the global batch: unequal shares weigh by their points. DDP
        # divides by the number of workers, which the factor takes back.
        with updating(self.optimiser, what, self.step, before_step):
            outputs = outputs_of(self._network, what.task.augmented(inputs), what.precision)
            (what.task.loss(outputs, targets).sum() * (world.size / len(everything))).backward()
        self.step += 1

    def state(self, member: int = 0) -> dict[str, Any]:
        """Step, parameters and buffers, and the optimiser's state."""
        return state_of(self.step, self.modules[member], self.optimiser.state_dict())


def initialise(what: Training, data: TaskData, device: torch.device) -> nn.Module:
    """The network at step 0, fixed by the seed; the global generator is left as it was."""
    network = network_of(what, data.input_shape, data.outputs, data.codes)
    if isinstance(what.course, Train) and what.course.trainable == "last":
        places = torch.arange(min(2, len(data.train)))
        train_last_layer_only(network, data.train.take(places.to(data.train.device)).to("cpu").batch(places)[0])
    return network.to(device)


def network_of(
    what: Training, input_shape: tuple[int, ...], outputs: int, codes: Mapping[str, tuple[int, ...]]
) -> nn.Module:
    """The network at step 0 for data of these shapes, on the processor."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(what.seed, 0, 0, "init"))
        return what.model.network(input_shape, outputs, codes)


def outputs_of(network: nn.Module, inputs: Any, precision: Precision) -> Tensor:
    """What a network makes of inputs; in bfloat16 on images with their channels last, as tensor units take them."""
    if precision == "float32":
        return network(inputs)
    if isinstance(inputs, Tensor) and inputs.dim() == 4:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    with torch.autocast(next(network.parameters()).device.type, torch.bfloat16):
        outputs = network(inputs)
    return outputs.float()  # losses are sums over many: they keep their digits


def mix(*parts: int | str) -> int:
    """A 63-bit seed that is a pure function of its parts, and unrelated for neighbouring ones."""
    digest = hashlib.blake2b(":".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class Order:
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
def updating(
    optimiser: torch.optim.Optimizer, what: Training, step: int, before_step: Callable[[], None]
) -> Iterator[None]:
    """One step of the optimiser, at the rate that the schedule has for it, on the gradients that the block makes."""
    scale = what.optimiser.schedule.scale(step, what.epoch_steps, what.steps)
    for group in optimiser.param_groups:
        group["lr"] = what.optimiser.lr * scale
    optimiser.zero_grad(set_to_none=True)
    yield
    before_step()
    optimiser.step()


def resumed(
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


def state_of(step: int, module: nn.Module, optimiser: dict[str, Any]) -> dict[str, Any]:
    """A copy of all that a training resumes from."""
    return {"step": step, "module": _copy(plain_state(module)), "optimiser": _copy(optimiser)}


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copy(item) for item in value)
    return value


def seed_generators(seed: int, device: torch.device) -> None:
    """Set the generators that dropout and augmentation draw from."""
    # torch.manual_seed would visit every accelerator there might be, at each step.
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
