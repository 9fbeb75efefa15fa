"""Solvable models with targets of theirs, and the loss that their solutions are of."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tangentscope.models import MODELS
from tangentscope.models.solvable.base import Solvable
from tangentscope.models.solvable.flow import Loss

VARIANCES = [2.0, 0.7, 0.3]
FREQUENCIES = [0.6, 0.25, 0.15]


class Case(NamedTuple):
    """A model, a target S of its inputs, their variances and a time at which learning is half done."""

    name: str
    fields: dict[str, Any]
    target: Any
    variances: Any = 1.0
    time: float = 3.0
    shape: tuple[int, ...] = ()

    def model(self) -> Solvable:
        model = MODELS[self.name](name=self.name, **self.fields)
        assert isinstance(model, Solvable)
        return model

    @property
    def matrix(self) -> np.ndarray:
        """S, `[inputs, outputs]`."""
        inputs = np.prod(self.input_shape, dtype=int)
        return np.asarray(self.target, float).reshape(inputs, -1)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.shape or np.shape(self.target)[:1]

    def network(self, seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        return self.model().build(self.input_shape, self.matrix.shape[1])

    def points(self) -> Tensor:
        """As few points as there are inputs, whose second moments are the variances exactly."""
        inputs = len(self.matrix)
        variances = np.repeat(np.broadcast_to(self.variances, self.input_shape[0]), inputs // self.input_shape[0])
        turned = np.linalg.qr(np.random.default_rng(0).normal(size=(inputs, inputs)))[0] * inputs**0.5
        return torch.from_numpy(turned * variances**0.5).reshape(inputs, *self.input_shape)

    def loss(self) -> Loss:
        """L = ½ E[|f − f*|²]."""
        x = self.points()
        y = x.flatten(1) @ torch.from_numpy(self.matrix)
        return lambda network: (network(x) - y).square().sum(1).mean() / 2

    def strengths(self, network: nn.Module) -> np.ndarray:
        """What `solution` is of, from what the network puts out."""
        count = len(self.matrix)
        with torch.no_grad():
            map_ = network(torch.eye(count, dtype=torch.float64).reshape(count, *self.input_shape)).numpy()
        if self.name == "linear":
            return map_.reshape(np.shape(self.target))
        if self.name == "linear_net":
            u, _, v = np.linalg.svd(self.matrix, full_matrices=False)
            return np.einsum("im,io,mo->m", u, map_, v)
        if self.name == "skill_bases":
            skills = map_.reshape(self.input_shape)
            learned = len(network.a)  # pyright: ignore
            return (skills.sum(1) / self.input_shape[1] ** 0.5)[:learned]
        return map_[: len(network.a), 0] if self.name == "multilinear" else map_[:, 0]  # pyright: ignore


CASES = {
    "linear": Case("linear", {"std": 0.5}, [1.0, -2.0, 0.5], VARIANCES, 1.0),
    "linear, several outputs": Case("linear", {}, [[1.0, 2.0], [-1.0, 0.5], [0.0, 3.0]], VARIANCES, 1.0),
    "diagonal": Case("diagonal_linear", {"size": 0.1}, [1.0, 2.0, 3.0], VARIANCES),
    "diagonal, any start": Case("diagonal_linear", {"init": "normal", "size": 0.7}, [1.0, -2.0, 0.0], VARIANCES, 1.0),
    "linear net": Case("linear_net", {"width": 4, "size": 0.2}, np.diag([3.0, 2.0, 1.0])),
    "linear net, wider than its target": Case("linear_net", {"width": 3, "size": 0.3}, np.diag([3.0, 2.0, 1.0])[:, :2]),
    "linear net of three": Case("linear_net", {"width": 3, "depth": 3, "size": 0.4}, np.diag([3.0, 2.0]), time=1.5),
    "linear net of five": Case("linear_net", {"width": 3, "depth": 5, "size": 0.7}, np.diag([3.0, 2.0]), time=0.5),
    "multilinear": Case("multilinear", {"size": 0.1}, [5.0, 5.0, 5.0], FREQUENCIES, 2.0),
    "multilinear, slowed": Case("multilinear", {"size": 0.3, "gain": 0.25, "skills": 2}, [5.0] * 3, FREQUENCIES, 5.0),
    "bases": Case("skill_bases", {"size": 0.3}, np.full((3, 4), 2.5), FREQUENCIES, 2.0, (3, 4)),
    "bases, some missing": Case(
        "skill_bases", {"size": 0.3, "functions": 7}, np.full((3, 4), 2.5), FREQUENCIES, 2.0, (3, 4)
    ),
    "scalar": Case("scalar_net", {"width": 6, "size": 0.1}, [2.0], time=2.0),
    "scalar, other normalisation": Case(
        "scalar_net", {"width": 6, "normalisation": 6**0.5, "init": "signs"}, [-1.5], [1.7], 0.5
    ),
}
