"""When a run is probed: a pure function of the config, always with step 0 and the last step."""

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Every(BaseModel):
    """A fixed interval, in epochs (may be a fraction) or in steps."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    epochs: float | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one(self) -> "Every":
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either epochs or steps, e.g. every: {epochs: 1}")
        return self


class Schedule(BaseModel):
    """One of ``{kind: log, points: 40}``, ``{every: {epochs: 1}}`` and ``{at: [0, 10, 100]}`` (steps)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["log"] | None = None
    points: int | None = Field(default=None, ge=2, le=100_000)
    every: Every | None = None
    at: tuple[Annotated[int, Field(ge=0)], ...] | None = None

    @model_validator(mode="after")
    def _one(self) -> "Schedule":
        log = self.kind is not None or self.points is not None
        if log + (self.every is not None) + (self.at is not None) != 1:
            raise ValueError("give one of {kind: log, points: 40}, {every: {epochs: 1}} and {at: [0, 10, 100]}")
        if log and None in (self.kind, self.points):
            raise ValueError("a log schedule takes both kind and points: {kind: log, points: 40}")
        return self

    def most(self, total: float, epoch_steps: int) -> float:
        """How many steps `steps` gives at most, which takes no list of them."""
        if self.every is not None:
            return total / max(1, self.every.steps or (self.every.epochs or 1) * epoch_steps) + 2
        return 2 + (len(self.at) if self.at is not None else self.points or 0)

    def steps(self, total: int, epoch_steps: int) -> list[int]:
        """The steps to probe at, ascending; a snapshot of step s has had s updates.

        Args:
            total: Updates in the whole training.
            epoch_steps: Updates in an epoch.

        Returns:
            Steps in [0, total] with 0 and `total` among them. The log schedule gives at most `points`, fewer
            where rounding to whole steps makes two the same; steps after the end are left out.
        """
        if self.every is not None:
            interval = max(1, self.every.steps or (self.every.epochs or 1) * epoch_steps)
            chosen = {round(k * interval) for k in range(1, math.floor(total / interval) + 1)}
        elif self.at is not None:
            chosen = set(self.at)
        else:
            count = (self.points or 2) - 1  # without step 0, which has no logarithm
            ratio = math.log(max(total, 1)) / max(count - 1, 1)
            chosen = {round(math.exp(k * ratio)) for k in range(count)} if count > 1 else set()
        return sorted({0, total} | {step for step in chosen if 0 <= step <= total})
