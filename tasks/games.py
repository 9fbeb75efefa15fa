"""Games: what is learned by playing. The points that kernels are taken of are states that play has come by.

Nothing here learns: whoever does (the pipeline, by RLlib) takes an environment from `Game.environment`, and `play`
serves to gather states and to evaluate a policy on games that are the same at every call.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from pydantic import Field
from torch import Tensor

from tangentscope.tasks.base import Task
from tangentscope.tasks.data import Split, TaskData
from tangentscope.tasks.errors import DataError

Policy = Callable[[Tensor], Tensor]
"""Actions `[n]` for observations `[n, ...]` as networks take them."""

_TRAIN, _TEST, _EVALUATION, _STAGES = 0, 1, 2, 3  # which games: no two of them begin alike
_ABREAST = 20  # games that are played at a time, where there may be hundreds


@dataclass(frozen=True)
class Played:
    """Games from their first to their last state.

    Args:
        states: all that was seen when an action was chosen, `[n, ...]` as the environment gives it, game by game.
        returns: sum of rewards of each game.
        lengths: actions in each game.
    """

    states: np.ndarray
    returns: list[float]
    lengths: list[int]


class Game(Task, frozen=True):
    """The fields that all games share.

    The network has an output for the logit of each action and a last one for the value of the state. Kernels are of
    all of these, or of a part: `actor`, `critic` or `both`. Their points are states of games that were played at
    random: different ones of `games` games for each split, of which `states` are drawn. `play_seed` says which games.
    """

    states: int = Field(default=500, ge=1, le=1_000_000)
    games: int = Field(default=10, ge=1, le=1_000_000)
    play_seed: int = Field(default=0, ge=0)

    score_name: ClassVar[str] = "return"
    observes: ClassVar[str] = "logits and value"
    targets_observed: ClassVar[bool] = False

    @abstractmethod
    def environment(self) -> gymnasium.Env[Any, Any]:
        """One game, to be played again and again: observations are a `Box`, actions `Discrete`.

        Raises:
            DataError: if there is no such game here.
        """

    def seen(self, observations: Tensor) -> Tensor:
        """Observations `[n, ...]` as networks take them: whole numbers are brightnesses from 0 to 255."""
        return observations.float() if observations.is_floating_point() else observations.float() / 255

    def load(self, data_dir: Path | None = None) -> TaskData:
        """States for kernels; nothing is read from `data_dir`. Targets are zeros: no state has a right answer."""
        environment = self.environment()
        space, actions = environment.observation_space, environment.action_space
        environment.close()
        if not isinstance(actions, Discrete):
            raise DataError(f"{self.name}: got the action space {actions}, expected Discrete: choose another game")
        if not isinstance(space, Box):
            raise DataError(f"{self.name}: got the observation space {space}, expected a Box: choose another game")
        return TaskData(
            train=self._gathered(_TRAIN, int(actions.n)),
            test=self._gathered(_TEST, int(actions.n)),
            input_shape=tuple(space.shape),
            outputs=int(actions.n) + 1,
            source=self._source(),
        )

    def evaluate(self, policy: Policy, games: int) -> Played:
        """Games that no training or gathering begins with, the same at every call."""
        return play(self, policy, games, (self.play_seed, _EVALUATION))

    def parts(self) -> Mapping[str, slice]:
        """Actor, critic and both."""
        return {"actor": slice(0, -1), "critic": slice(-1, None), "both": slice(None)}

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Not there: the loss of an actor-critic is one of whole games."""
        raise TypeError(f"{self.name} is learned by playing: there is no loss of a state")

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        """Not there: a state is not a game."""
        raise TypeError(f"{self.name} is learned by playing: there is no score of states")

    def _source(self) -> str:
        drawn = f"{self.states} different states of {self.games} games"
        return f"{self.name} played at random: for training and for testing {drawn} (play_seed {self.play_seed})"

    def staged(self, stages: Sequence[Callable[[Tensor], Tensor]], states: int, games: int) -> Split:
        """States that networks at several stages of training came by, as many of each, stage after stage.

        Args:
            stages: For each, logits `[n, actions]` of observations `[n, ...]` as networks take them, of which actions
                are drawn.
            states: Of each stage.
            games: That are played at each stage.

        Raises:
            DataError: if fewer different states come up.
        """
        found: list[Tensor] = []
        for k, logits in enumerate(stages):
            random = torch.Generator().manual_seed(_mixed(self.play_seed, _STAGES, k))
            policy = drawn(logits, random)
            # Games side by side are kept whole in memory: a few at a time, of which each gives its share.
            portions = [min(_ABREAST, games - first) for first in range(0, games, _ABREAST)]
            shares = np.diff(np.linspace(0, states, len(portions) + 1).round().astype(int)).tolist()
            for place, (count, share) in enumerate(zip(portions, shares, strict=True)):
                seed = (self.play_seed, _STAGES, k, place)
                played = play(self, policy, count, seed)
                found.append(
                    self._different(played, share, random, f"stage {k + 1}: ", "play more games or ask for fewer")
                )
        inputs = torch.cat(found)
        return Split(inputs, torch.zeros(len(inputs), dtype=torch.long))

    def _gathered(self, which: int, actions: int) -> Split:
        seed = (self.play_seed, which)
        random = torch.Generator().manual_seed(_mixed(*seed, 0))
        played = play(self, lambda seen: torch.randint(actions, (len(seen),), generator=random), self.games, seed)
        states = self._different(played, self.states, random, "", "raise task.games or lower task.states")
        return Split(states, torch.zeros(len(states), dtype=torch.long))

    def _different(self, played: Played, count: int, random: torch.Generator, where: str, mend: str) -> Tensor:
        """As many states, drawn from those that were played, as networks take them."""
        # A state that comes twice tells a kernel nothing more.
        different = list({state.tobytes(): k for k, state in enumerate(played.states)}.values())
        if len(different) < count:
            raise DataError(
                f"{self.name}: {where}got {len(different)} different states in {len(played.lengths)} games, expected "
                f"{count}: {mend}"
            )
        order = torch.randperm(len(different), generator=random)[:count]
        states = torch.from_numpy(played.states[[different[k] for k in sorted(order.tolist())]])
        return self.seen(states).contiguous()


def play(game: Game, policy: Policy, games: int, seed: tuple[int, ...]) -> Played:
    """Play some games to their end, side by side; `seed` fixes how they begin and all that chance does in them."""
    environments = [game.environment() for _ in range(games)]
    states: list[list[np.ndarray]] = [[] for _ in environments]
    returns, lengths = [0.0] * games, [0] * games
    now = {k: each.reset(seed=_mixed(*seed, k + 1) % 2**31)[0] for k, each in enumerate(environments)}
    while now:
        observations = np.stack([np.asarray(state) for state in now.values()])
        chosen = policy(game.seen(torch.from_numpy(observations))).tolist()
        for k, state, action in zip(list(now), observations, chosen, strict=True):
            states[k].append(state)
            now[k], reward, terminated, truncated, _ = environments[k].step(action)
            returns[k] += float(reward)
            lengths[k] += 1
            if terminated or truncated:
                del now[k]
    for each in environments:
        each.close()
    return Played(np.stack([state for of_game in states for state in of_game]), returns, lengths)


def greedy(logits: Callable[[Tensor], Tensor]) -> Policy:
    """The policy that takes the likeliest action; `logits` gives `[n, actions]`."""

    def policy(seen: Tensor) -> Tensor:
        with torch.no_grad():
            return logits(seen).argmax(1)

    return policy


def drawn(logits: Callable[[Tensor], Tensor], random: torch.Generator) -> Policy:
    """The policy that draws actions by their probabilities; `logits` gives `[n, actions]`."""

    def policy(seen: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.multinomial(logits(seen).softmax(1), 1, generator=random)[:, 0]

    return policy


def _mixed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)
