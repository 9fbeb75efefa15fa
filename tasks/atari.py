"""Atari 2600 games by the Arcade Learning Environment (Bellemare et al. 2013), any of them by name."""

from __future__ import annotations

import difflib
from typing import Any, ClassVar, Literal

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from pydantic import Field, field_validator

from tangentscope.tasks.errors import DataError
from tangentscope.tasks.games import Game

_HEIGHT, _WIDTH = 210, 160  # of ALE's screen
_POOL = 4  # pixels that become one, in each direction


class Frames(gymnasium.Env[np.ndarray, int | np.integer]):
    """A game of which the last frames are seen, in grey and pooled: `[frames, (bottom − top) / 4, 40]` of bytes.

    ALE itself leaves frames out and makes them grey. A new game begins after a random number of steps in which nothing
    is done (Mnih et al. 2015), and before it all frames are its first.
    """

    def __init__(self, screen: Any, rows: tuple[int, int], frames: int, idle: int) -> None:
        self._screen, self._rows, self._idle = screen, rows, idle
        self._seen = np.zeros((frames, (rows[1] - rows[0]) // _POOL, _WIDTH // _POOL), np.uint8)
        self.observation_space = Box(0, 255, self._seen.shape, np.uint8)
        self.action_space = screen.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """A new game."""
        super().reset(seed=seed)
        frame, _ = self._screen.reset(seed=seed)
        for _ in range(int(self.np_random.integers(self._idle + 1))):
            frame, _, ended, cut, _ = self._screen.step(0)
            if ended or cut:
                frame, _ = self._screen.reset()
        self._seen = np.repeat(self._pooled(frame)[None], len(self._seen), 0)
        return self._seen, {}

    def step(self, action: int | np.integer) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Act for as many frames as are left out."""
        frame, reward, ended, cut, _ = self._screen.step(int(action))
        self._seen = np.concatenate([self._seen[1:], self._pooled(frame)[None]])
        return self._seen, float(reward), bool(ended), bool(cut), {}

    def _pooled(self, frame: np.ndarray) -> np.ndarray:
        # Sums of slices: ten times as fast as a mean over blocks.
        tall = frame[self._rows[0] : self._rows[1]].astype(np.uint16)
        flat = sum((tall[k::_POOL] for k in range(1, _POOL)), tall[::_POOL])
        means = sum((flat[:, k::_POOL] for k in range(1, _POOL)), flat[:, ::_POOL]) // _POOL**2
        return means.astype(np.uint8)


class Atari(Game, frozen=True):
    """An Atari game by ALE's name for it: pong, breakout, …; the last `frames` frames in grey, pooled to 40 columns.

    The network sees the screen's `rows` from the first up to the second (of 210). ALE shows every `skip`-th frame and
    with probability `sticky` repeats the last action (Machado et al. 2018); games begin after up to `idle` steps.
    """

    name: Literal["atari"] = "atari"
    game: str
    rows: tuple[int, int] = (0, 208)
    frames: int = Field(default=4, ge=1)
    skip: int = Field(default=4, ge=1)
    sticky: float = Field(default=0.25, ge=0, lt=1)
    idle: int = Field(default=30, ge=0)
    version: ClassVar[int] = 1

    @field_validator("game")
    @classmethod
    def _known(cls, game: str) -> str:
        from ale_py import roms  # a library of its own, to be loaded where it is wanted

        if game not in (known := roms.get_all_rom_ids()):
            near = difflib.get_close_matches(game.lower().replace("-", "_"), known, n=3) or sorted(known)[:3]
            raise ValueError(f"unknown game; the nearest of {len(known)} are {', '.join(near)}")
        return game

    @field_validator("rows")
    @classmethod
    def _some(cls, rows: tuple[int, int]) -> tuple[int, int]:
        if not 0 <= rows[0] < rows[1] <= _HEIGHT or (rows[1] - rows[0]) % _POOL:
            raise ValueError(f"expected two rows of 0 to {_HEIGHT}, apart by a multiple of {_POOL}, e.g. [34, 194]")
        return rows

    def environment(self) -> Frames:
        """One game."""
        import ale_py
        from ale_py.env import AtariEnv

        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        try:
            screen = AtariEnv(
                self.game, obs_type="grayscale", frameskip=self.skip, repeat_action_probability=self.sticky
            )
        except Exception as error:  # of kinds that differ between versions of ALE
            why = " ".join(str(error).split())
            raise DataError(
                f"atari: no ROM of {self.game} here ({why}): install ale-py again, whose wheel brings the ROMs"
            ) from None
        return Frames(screen, self.rows, self.frames, self.idle)

    def _source(self) -> str:
        return f"{self.game}: {super()._source()}"
