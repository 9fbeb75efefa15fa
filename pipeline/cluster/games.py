"""Training a run by playing games: iterations of RLlib, recorded as the updates of any other run are."""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from tangentscope.pipeline.cluster.rllib import Iteration, Player, player
from tangentscope.pipeline.config.resources import TrainPool
from tangentscope.pipeline.config.train import Reinforcement
from tangentscope.pipeline.system.errors import Stopped
from tangentscope.pipeline.training.learner import Training, nothing, state_of
from tangentscope.pipeline.training.loop import Costs, follow
from tangentscope.pipeline.training.recorder import Recorder
from tangentscope.tasks import Game, TaskData
from tangentscope.tasks.games import greedy

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


class _Learner:
    """The one network that plays, as `pipeline.training.loop` follows learners; an update is an iteration."""

    def __init__(self, playing: Player, recorder: Recorder | None, count: _Count) -> None:
        self.modules = [playing.network]
        self._playing, self._recorder, self._count = playing, recorder, count

    @property
    def step(self) -> int:
        """Iterations made so far."""
        return self._count.step

    def update(self, before_step: Callable[[], None] = nothing) -> None:
        """Play, and learn of it."""
        before_step()
        iteration, count = _iterated(self._playing, self.step), self._count
        count.step += 1
        count.episodes += len(iteration.returns)
        count.agent_steps += iteration.actions
        if self._recorder is not None:
            _record(self._recorder, count, iteration)

    def state(self, member: int) -> dict[str, Any]:
        """What the training resumes from."""
        playing = self._playing
        return state_of(self.step, playing.network, playing.optimiser_state()) | vars(self._count)


def train_by_playing(
    what: Training,
    data: TaskData,
    recorder: Recorder | None,
    device: torch.device,
    checkpoint: bytes | None = None,
    pool: TrainPool = TrainPool(),  # noqa: B008  it is frozen
) -> tuple[nn.Module, PlayingCosts]:
    """Train one run of a game from its start or a checkpoint to its end.

    A checkpoint holds parameters, the optimiser's state and counts, but no games that have begun: those begin anew, and
    what follows is another trajectory.

    Args:
        what: The run; a step is an iteration.
        data: Its data, for their shapes.
        recorder: Where snapshots, checkpoints and rows go.
        device: Where it learns.
        checkpoint: What ``Recorder.checkpoint`` published, to resume from.
        pool: Who plays and learns beside this process, and the seconds between two checkpoints.

    Returns:
        The trained network, and what it cost.

    Raises:
        Stopped: Somebody asked for it; a checkpoint has been handed to the recorder.
        RayActorError: One that learns beside this process has died.
    """
    state = torch.load(io.BytesIO(checkpoint), map_location=device, weights_only=True) if checkpoint else None
    count = _Count(*(state[name] for name in vars(_Count()))) if state else _Count()
    before = count.agent_steps
    with player(what, data, device, pool, count.step) as playing:
        if state:
            playing.resume(state)
        if recorder is not None and count.step == 0:
            _record(recorder, count, None)
        learner = _Learner(playing, recorder, count)

        def evaluate(recorder: Recorder, network: nn.Module, step: int) -> None:
            recorder.row(step, "test", "return", _evaluated(what, network))

        (costs,) = follow([what], learner, [recorder], evaluate, pool.checkpoint_seconds)
    if costs is None:
        raise Stopped(f"stopped after {count.step} of {what.steps} iterations")
    return playing.network, PlayingCosts(**vars(costs), agent_steps=count.agent_steps - before)


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
