"""Linear nets of two layers or more on whitened inputs: a mode for each singular value of the target (Nam eq. 3.4)."""

from collections import OrderedDict
from itertools import pairwise
from math import prod
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from pydantic import Field
from torch import nn

from tangentscope.models.base import ModelError
from tangentscope.models.solvable.base import Solvable, draw, numbers
from tangentscope.models.solvable.modes import expit, logit, over, sigmoidal, starting_logits

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_LEARNED = 40.0  # a logit at which a strength is its limit, in float64
_STEPS = 64  # halvings of an interval of logits, to the last bit
_TOLERANCE = 1e-5  # relative, as float32 parameters keep it


class LinearNet(Solvable, frozen=True):
    """f(x) = xᵀ W_1 W_2 … W_depth, without biases.

    Args:
        width: of the layers between, p; at least the modes there are for `aligned`.
        depth: matrices.
        init: `aligned` starts all matrices balanced, with equal singular values and rotations between them that are
            drawn, and their product diagonal: aligned with a target that maps input i to output i. `normal` draws
            weights from N(0, `size`²), which comes near to that if `size` is small.
        size: singular values of each matrix if aligned, else the deviation of its entries.
    """

    name: Literal["linear_net"] = "linear_net"
    width: int = Field(ge=1)
    depth: int = Field(default=2, ge=2, le=16)
    init: Literal["aligned", "normal"] = "aligned"
    size: float = Field(default=0.01, gt=0)

    version: ClassVar[int] = 1
    source: ClassVar[str] = "Nam eq. 3.15, A.39; deeper: Saxe et al. 2014, arXiv 1312.6120"

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Sequential:
        """From `[n, *input_shape]` to `[n, outputs]`, with parameters `linear_1.weight` (W_1ᵀ) and so on.

        Raises:
            ModelError: if the net is to start aligned and is too narrow for all modes.
        """
        sizes = [prod(input_shape), *[self.width] * (self.depth - 1), outputs]
        modes = min(sizes[0], outputs)
        if self.init == "aligned" and self.width < modes:
            raise ModelError(f"{self.name} of width {self.width} cannot start with {modes} modes: make it wider")
        layers = [nn.Linear(fan_in, fan_out, bias=False) for fan_in, fan_out in pairwise(sizes)]
        if self.init == "normal":
            for layer in layers:
                draw(layer.weight, self.size)
        elif not layers[0].weight.is_meta:
            _align(layers, modes, self.size)
        named = OrderedDict((f"linear_{number}", layer) for number, layer in enumerate(layers, start=1))
        return nn.Sequential(OrderedDict(flatten=nn.Flatten(), **named))

    def solution(
        self, network: nn.Module, times: ArrayLike, target: ArrayLike, variances: ArrayLike = 1.0
    ) -> np.ndarray:
        """u_iᵀ W_1 … W_depth v_i, `[*times, modes]`, for the target's singular vectors, greatest singular value first.

        Arguments as in `Solvable.solution`.

        Raises:
            ValueError: if inputs are not whitened, or if the network is not balanced and aligned with the target.
        """
        if not np.allclose(variances, 1.0, rtol=_TOLERANCE):
            raise ValueError(f"linear nets are solved for inputs of variance 1, got {variances}: whiten the inputs")
        target = np.asarray(target, float)
        u, values, v = np.linalg.svd(target.reshape(len(target), -1), full_matrices=False)
        matrices = [numbers(weight).T for weight in network.parameters()]
        return linear_net_strengths(times, values, _initial(matrices, u, v.T), len(matrices))

    def strengths(self, network: nn.Module, target: ArrayLike) -> np.ndarray:
        """u_iᵀ W_1 … W_depth v_i, `[modes]`, greatest singular value first; of any net, balanced or not."""
        target = np.asarray(target, float)
        u, _, v = np.linalg.svd(target.reshape(len(target), -1), full_matrices=False)
        return _along([numbers(weight).T for weight in network.parameters()], u, v.T)


def _align(layers: list[nn.Linear], modes: int, size: float) -> None:
    """W_l = R_{l−1}ᵀ A R_l with A = `size` in the first `modes` places of the diagonal, and R turned at random."""
    left = torch.eye(layers[0].in_features)
    for number, layer in enumerate(layers, start=1):
        width = layer.out_features
        turned = number < len(layers)
        right = torch.linalg.qr(torch.randn(width, width))[0] if turned else torch.eye(width)
        layer.weight.data = size * (left[:, :modes] @ right[:, :modes].T).T.contiguous()
        left = right


def _along(matrices: list[np.ndarray], u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.einsum("im,io,om->m", u, np.linalg.multi_dot(matrices), v)


def _initial(matrices: list[np.ndarray], u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Strengths of the target's modes in a net that is balanced and has no other modes."""
    product, initial = np.linalg.multi_dot(matrices), _along(matrices, u, v)
    balanced = all(
        np.allclose(first.T @ first, second @ second.T, rtol=0, atol=_TOLERANCE * np.linalg.norm(first) ** 2)
        for first, second in pairwise(matrices)
    )
    aligned = np.allclose(product, (u * initial) @ v.T, rtol=0, atol=_TOLERANCE * np.linalg.norm(product))
    if not (balanced and aligned):
        raise ValueError(
            "a linear net is solved from layers that are balanced and aligned with the target, got others: build it "
            "with init aligned, for a target that maps input i to output i"
        )
    return initial


def linear_net_strengths(
    times: ArrayLike, singular_values: ArrayLike, initial: ArrayLike, depth: int = 2
) -> np.ndarray:
    """s_i(t) of ṡ = L s^(2 − 2/L) (ρ − s), `[*times, *modes]`: for L = 2 Nam eq. 3.15, sigmoidal with rate 2ρ_i.

    For L > 2 the time of a strength is known (`linear_net_times`), and turned around by halving intervals.

    Args:
        times: t ≥ 0, of any shape; learning rate times steps.
        singular_values: ρ_i of E[x f*(x)ᵀ], inputs whitened.
        initial: s_i(0), the product of the layers' equal singular values (α_i² for two): above 0, at most ρ_i.
        depth: L, at least 2.

    Raises:
        ValueError: for another start.
    """
    values, initial = np.broadcast_arrays(*(np.asarray(value, float) for value in (singular_values, initial)))
    if depth == 2:
        return sigmoidal(initial, values, over(times, 2 * values))
    times, begin = over(times, np.ones_like(values)), np.minimum(starting_logits(initial, values), _LEARNED)
    # ż/z(1 − z) = L ρ (ρz)^(1 − 2/L) ≤ L ρ^(2 − 2/L): the logit rises no faster.
    low = np.broadcast_to(begin, times.shape)
    high = begin + depth * values ** (2 - 2 / depth) * times
    start = _clock(begin, values, depth)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        late = _clock(middle, values, depth) - start > times
        low, high = np.where(late, low, middle), np.where(late, middle, high)
    return values * expit((low + high) / 2)


def linear_net_times(strengths: ArrayLike, singular_values: ArrayLike, initial: ArrayLike, depth: int) -> np.ndarray:
    """When a mode reaches a strength: ∫ ds/(L s^(2 − 2/L) (ρ − s)) from s(0) to s, for `depth` L of 2 or more.

    Arguments as in `linear_net_strengths`, broadcast against one another; strengths in (0, ρ).
    """
    values = np.asarray(singular_values, float)
    return _clock(logit(np.asarray(strengths, float) / values), values, depth) - _clock(
        logit(np.asarray(initial, float) / values), values, depth
    )


def _clock(logits: np.ndarray, values: np.ndarray, depth: int) -> np.ndarray:
    """Time at s = ρ z, z = expit(logits), up to a constant of the mode.

    With z = y^L, ∫ z^(2/L − 2)/(1 − z) dz is z^(2/L − 1)/(2/L − 1) − ln(1 − z) + ∫ (z^(2/L − 1) − 1)/(1 − z) dz, the
    last of which is L ∫ y (1 + … + y^(L−3))/(1 + … + y^(L−1)) dy: smooth, and a quadrature gets it to the last bit.
    """
    z = expit(logits)
    if depth == 2:
        return logits / (2 * values)
    power = 2 / depth - 1
    end = z ** (1 / depth)
    y = end[..., None] * (_NODES + 1) / 2
    smooth = depth * y * np.polyval(np.ones(depth - 2), y) / np.polyval(np.ones(depth), y)
    integral = z**power / power + np.logaddexp(0, logits) + end / 2 * (smooth @ _WEIGHTS)
    return values ** (2 / depth - 2) / depth * integral
