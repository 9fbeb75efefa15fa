"""Training a run by playing games: iterations of RLlib, recorded as the updates of any other run are."""

import io
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.cluster.rllib import Iteration, Player, player
from pipeline.course import Reinforcement
from pipeline.errors import Stopped
from pipeline.learning import Training, state_of
from pipeline.recorder import Recorder
from pipeline.training import Costs, adding, peak_memory
from tasks import Game, TaskData
from tasks.games import greedy

_PATIENCE_SECONDS = 300.0  # without a single action: all that play have died, and do not come back


@dataclass
class PlayingCosts(Costs):
    """Of a training by playing, also how many actions were taken in it."""

    agent_steps: int = 0


@dataclass
class _Count:
    """Iterations, games that have ended and actions, of the whole run."""

    step: int = 0
    episodes: int = 0
    agent_steps: int = 0


def train_by_playing(
    what: Training,
    data: TaskData,
    recorder: Recorder | None,
    device: torch.device,
    checkpoint: bytes | None = None,
    checkpoint_seconds: float = 30.0,
    runners: int = 0,
) -> tuple[nn.Module, Costs]:
    """Train one run of a game from its start or a checkpoint to its end.

    A checkpoint holds parameters, the optimiser's state and counts, but no games that have begun: those begin anew, and
    what follows is another trajectory.

    Args:
        what: The run; a step is an iteration.
        data: Its data, for their shapes.
        recorder: Where snapshots, checkpoints and rows go.
        device: Where it learns.
        checkpoint: What ``Recorder.checkpoint`` published, to resume from.
        checkpoint_seconds: Seconds between two checkpoints.
        runners: Processes that play; none plays in this one.

    Returns:
        The trained network, and what it cost.

    Raises:
        Stopped: Somebody asked for it; a checkpoint has been handed to the recorder.
    """
    state = torch.load(io.BytesIO(checkpoint), map_location=device, weights_only=True) if checkpoint else None
    count = _Count(*(state[name] for name in vars(_Count()))) if state else _Count()
    with player(what, data, device, runners, count.step) as playing:
        if state:
            playing.resume(state)
        costs = _loop(what, playing, recorder, count, checkpoint_seconds)
        return playing.network, costs


def _loop(
    what: Training, playing: Player, recorder: Recorder | None, count: _Count, checkpoint_seconds: float
) -> PlayingCosts:
    costs, start = PlayingCosts(), _Count(**vars(count))
    begun = saved = time.perf_counter()
    if recorder is not None and count.step == 0:
        _record(recorder, count, None)
    while True:
        step = count.step
        if recorder is not None:
            if step in what.evaluations:
                with adding(costs, "evaluate_seconds"):
                    recorder.row(step, "test", "return", _evaluated(what, playing.network))
            if step in what.schedule:
                recorder.snapshot(step, playing.network)
            due = time.perf_counter() - saved > checkpoint_seconds and step < what.steps and not recorder.checkpointing
            stopping = recorder.stopping and step < what.steps  # read once: the thread may set it meanwhile
            if due or stopping:
                with adding(costs, "checkpoint_seconds"):
                    recorder.checkpoint(step, _state(playing, count))
                costs.checkpoints += 1
                saved = time.perf_counter()
            if stopping:
                raise Stopped(f"stopped after {step} of {what.steps} iterations")
        if step == what.steps:
            break
        iteration = _iterated(playing, step)
        count.step += 1
        count.episodes += len(iteration.returns)
        count.agent_steps += iteration.actions
        if recorder is not None:
            _record(recorder, count, iteration)
    if recorder is not None:
        costs.copy_seconds, costs.wait_seconds = sum(recorder.copy_seconds), recorder.wait_seconds
        costs.snapshots = len(recorder.copy_seconds)
    aside = costs.evaluate_seconds + costs.copy_seconds + costs.wait_seconds + costs.checkpoint_seconds
    costs.training_seconds = time.perf_counter() - begun - aside
    costs.steps, costs.agent_steps = count.step - start.step, count.agent_steps - start.agent_steps
    costs.peak_memory = peak_memory()
    return costs


def _iterated(playing: Player, step: int) -> Iteration:
    """An iteration in which something was played: there is none while those that play are being replaced."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while not (iteration := playing.iterate(step)).actions:
        if time.monotonic() > until:
            raise RuntimeError(
                f"nothing was played in {_PATIENCE_SECONDS:g} seconds: all env runners have died; see the run's log"
            )
        time.sleep(0.5)
    return iteration


def _record(recorder: Recorder, count: _Count, iteration: Iteration | None) -> None:
    """Rows of an iteration; without one, of the start. Where no game has ended there is no return."""
    recorder.row(count.step, "train", "episodes", count.episodes)
    recorder.row(count.step, "train", "agent_steps", count.agent_steps)
    if iteration is not None:
        if iteration.returns:
            recorder.row(count.step, "train", "return", float(np.mean(iteration.returns)))
        for name, value in iteration.losses.items():
            recorder.row(count.step, "train", name, value)


def _evaluated(what: Training, network: nn.Module) -> float:
    """Mean return of games that are played by the likeliest actions, the same games each time."""
    course, game = what.course, what.task
    assert isinstance(course, Reinforcement)
    assert isinstance(game, Game)
    device, was_training = next(network.parameters()).device, network.training
    network.eval()
    try:
        policy = greedy(lambda seen: network(seen.to(device))[:, :-1].cpu())
        return float(np.mean(game.evaluate(policy, course.evaluate_games).returns))
    finally:
        network.train(was_training)


def _state(playing: Player, count: _Count) -> dict[str, Any]:
    return state_of(count.step, playing.network, playing.optimiser.state_dict()) | vars(count)
