"""What finds a network's parameters in other ways than by descent: named as optimisers in a study file.

All are deterministic and see all points at once, so that `train.batch_size` is `full` and an epoch is one step.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

FINEST = 2.3e-14  # a hundred times the rounding error of float64, below which no solver goes
_Time = Annotated[float, Field(gt=0)]


class _Solver(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    version: ClassVar[int] = 1


class Flow(_Solver):
    """Gradient flow, θ̇ = −∇L, followed in float64 by an ODE solver of SciPy.

    A step is the time `lr`, so that flow and gradient descent of one rate are at one time after as many steps.
    `rtol` and `atol` bound the error of each of the solver's own steps in every parameter. `DOP853` is explicit;
    `LSODA` and `Radau` take long steps where rates differ by orders of magnitude, if parameters are few. A flow that
    has not met its tolerance after `max_gradients` gradients fails.
    """

    name: Literal["flow"] = "flow"
    lr: _Time
    rtol: float = Field(default=1e-8, gt=0, lt=1)
    atol: float = Field(default=1e-10, gt=0, lt=1)
    method: Literal["DOP853", "LSODA", "Radau"] = "DOP853"
    max_gradients: int = Field(default=1_000_000, ge=1)

    @field_validator("rtol")
    @classmethod
    def _can_be_met(cls, rtol: float) -> float:
        if rtol < FINEST:
            raise ValueError(f"below what float64 can keep; ask for {FINEST:g} or more")
        return rtol


class LeastNorm(_Solver):
    """Of the least squares of a model that is linear in its parameters, the one nearest to where it starts.

    That is where gradient flow ends; from zero it is the solution of least norm, ridgeless regression. One step.
    """

    name: Literal["least_norm"] = "least_norm"


class Solution(_Solver):
    """The closed form of a solvable model, from where it starts: nothing is trained. A step is the time `lr`."""

    name: Literal["solution"] = "solution"
    lr: _Time


Solver = Flow | LeastNorm | Solution
SOLVERS: dict[str, type[Flow] | type[LeastNorm] | type[Solution]] = {
    "flow": Flow,
    "least_norm": LeastNorm,
    "solution": Solution,
}
