"""Catch: a game of a few pixels that a small network learns in seconds. Our own, for tests and for first looks."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from pydantic import Field

from tangentscope.tasks.games import Game

_CELLS = 10  # a side of the field
_PADDLE = 2  # cells
_PIXELS = 4  # a side of a cell: frames are as large as those of Atari games
_BALLS = 5


class Falling(gymnasium.Env[np.ndarray, int | np.integer]):
    """Balls fall, one after another, a cell in each step; the paddle below goes left, stays or goes right.

    A ball that is caught gives 1, one that is missed −1; a game has five balls. Observations are frames
    `[1, 40, 40]` of bytes.
    """

    observation_space = Box(0, 255, (1, _CELLS * _PIXELS, _CELLS * _PIXELS), np.uint8)
    action_space = Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """A new game; the paddle begins anywhere."""
        super().reset(seed=seed)
        self._paddle = int(self.np_random.integers(_CELLS - _PADDLE + 1))
        self._left = _BALLS
        self._throw()
        return self._frame(), {}

    def step(self, action: int | np.integer) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Move the paddle, and let the ball fall by a cell."""
        self._paddle = min(max(self._paddle + int(action) - 1, 0), _CELLS - _PADDLE)
        self._row += 1
        reward = 0.0
        if self._row == _CELLS - 1:
            reward = 1.0 if 0 <= self._column - self._paddle < _PADDLE else -1.0
            self._left -= 1
            self._throw()
        return self._frame(), reward, self._left == 0, False, {}

    def _throw(self) -> None:
        self._row, self._column = 0, int(self.np_random.integers(_CELLS))

    def _frame(self) -> np.ndarray:
        cells = np.zeros((_CELLS, _CELLS), np.uint8)
        cells[self._row, self._column] = 255
        cells[-1, self._paddle : self._paddle + _PADDLE] = 255
        return cells.repeat(_PIXELS, 0).repeat(_PIXELS, 1)[None]


class Catch(Game, frozen=True):
    """A small game in pixels of our own: catch five balls that fall; returns are from −5 to 5."""

    name: Literal["catch"] = "catch"
    games: int = Field(default=50, ge=1)
    version: ClassVar[int] = 1

    def environment(self) -> Falling:
        """One game."""
        return Falling()
