"""Drawing the data points of a probe: once, by whoever plans, and the same at every step of every run."""

import torch
from torch import Tensor

from tangentscope.pipeline.config.features import FeaturePoints
from tangentscope.pipeline.config.kernel import Kernel
from tangentscope.pipeline.probing.given import Given
from tangentscope.probes import draw_indices
from tangentscope.tasks import Split


def draw_points(split: Split | Given, kernel: Kernel) -> dict[str, Tensor]:
    """The points that a kernel is taken of.

    Returns:
        ``inputs`` and ``targets`` [M, …] of all points that any draw has, each once, as ``Split.tensors`` names them;
        ``indices`` [M], their places in the split; ``draws`` [draws, size], places in these M.
    """
    drawn = torch.as_tensor(draw_indices(len(split), kernel.draws, kernel.size, kernel.seed))
    indices, draws = torch.unique(drawn, return_inverse=True)
    points = {name: tensor.contiguous() for name, tensor in split.take(indices).tensors().items()}
    return {**points, "indices": indices, "draws": draws}


HELD_OUT = "held_out."
"""What the names of held-out points begin with, beside those to learn from."""


def draw_feature_points(train: Split, test: Split, points: FeaturePoints) -> dict[str, Tensor]:
    """The points that features are taken of, named as `draw_points` names them, held-out ones after `HELD_OUT`."""
    found: dict[str, Tensor] = {}
    for prefix, split, size in (("", train, points.train), (HELD_OUT, test, points.test)):
        indices = drawn_for_features(split, size, points.seed)
        taken = {**split.take(indices).tensors(), "indices": indices}
        found |= {f"{prefix}{name}": tensor.contiguous() for name, tensor in taken.items()}
    return found


def drawn_for_features(split: Split, size: int, seed: int) -> Tensor:
    """Places [size] of the points of a split that features are taken of, ascending."""
    return torch.as_tensor(draw_indices(len(split), 1, size, seed))[0].sort().values
