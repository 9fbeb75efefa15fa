"""Gradient flow and gradient descent of small networks in float64, to hold closed forms against."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float64
from numpy.typing import ArrayLike
from scipy.integrate import solve_ivp
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

Loss = Callable[[nn.Module], Tensor]
"""A network's loss, a scalar in float64, by differentiable operations."""


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


def gradient_flow(
    network: nn.Module,
    loss: Loss,
    times: ArrayLike,
    *,
    rtol: float = 1e-10,
    atol: float = 1e-12,
    method: Literal["DOP853", "LSODA", "Radau"] = "DOP853",
    max_gradients: int = 100_000,
) -> Trajectory:
    """Follow θ̇ = −∇L(θ) by SciPy's `solve_ivp`, from the network's parameters at the first of `times` on.

    Args:
        network: any small module without randomness; a copy in float64 is moved, it stays as it is.
        loss: what is to fall.
        times: `[T]`, ascending.
        rtol, atol: error of a step in each parameter, relative to it and absolute; errors of the whole are somewhat
            larger.
        method: `DOP853` is explicit; `LSODA` and `Radau` take long steps where rates differ by orders of magnitude.
        max_gradients: after how many gradients to give up.

    Raises:
        FlowError: if the tolerance is below what float64 can keep, or is not met within `max_gradients`; if loss or
            gradient become infinite or NaN.
        ValueError: if times do not ascend.
    """
    times = np.asarray(times, float)
    if times.ndim != 1 or len(times) < 2 or not (np.diff(times) > 0).all():
        raise ValueError(f"a flow takes two ascending times or more, got {times.tolist()[:5]}")
    if rtol < 100 * np.finfo(float).eps:
        raise FlowError(
            f"rtol {rtol:g} is below what float64 can keep: ask for {100 * np.finfo(float).eps:.1e} or more"
        )
    descent = _Descent(network, loss)
    count = 0

    def velocity(time: float, parameters: np.ndarray) -> np.ndarray:
        nonlocal count
        count += 1
        if count > max_gradients:
            raise FlowError(
                f"rtol {rtol:g}, atol {atol:g} not met within {max_gradients} gradients: reached time {time:.6g} of "
                f"{times[-1]:g}; loosen them, allow more gradients or take method LSODA"
            )
        value, gradient = descent(parameters)
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            raise FlowError(f"loss {value:g} with a gradient of norm {np.linalg.norm(gradient):g} at time {time:.6g}")
        return -gradient

    solved = solve_ivp(
        velocity, (times[0], times[-1]), descent.initial, method=method, t_eval=times, rtol=rtol, atol=atol
    )
    if not solved.success:
        raise FlowError(f"rtol {rtol:g}, atol {atol:g} cannot be met: {solved.message.rstrip('.')}; loosen them")
    return descent.trajectory(times, solved.y.T)


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
