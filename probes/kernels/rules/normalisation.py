"""Normalisations: J_na = Σ_t B_nat ⊙ x̂_nt for the scale, Σ_t B_nat for the shift, few enough to be written down."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from probes.kernels.parts import Call, Direct, Part
from probes.kernels.rules.rule import Rule


def _layer(layer: nn.Module, x: Tensor) -> Tensor:
    return F.layer_norm(x, layer.normalized_shape, eps=layer.eps)  # pyright: ignore


def _rms(layer: nn.Module, x: Tensor) -> Tensor:
    return F.rms_norm(x, layer.normalized_shape, eps=layer.eps)  # pyright: ignore


def _group(layer: nn.Module, x: Tensor) -> Tensor:
    return F.group_norm(x, layer.num_groups, eps=layer.eps)  # pyright: ignore


def _batch(layer: nn.Module, x: Tensor) -> Tensor:
    return F.batch_norm(x, layer.running_mean, layer.running_var, eps=layer.eps)  # pyright: ignore


def _trailing(normalise: Callable[[nn.Module, Tensor], Tensor]) -> Rule:
    """Normalisation over the trailing dimensions, of which every entry has its own scale."""

    def applies(call: Call) -> bool:
        return call.layout.dim < call.inputs.dim() - len(call.module.normalized_shape)  # pyright: ignore

    def part(call: Call, names: frozenset[str]) -> Part:
        width = math.prod(call.module.normalized_shape)  # pyright: ignore

        def entries(values: Tensor) -> Tensor:  # [N, T, width]
            return call.layout.arrange(values).reshape(call.layout.points, -1, width)

        return _direct(width, names, entries, lambda: entries(normalise(call.module, call.inputs)))

    return Rule(applies, part)


def _channels(normalise: Callable[[nn.Module, Tensor], Tensor]) -> Rule:
    """Normalisation of [n, channels, ...], where every channel has its own scale."""

    def applies(call: Call) -> bool:
        return call.layout.dim == 0 and call.inputs.dim() >= 2

    def part(call: Call, names: frozenset[str]) -> Part:
        width = call.inputs.shape[1]

        def entries(values: Tensor) -> Tensor:  # [N, T, width]
            rows = call.layout.arrange(values)  # [N, each, width, ...]
            rows = rows.flatten(3) if rows.dim() > 3 else rows.unsqueeze(3)
            return rows.transpose(2, 3).flatten(1, 2)

        return _direct(width, names, entries, lambda: entries(normalise(call.module, call.inputs)))

    return Rule(applies, part)


def _direct(
    width: int, names: frozenset[str], entries: Callable[[Tensor], Tensor], normalised: Callable[[], Tensor]
) -> Direct:
    def prepare() -> Callable[[Tensor], Tensor]:
        x = normalised() if "weight" in names else None

        def jacobian(gradients: Tensor) -> Tensor:
            rows = entries(gradients)
            scale = [] if x is None else [(rows * x).sum(1)]
            return torch.cat([*scale, *([rows.sum(1)] if "bias" in names else [])], 1)

        return jacobian

    return Direct(width * len(names), prepare)


LAYER = _trailing(_layer)
RMS = _trailing(_rms)
GROUP = _channels(_group)
BATCH = _channels(_batch)
