"""How a run is trained: in epochs over data, or by playing games. Part of its identity; `train` in a study file."""

import math
from collections.abc import Collection, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tangentscope.tasks import TASKS, Game

Precision = Literal["float32", "bfloat16"]
_Share = Annotated[float, Field(ge=0, le=1)]


class _Course(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Train(_Course):
    """How long, on which batches and how exactly. ``batch_size: full`` is full-batch descent.

    With ``precision: bfloat16`` networks compute in it where torch's autocast finds that safe, in training and
    evaluations; parameters, their updates and kernels stay as they are. With ``trainable: last`` only the last linear
    layer learns; the features are those of initialisation.
    """

    version: ClassVar[int] = 1
    epochs: float = Field(gt=0)
    batch_size: Annotated[int, Field(ge=1)] | Literal["full"] = 128
    evaluate_every: float = Field(default=1.0, gt=0)  # epochs between two rows of loss and score
    evaluate_train: Annotated[int, Field(ge=1)] | None = None  # points of the training split that do; all, unless given
    precision: Precision = "float32"
    trainable: Literal["all", "last"] = "all"

    def batch(self, points: int) -> int:
        """Points in a global batch, of as many to learn from."""
        return points if self.batch_size == "full" else self.batch_size

    def epoch_steps(self, points: int) -> int:
        """Updates in an epoch; the last batch may be smaller than the others."""
        return math.ceil(points / self.batch(points))

    def length(self, points: int) -> float:
        """Updates in the whole training before they are rounded: a number also where it is too large for one."""
        return self.epochs * self.epoch_steps(points)

    def steps(self, points: int) -> int:
        """Updates in the whole training."""
        return max(1, round(self.length(points)))

    def evaluation_steps(self, points: int) -> float:
        """Updates from one row of loss and score to the next."""
        return max(1, self.evaluate_every * self.epoch_steps(points))

    def evaluations(self, points: int, probed: Collection[int]) -> list[int]:
        """The steps at which loss and score are taken: each `evaluate_every` epochs, and where the run is probed."""
        steps, interval = self.steps(points), self.evaluation_steps(points)
        return sorted({round(k * interval) for k in range(int(steps / interval) + 1)} | set(probed))


class Reinforcement(_Course):
    """Proximal policy optimisation (Schulman et al. 2017) by RLlib. A step is an iteration: playing, then learning.

    In an iteration `environments` games at a time are played for `batch_size` actions in all, of which the network
    learns in `passes`, each in minibatches. After every `evaluate_every` iterations `evaluate_games` games are played
    by the likeliest actions.
    """

    version: ClassVar[int] = 1
    algorithm: Literal["ppo"]
    iterations: int = Field(ge=1)
    environments: int = Field(default=8, ge=1)
    batch_size: int = Field(default=2048, ge=1)
    minibatch_size: int = Field(default=256, ge=1)
    passes: int = Field(default=4, ge=1)
    discount: _Share = 0.99
    trace_decay: _Share = 0.95  # λ of generalised advantage estimation
    clip: float = Field(default=0.2, gt=0)  # of the ratio of probabilities
    value_weight: float = Field(default=0.5, ge=0)
    entropy_bonus: float = Field(default=0.01, ge=0)
    gradient_clip: float = Field(default=0.5, gt=0)  # largest norm of a gradient
    evaluate_every: int = Field(default=10, ge=1)
    evaluate_games: int = Field(default=10, ge=1)

    @model_validator(mode="after")
    def _minibatches(self) -> "Reinforcement":
        if self.minibatch_size > self.batch_size:
            raise ValueError(f"minibatch_size {self.minibatch_size} is above batch_size {self.batch_size}; lower it")
        return self

    def batch(self, points: int) -> int:
        """Actions in an iteration."""
        return self.batch_size

    def epoch_steps(self, points: int) -> int:
        """Without epochs an iteration stands for one."""
        return 1

    def length(self, points: int) -> float:
        """Iterations."""
        return self.iterations

    def steps(self, points: int) -> int:
        """Iterations."""
        return self.iterations

    def evaluation_steps(self, points: int) -> float:
        """Iterations from one evaluation to the next."""
        return self.evaluate_every

    def evaluations(self, points: int, probed: Collection[int]) -> list[int]:
        """The iterations after which games are played for evaluation, the last one among them."""
        return sorted({*range(0, self.iterations, self.evaluate_every), self.iterations})


Course = Train | Reinforcement


def course_of(task: Mapping[str, Any]) -> type[Train] | type[Reinforcement]:
    """What `train` is for a task of these fields: games are played."""
    found = TASKS.get(task["name"])
    return Reinforcement if found is not None and issubclass(found, Game) else Train
