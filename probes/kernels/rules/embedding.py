"""Embeddings: rows are the tokens, one-hot inputs of a linear layer."""

import math

from torch import Tensor

from probes.kernels.factors import Tokens
from probes.kernels.parts import Call, Outer, Part


def applies(call: Call) -> bool:
    """Plain look-ups: scale_grad_by_freq changes the gradient."""
    return not call.module.scale_grad_by_freq


def part(call: Call, names: frozenset[str]) -> Part:
    """A: the tokens; B: the gradients at their vectors."""
    layer, layout = call.module, call.layout
    vocabulary: int = layer.num_embeddings  # pyright: ignore[reportAssignmentType]
    ignored: int | None = layer.padding_idx  # pyright: ignore[reportAssignmentType]

    def tokens() -> Tensor:  # [N, T]
        return call.arranged().flatten(1).long()

    def gradients(values: Tensor) -> Tensor:
        rows = layout.arrange(values).flatten(1, -2)
        if ignored is not None:
            rows = rows * (tokens() != ignored)[..., None]
        return rows.transpose(1, 2)[:, None]

    return Outer(
        groups=1,
        inputs=vocabulary,
        outputs=call.outputs_shape[-1],
        rows=math.prod(call.rows),
        factor=lambda: Tokens(tokens(), vocabulary),
        gradients=gradients,
        transposed=True,
        one_hot=True,
    )
