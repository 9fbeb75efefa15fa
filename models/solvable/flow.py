"""Gradient flow and gradient descent of small networks in float64, to hold closed forms against."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float64
from numpy.typing import ArrayLike
from scipy import integrate
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

Loss = Callable[[nn.Module], Tensor]
"""A network's loss, a scalar in float64, by differentiable operations."""

Method = Literal["DOP853", "LSODA", "Radau"]


class FlowError(ArithmeticError):
    """A flow that could not be followed as closely as asked for: one line with what was got and what to do."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Where training leads a network.

    Args:
        times: of flow; of descent, learning rate times steps.
        parameters: at each time, all of them in the network's order.
        losses: at each time.
    """

    times: Float64[np.ndarray, " times"]
    parameters: Float64[np.ndarray, "times parameters"]
    losses: Float64[np.ndarray, " times"]
    _network: nn.Module

    def networks(self) -> Iterator[nn.Module]:
        """The network at each time, in float64; the next one takes the place of the last."""
        for row in self.parameters:
            vector_to_parameters(torch.from_numpy(row), self._network.parameters())
            yield self._network


class GradientFlow:
    """Follows θ̇ = −∇L(θ) by a solver of SciPy, in float64, from a network's parameters at time 0 or `start`.

    Args:
        network: any small module without randomness; a copy in float64 is moved, it stays as it is.
        loss: what is to fall.
        rtol, atol: error of a step in each parameter, relative to it and absolute; errors of the whole are somewhat
            larger.
        method: `DOP853` is explicit; `LSODA` and `Radau` take long steps where rates differ by orders of magnitude.
        max_gradients: after how many gradients to give up.
        start, end: the first time, and one beyond which nobody will ask.

    Raises:
        FlowError: if the tolerance is below what float64 can keep; else as `to`.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Loss,
        *,
        rtol: float,
        atol: float,
        method: Method = "DOP853",
        max_gradients: int = 100_000,
        start: float = 0.0,
        end: float = np.inf,
    ):
        if rtol < 100 * np.finfo(float).eps:
            raise FlowError(
                f"rtol {rtol:g} is below what float64 can keep: ask for {100 * np.finfo(float).eps:.1e} or more"
            )
        self.gradients = 0
        self._descent, self._most, self._end = _Descent(network, loss), max_gradients, end
        self._asked = f"rtol {rtol:g}, atol {atol:g}"
        self._parameters, self._between = self._descent.initial, None
        solver = {"DOP853": integrate.DOP853, "LSODA": integrate.LSODA, "Radau": integrate.Radau}[method]
        self._solver = solver(self._velocity, start, self._descent.initial, end, rtol=rtol, atol=atol)

    def to(self, time: float) -> np.ndarray:
        """All parameters at a time, in the network's order, float64. Times must not descend from call to call.

        Raises:
            FlowError: if the tolerance cannot be met, or not within `max_gradients`; if loss or gradient become
                infinite or NaN.
        """
        solver = self._solver
        while solver.t < time:
            told = solver.step()
            if solver.status == "failed":
                raise FlowError(f"{self._asked} cannot be met: {str(told).rstrip('.')}; loosen them")
            self._between = None
        if solver.t_old is None:
            return self._descent.initial
        if self._between is None:
            self._between = solver.dense_output()
        return self._between(time)

    def trajectory(self, times: np.ndarray) -> Trajectory:
        """Parameters and losses at ascending times."""
        return self._descent.trajectory(times, np.array([self.to(time) for time in times]))

    def _velocity(self, time: float, parameters: np.ndarray) -> np.ndarray:
        self.gradients += 1
        if self.gradients > self._most:
            until = f" of {self._end:g}" if np.isfinite(self._end) else ""
            raise FlowError(
                f"{self._asked} not met within {self._most} gradients: reached time {time:.6g}{until}; loosen them, "
                "allow more gradients or take method LSODA"
            )
        value, gradient = self._descent(parameters)
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            raise FlowError(f"loss {value:g} with a gradient of norm {np.linalg.norm(gradient):g} at time {time:.6g}")
        return -gradient


def gradient_flow(
    network: nn.Module,
    loss: Loss,
    times: ArrayLike,
    *,
    rtol: float = 1e-10,
    atol: float = 1e-12,
    method: Method = "DOP853",
    max_gradients: int = 100_000,
) -> Trajectory:
    """Where gradient flow leads a network, from its parameters at the first of `times` on.

    Args:
        network, loss, rtol, atol, method, max_gradients: as in `GradientFlow`.
        times: `[T]`, ascending.

    Raises:
        FlowError: as `GradientFlow`.
        ValueError: if times do not ascend.
    """
    times = np.asarray(times, float)
    if times.ndim != 1 or len(times) < 2 or not (np.diff(times) > 0).all():
        raise ValueError(f"a flow takes two ascending times or more, got {times.tolist()[:5]}")
    flow = GradientFlow(
        network,
        loss,
        rtol=rtol,
        atol=atol,
        method=method,
        max_gradients=max_gradients,
        start=times[0],
        end=times[-1],
    )
    return flow.trajectory(times)


def gradient_descent(network: nn.Module, loss: Loss, rate: float, steps: int, every: int = 1) -> Trajectory:
    """Plain descent, θ ← θ − rate ∇L(θ), of a copy in float64: at distance O(rate) from the flow at time rate · step.

    Args:
        network, loss: as in `gradient_flow`.
        rate: learning rate.
        steps: how many.
        every: how many steps apart the trajectory's times are; the first is step 0.
    """
    descent = _Descent(network, loss)
    parameters, kept = descent.initial, []
    for step in range(steps + 1):
        if step % every == 0:
            kept.append(parameters)
        parameters = parameters - rate * descent(parameters)[1]
    return descent.trajectory(rate * np.arange(0.0, steps + 1, every), np.array(kept))


class _Descent:
    """Loss and gradient at any parameters of a copy in float64."""

    def __init__(self, network: nn.Module, loss: Loss):
        self._network = copy.deepcopy(network).double()
        self._loss = loss
        self.initial = parameters_to_vector(self._network.parameters()).detach().numpy()

    def __call__(self, parameters: np.ndarray) -> tuple[float, np.ndarray]:
        vector_to_parameters(torch.from_numpy(np.array(parameters)), self._network.parameters())
        value = self._loss(self._network)
        gradients = torch.autograd.grad(value, list(self._network.parameters()), materialize_grads=True)
        return value.item(), parameters_to_vector(gradients).numpy()

    def trajectory(self, times: np.ndarray, parameters: np.ndarray) -> Trajectory:
        losses = np.array([self(row)[0] for row in parameters])
        return Trajectory(times, np.ascontiguousarray(parameters), losses, self._network)
