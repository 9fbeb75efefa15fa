"""What a probe of features measures on one network, in the shape of a kernel's measurement of a single draw."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from tangentscope.pipeline.probing.points import HELD_OUT
from tangentscope.probes import FeatureMetrics, Measurement, feature_metrics
from tangentscope.probes.network.output import Output

Inputs = Callable[[Mapping[str, Tensor]], Any]
"""The inputs among points that were drawn, as networks take them."""


def measure_features(
    network: nn.Module,
    points: Mapping[str, Tensor],
    inputs: Inputs,
    output: Output,
    memory_bytes: int,
    *,
    variables: Sequence[str],
) -> Measurement:
    """The variables of a network's last hidden layer; what cannot be computed is NaN, with its reason.

    Args:
        network: As ``feature_metrics`` takes it.
        points: As `draw_feature_points` gave them.
        inputs: Makes inputs of them.
        output, memory_bytes: As for ``feature_metrics``.
        variables: Out of ``FEATURE_VARIABLES``.
    """
    held_out = {name.removeprefix(HELD_OUT): each for name, each in points.items() if name.startswith(HELD_OUT)}
    train = {name: each for name, each in points.items() if not name.startswith(HELD_OUT)}
    pairs = [(inputs(split), split.get("targets")) for split in (train, held_out)]
    return _as_measurement(feature_metrics(network, *pairs, names=variables, output=output, memory_bytes=memory_bytes))


def _as_measurement(found: FeatureMetrics) -> Measurement:
    return Measurement(
        outputs="full",
        values={name: np.array([value]) for name, value in found.values.items()},
        profiles={name: values[None] for name, values in found.profiles.items()},
        eigenvalues=np.empty((1, 0)),
        clipped_mass=np.zeros(1),
        reasons=found.reasons,
    )
