"""What playing costs on this host: the part of `tangentscope.pipeline.driver.costs` for games."""

import time
from collections.abc import Callable

import torch
from torch import nn

from tangentscope.pipeline.config.train import Reinforcement
from tangentscope.tasks import Game, Task

_SECONDS = 0.3  # spent on each quantity
# Beside the environment and the network, RLlib keeps every step in an episode and passes it through its connectors:
# 0.15 to 0.25 ms an action on this code's first machines, whatever the game.
_KEEPING = 2e-4


def rates_of_playing(task: Task, course: Reinforcement, network: nn.Module) -> tuple[float, float]:
    """Seconds of an iteration and of an evaluation, before anything was learned: later games may be longer."""
    assert isinstance(task, Game)
    environment = task.environment()
    actions, state = environment.action_space, environment.reset(seed=0)[0]
    states = task.seen(torch.from_numpy(state).expand(course.minibatch_size, *state.shape).contiguous())
    count, games, begun = 0, 0, time.perf_counter()
    while time.perf_counter() - begun < _SECONDS:
        *_, terminated, truncated, _ = environment.step(actions.sample())
        count += 1
        if terminated or truncated:
            environment.reset()
            games += 1
    acting = (time.perf_counter() - begun) / count
    environment.close()
    with torch.no_grad():
        choosing = _seconds(lambda: network(states[: course.environments])) / course.environments
    learning = _seconds(lambda: network(states).square().mean().backward()) * course.batch_size / course.minibatch_size
    iteration = course.batch_size * (acting + choosing + _KEEPING) + course.passes * learning
    length = count / games if games else 1000.0  # of a game; what of a long one was seen tells nothing
    return iteration, course.evaluate_games * length * (acting + choosing)


def _seconds(action: Callable[[], object]) -> float:
    action()
    times: list[float] = []
    while sum(times) < _SECONDS:
        begun = time.perf_counter()
        action()
        times.append(time.perf_counter() - begun)
    return min(times)
