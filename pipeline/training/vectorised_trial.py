"""Whether networks of several seeds are better trained together than one by one: a trial of a few updates tells."""

import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

from tangentscope.pipeline.config.optimisers import Descent
from tangentscope.pipeline.store.snapshots import plain_state
from tangentscope.pipeline.training.learner import Alone, Learner, Training, World, initialise
from tangentscope.pipeline.training.vectorised import Together
from tangentscope.tasks import TaskData

# More than noise in a few timings: the same study should train in the same way each time.
_GAIN = 1.25
_TOLERANCE = 1e-3  # of the way that the parameters went
_UPDATES = 5  # that are timed, at most: nothing else is trained meanwhile
_ENOUGH_SECONDS = 0.25
_FEWEST_STEPS = 50  # of shorter trainings the trial would be no small part


def better_together(whats: Sequence[Training], data: TaskData, device: torch.device) -> bool:
    """Whether runs that differ by their seeds only train faster together, and to the same networks but for rounding.

    What cannot be vectorised, such as dropout, is not better together.
    """
    if len(whats) < 2 or whats[0].steps < _FEWEST_STEPS or not isinstance(whats[0].optimiser, Descent):
        return False
    train = data.train.to(device)

    def network(what: Training) -> nn.Module:
        return initialise(what, data, device)

    ends = [0, len(whats) - 1]
    alone = [Alone(whats[k], train, network(whats[k]), World(device=device)) for k in ends]
    try:
        together = Together(whats, train, [network(what) for what in whats], device)
        together.update()  # apart: it sets up what the others find
        first = _timed(together.update, device)
        more = max(1, min(_UPDATES - 1, int(_ENOUGH_SECONDS / first)))
        seconds = min(first, _seconds(together, device, more))
    except Exception:  # whatever torch says of a network that it cannot vectorise
        return False
    seconds_alone = []
    for learner in alone:
        learner.update()
        seconds_alone.append(_seconds(learner, device, 1 + more))
    for k, learner in zip(ends, alone, strict=True):
        went = _distance(learner.modules[0], network(whats[k]))
        if not _distance(learner.modules[0], together.modules[k]) <= _TOLERANCE * went:
            return False
    return seconds * _GAIN < len(whats) * min(seconds_alone)


def _seconds(learner: Learner, device: torch.device, count: int) -> float:
    """Least seconds of an update."""
    return min(_timed(learner.update, device) for _ in range(count))


def _timed(action: Callable[[], None], device: torch.device) -> float:
    _wait(device)
    begun = time.perf_counter()
    action()
    _wait(device)
    return time.perf_counter() - begun


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _distance(one: nn.Module, other: nn.Module) -> float:
    """Of all parameters and buffers; NaN if there is one in them."""
    pairs = zip(plain_state(one).values(), plain_state(other).values(), strict=True)
    return sum(float((a.double() - b.double()).square().sum()) for a, b in pairs) ** 0.5
