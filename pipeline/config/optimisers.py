"""Optimisers by name, and the factors by which a schedule scales their learning rate."""

import math
from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tangentscope.pipeline.config.solvers import SOLVERS, Solver

_LARGEST = 3.4e38  # parameters are of single precision, which torch refuses to mix with a larger number
_Rate = Annotated[float, Field(gt=0, le=_LARGEST)]
_Share = Annotated[float, Field(ge=0, lt=1)]


class RateSchedule(BaseModel):
    """A learning-rate schedule: constant, cosine decay or steps, each after an optional linear warm-up.

    ``cosine`` falls to `final` times the rate at the end of training; ``steps`` multiplies it by `factor` every
    `every` epochs. The warm-up rises linearly over the first `warmup` epochs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    name: Literal["constant", "cosine", "steps"] = "constant"
    warmup: float = Field(default=0.0, ge=0)
    final: float = Field(default=0.0, ge=0, le=1)
    every: float = Field(default=60.0, gt=0)
    factor: float = Field(default=0.2, gt=0, le=1)

    def scale(self, step: int, epoch_steps: int, steps: int) -> float:
        """The factor on the learning rate for the update that follows `step` (0-based), of `steps` in all."""
        ramp = self.warmup * epoch_steps
        rise = min(1.0, (step + 1) / ramp) if ramp else 1.0
        if self.name == "cosine":
            done = max(0.0, step - ramp) / max(1.0, steps - ramp)
            return rise * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))
        if self.name == "steps":
            return rise * self.factor ** (step // (self.every * epoch_steps))
        return rise


class _Optimiser(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    version: ClassVar[int] = 1
    lr: _Rate
    weight_decay: float = Field(default=0.0, ge=0, le=_LARGEST)
    schedule: RateSchedule = RateSchedule()


class SGD(_Optimiser):
    """Stochastic gradient descent; with `momentum` > 0 heavy ball, or Nesterov's."""

    name: Literal["sgd"] = "sgd"
    momentum: _Share = 0.0
    nesterov: bool = False

    @model_validator(mode="after")
    def _momentum(self) -> "SGD":
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0, e.g. momentum: 0.9")
        return self

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """The torch optimiser over these parameters."""
        return torch.optim.SGD(
            parameters, self.lr, self.momentum, weight_decay=self.weight_decay, nesterov=self.nesterov
        )


class _Adam(_Optimiser):
    beta1: _Share = 0.9
    beta2: _Share = 0.999
    eps: _Rate = 1e-8

    def _settings(self) -> dict:
        betas = (self.beta1, self.beta2)
        # One fused kernel a step: a third of the time of the loop over tensors, on a processor too.
        return {"lr": self.lr, "betas": betas, "eps": self.eps, "weight_decay": self.weight_decay, "fused": True}


class Adam(_Adam):
    """Adam, weight decay as an L2 term in the gradient."""

    name: Literal["adam"] = "adam"

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """The torch optimiser over these parameters."""
        return torch.optim.Adam(parameters, **self._settings())


class AdamW(_Adam):
    """Adam with decoupled weight decay."""

    name: Literal["adamw"] = "adamw"

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """The torch optimiser over these parameters."""
        return torch.optim.AdamW(parameters, **self._settings())


Descent = SGD | Adam | AdamW
Optimiser = Descent | Solver
DESCENTS: dict[str, type[SGD] | type[Adam] | type[AdamW]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}
OPTIMISERS: dict[str, type[BaseModel]] = {**DESCENTS, **SOLVERS}
