"""One plain training loop: in process, on one worker or on many, on CPU or GPU.

All randomness is a pure function of (seed, step, rank): the permutation of an epoch, and what dropout or augmentation
draw in a step. The step counter is therefore the whole random and sampler state, and a training resumed from any
checkpoint goes on exactly as it would have.
"""

import dataclasses
import hashlib
import io
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from models import Model
from pipeline.errors import Stopped
from pipeline.optimisers import Optimiser
from pipeline.plan import restore
from pipeline.snapshots import Recorder, plain_state
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


@dataclass
class Costs:
    """Where a training's time went, in seconds, and its peak memory in bytes."""

    training_seconds: float = 0.0
    evaluate_seconds: float = 0.0
    copy_seconds: float = 0.0
    wait_seconds: float = 0.0
    checkpoint_seconds: float = 0.0
    snapshots: int = 0
    checkpoints: int = 0
    steps: int = 0
    peak_memory: int = 0


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


def train(
    what: Training,
    data: TaskData,
    recorder: Recorder | None,
    world: World | None = None,
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module,
    checkpoint: bytes | None = None,
    checkpoint_seconds: float = 30.0,
) -> tuple[nn.Module, Costs]:
    """Train one run from its start or a checkpoint to its end.

    Args:
        what: The run.
        data: Its data; every worker has all of them and takes its share of each global batch.
        recorder: Where snapshots, checkpoints and rows go; None on every rank but 0.
        world: This worker's rank, the number of workers and the device.
        wrap: Makes the module one whose backward averages gradients over workers (DDP).
        checkpoint: What ``Recorder.checkpoint`` published, to resume from.
        checkpoint_seconds: Seconds between two checkpoints.

    Returns:
        The trained module, unwrapped, and what it cost.

    Raises:
        Stopped: The launch was asked to stop; a checkpoint has been handed to the recorder.
    """
    world = world or World()
    module, optimiser, start = _build(what, data, world.device, checkpoint)
    network = wrap(module)
    data = dataclasses.replace(data, train=data.train.to(world.device), test=data.test.to(world.device))
    costs, begun, saved = Costs(), time.perf_counter(), time.perf_counter()
    order = torch.empty(0)
    for step in range(start, what.steps + 1):
        if recorder is not None:
            if step in what.evaluations:
                costs.evaluate_seconds += _timed(lambda s=step: _record(recorder, what.task, module, data, s))
            if step in what.schedule:
                recorder.snapshot(step, module)
            due = time.perf_counter() - saved > checkpoint_seconds and not recorder.checkpointing
            stopping = recorder.stopping  # read once: the thread may set it between the two questions below
            if step < what.steps and (due or stopping):
                costs.checkpoint_seconds += _timed(lambda s=step: recorder.checkpoint(s, _state(s, module, optimiser)))
                costs.checkpoints, saved = costs.checkpoints + 1, time.perf_counter()
            if stopping and step < what.steps:
                raise Stopped(f"stopped after {step} of {what.steps} steps")
        if step == what.steps:
            break
        epoch, batch = divmod(step, what.epoch_steps)
        if batch == 0 or step == start:
            order = _permutation(len(data.train), what.seed, epoch, world.device)
        _seed(mix(what.seed, step, world.rank, "step"), world.device)
        everything = order[batch * what.batch_size : (batch + 1) * what.batch_size]
        inputs, targets = data.train.batch(everything[world.rank :: world.size])
        scale = what.optimiser.schedule.scale(step, what.epoch_steps, what.steps)
        for group in optimiser.param_groups:
            group["lr"] = what.optimiser.lr * scale
        optimiser.zero_grad(set_to_none=True)
        # Summed over this worker's share and divided by the global batch: unequal shares weigh by their points. DDP
        # divides by the number of workers, which the factor takes back.
        outputs = network(what.task.augmented(inputs))
        loss = what.task.loss(outputs, targets).sum() * (world.size / len(everything))
        loss.backward()
        optimiser.step()
    if recorder is not None:
        costs.copy_seconds, costs.wait_seconds = sum(recorder.copy_seconds), recorder.wait_seconds
        costs.snapshots = len(recorder.copy_seconds)
    costs.steps = what.steps - start
    spent = costs.evaluate_seconds + costs.copy_seconds + costs.wait_seconds + costs.checkpoint_seconds
    costs.training_seconds = time.perf_counter() - begun - spent
    costs.peak_memory = peak_memory()
    return module, costs


def evaluate(task: Task, module: nn.Module, split: Split, chunk: int = 512) -> tuple[float, float]:
    """Mean loss and score on a split, in eval mode; the module's mode is restored.

    `chunk` points at a time: a residual network for 32×32 images holds about a megabyte for each.
    """
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            places = torch.arange(len(split), device=split.inputs.device).split(chunk)
            parts = [(module(inputs), targets) for inputs, targets in map(split.batch, places)]
            outputs = torch.cat([part[0] for part in parts])
            targets = torch.cat([part[1] for part in parts])
            return task.loss(outputs, targets).double().mean().item(), task.score(outputs, targets)
    finally:
        module.train(was_training)


def initialise(what: Training, data: TaskData, device: torch.device) -> nn.Module:
    """The network at step 0, fixed by the seed; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(what.seed, 0, 0, "init"))
        return what.model.build(data.input_shape, data.outputs).to(device)


def mix(*parts: int | str) -> int:
    """A 63-bit seed that is a pure function of its parts, and unrelated for neighbouring ones."""
    digest = hashlib.blake2b(":".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def peak_memory() -> int:
    """The most memory this process has held so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _build(
    what: Training, data: TaskData, device: torch.device, checkpoint: bytes | None
) -> tuple[nn.Module, torch.optim.Optimizer, int]:
    module = initialise(what, data, device)
    module.train()
    if checkpoint is None:
        return module, what.optimiser.build(module.parameters()), 0
    state = torch.load(io.BytesIO(checkpoint), map_location=device, weights_only=True)
    module.load_state_dict(state["module"])
    optimiser = what.optimiser.build(module.parameters())
    optimiser.load_state_dict(state["optimiser"])
    return module, optimiser, int(state["step"])


def _state(step: int, module: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    return {"step": step, "module": _copy(plain_state(module)), "optimiser": _copy(optimiser.state_dict())}


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copy(item) for item in value)
    return value


def _record(recorder: Recorder, task: Task, module: nn.Module, data: TaskData, step: int) -> None:
    for name in ("train", "test"):
        loss, score = evaluate(task, module, getattr(data, name))
        recorder.row(step, name, "loss", loss)
        recorder.row(step, name, task.score_name, score)


def _permutation(count: int, seed: int, epoch: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(mix(seed, epoch, "order"))
    return torch.randperm(count, generator=generator).to(device)


def _seed(seed: int, device: torch.device) -> None:
    # torch.manual_seed would visit every accelerator there might be, at each step.
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def _timed(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun
