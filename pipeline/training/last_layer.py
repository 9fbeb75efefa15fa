"""Training of the last linear layer alone: features stay as they are at initialisation (Nam fig. 2.3, §6.3)."""

from typing import Any

from torch import nn

from tangentscope.probes import feature_map


def train_last_layer_only(network: nn.Module, inputs: Any) -> None:
    """Have no parameters but the last linear layer's need gradients.

    Args:
        network: Any; changed in place.
        inputs: A few data points, by which the layer is found.

    Raises:
        ValueError: The network has none, or several, see ``feature_map``.
    """
    layer = feature_map(network)(inputs).layer
    prefix = f"{layer}." if layer else ""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(prefix))
