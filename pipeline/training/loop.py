"""One plain training loop: in process, on one worker or on many, on CPU or GPU, of one run or of several at once."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from tangentscope.pipeline.config.optimisers import Descent
from tangentscope.pipeline.config.train import Precision, Train
from tangentscope.pipeline.system.errors import Stopped
from tangentscope.pipeline.system.memory import peak_memory
from tangentscope.pipeline.training.learner import (
    Alone,
    Learner,
    Training,
    World,
    initialise,
    outputs_of,
    seed_generators,
)
from tangentscope.pipeline.training.recorder import Recorder
from tangentscope.pipeline.training.solved import solved
from tangentscope.pipeline.training.vectorised import Together
from tangentscope.tasks import Split, Task, TaskData

_EVALUATION_SEED = 0


@dataclass
class Costs:
    """Where a training's time went, in seconds, and its peak memory in bytes.

    Of several runs trained `together`, each has its own recording and an equal share of what was done for all.
    """

    training_seconds: float = 0.0
    evaluate_seconds: float = 0.0
    copy_seconds: float = 0.0
    wait_seconds: float = 0.0
    checkpoint_seconds: float = 0.0
    snapshots: int = 0
    checkpoints: int = 0
    steps: int = 0
    peak_memory: int = 0
    together: int = 1


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
        Stopped: Somebody asked for it; a checkpoint has been handed to the recorder.
    """
    world = world or World()
    data = _on(world.device, data)
    module = initialise(what, data, world.device)
    learner = (
        Alone(what, data.train, module, world, wrap, checkpoint)
        if isinstance(what.optimiser, Descent)
        else solved(what, data.train, module, checkpoint)
    )
    (costs,) = follow([what], learner, [recorder], _evaluations(what, data), checkpoint_seconds)
    if costs is None:
        raise Stopped(f"stopped after {learner.step} of {what.steps} steps")
    return learner.modules[0], costs


def train_together(
    whats: Sequence[Training],
    data: TaskData,
    recorders: Sequence[Recorder | None],
    device: torch.device,
    checkpoints: Sequence[bytes] | None = None,
    checkpoint_seconds: float = 30.0,
) -> tuple[Sequence[nn.Module], list[Costs | None]]:
    """Train several runs that differ by their seeds only, as :class:`Together` does; arguments as for :func:`train`.

    Args:
        whats: The runs.
        data: The data of all.
        recorders: One a run.
        device: Where they are trained.
        checkpoints: One a run, all of one step.
        checkpoint_seconds: Seconds between two checkpoints.

    Returns:
        The networks, and what each run cost; None for one that was asked to stop, which has handed its recorder a
        checkpoint. The others went on.
    """
    data = _on(device, data)
    learner = Together(whats, data.train, [initialise(what, data, device) for what in whats], device, checkpoints)
    return learner.modules, follow(whats, learner, recorders, _evaluations(whats[0], data), checkpoint_seconds)


def follow(
    whats: Sequence[Training],
    learner: Learner,
    recorders: Sequence[Recorder | None],
    evaluate: Callable[[Recorder, nn.Module, int], None],
    checkpoint_seconds: float,
) -> list[Costs | None]:
    """Update until the end, recording on the way. A run that is asked to stop is recorded no more; its place stays.

    Args:
        whats: The runs, alike but for their seeds.
        learner: Their networks.
        recorders: One a run; None where nothing is recorded.
        evaluate: Takes loss and score of a network after so many steps, and gives them to the recorder.
        checkpoint_seconds: Seconds between two checkpoints.

    Returns:
        What each run cost; None for one that was asked to stop.
    """
    what, start = whats[0], learner.step
    recorded = {k: recorder for k, recorder in enumerate(recorders) if recorder is not None}
    costs, stopped = [Costs(together=len(whats)) for _ in whats], set[int]()
    begun = saved = time.perf_counter()
    while True:
        step = learner.step
        due = time.perf_counter() - saved > checkpoint_seconds and step < what.steps
        due = due and not any(recorder.checkpointing for recorder in recorded.values())
        saved = time.perf_counter() if due else saved
        for k, recorder in tuple(recorded.items()):
            cost, module = costs[k], learner.modules[k]
            if step in what.evaluations:
                with _adding(cost, "evaluate_seconds"):
                    evaluate(recorder, module, step)
            if step in what.schedule:
                recorder.snapshot(step, module, overlap=True)
            stopping = recorder.stopping and step < what.steps  # read once: the thread may set it between two questions
            if due or stopping:
                with _adding(cost, "checkpoint_seconds"):
                    recorder.checkpoint(step, learner.state(k))
                cost.checkpoints += 1
            if stopping:
                stopped.add(k)
                del recorded[k]
        if step == what.steps or len(stopped) == len(whats):
            break
        learner.update(lambda: _settle(recorded.values()))
    elapsed = time.perf_counter() - begun
    for cost, recorder in zip(costs, recorders, strict=True):
        if recorder is not None:
            cost.copy_seconds, cost.wait_seconds = sum(recorder.copy_seconds), recorder.wait_seconds
            cost.snapshots = len(recorder.copy_seconds)
    aside = sum(c.evaluate_seconds + c.copy_seconds + c.wait_seconds + c.checkpoint_seconds for c in costs)
    for cost in costs:
        cost.steps = what.steps - start
        cost.training_seconds = (elapsed - aside) / len(whats)
        cost.peak_memory = peak_memory()
    return [None if k in stopped else cost for k, cost in enumerate(costs)]


def evaluate(
    task: Task, module: nn.Module, split: Split, precision: Precision = "float32", chunk: int = 512
) -> dict[str, float]:
    """Mean loss and all scores on a split, by name, in eval mode; the module's mode is restored.

    `chunk` points at a time: a residual network for 32×32 images holds about a megabyte for each. What a network draws
    (a variational one does) it draws alike in each evaluation, so that a curve shows the network's change.
    """
    was_training = module.training
    module.eval()
    seed_generators(_EVALUATION_SEED, split.device)
    try:
        with torch.no_grad():
            places = torch.arange(len(split), device=split.device).split(chunk)
            parts = [(outputs_of(module, inputs, precision), targets) for inputs, targets in map(split.batch, places)]
            outputs = torch.cat([part[0] for part in parts])
            targets = torch.cat([part[1] for part in parts])
            found = {"loss": task.loss(outputs, targets).double().mean().item()}
            found[task.score_name] = task.score(outputs, targets)
            return found | task.further_scores(outputs, targets)
    finally:
        module.train(was_training)


def evaluated(what: Training, data: TaskData) -> dict[str, Split]:
    """The points of which a run's loss and score are taken, by split: all, or of those it learns from the first few."""
    few = what.course.evaluate_train if isinstance(what.course, Train) else None
    if few is None or few >= len(data.train):
        return data.splits
    return data.splits | {"train": data.train.take(torch.arange(few, device=data.train.device))}


def _on(device: torch.device, data: TaskData) -> TaskData:
    return dataclasses.replace(data, **{name: split.to(device) for name, split in data.splits.items()})


def _evaluations(what: Training, data: TaskData) -> Callable[[Recorder, nn.Module, int], None]:
    def record(recorder: Recorder, module: nn.Module, step: int) -> None:
        for name, split in evaluated(what, data).items():
            for variable, value in evaluate(what.task, module, split, what.precision).items():
                recorder.row(step, name, variable, value)

    return record


def _settle(recorders: Iterable[Recorder]) -> None:
    for recorder in recorders:
        recorder.settle()


@contextmanager
def _adding(costs: Costs, name: str) -> Iterator[None]:
    """Add the seconds that the block takes to one of the costs."""
    begun = time.perf_counter()
    yield
    setattr(costs, name, getattr(costs, name) + time.perf_counter() - begun)
