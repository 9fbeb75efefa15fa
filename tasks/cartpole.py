"""CartPole: a pole is to be balanced on a cart that is pushed left or right (Barto, Sutton and Anderson 1983)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import gymnasium
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.wrappers import TimeLimit

from tangentscope.tasks.games import Game

_LONGEST = 500  # steps, as in Gymnasium's CartPole-v1


class CartPole(Game, frozen=True):
    """Gymnasium's CartPole-v1: four numbers are seen, each step gives 1; returns are up to 500."""

    name: Literal["cartpole"] = "cartpole"
    games: int = 100
    version: ClassVar[int] = 1

    def environment(self) -> gymnasium.Env[Any, Any]:
        """One game."""
        return TimeLimit(CartPoleEnv(), _LONGEST)
