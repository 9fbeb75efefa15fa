"""Look-ups: rows are the tokens, one-hot inputs of a linear layer."""

from torch import Tensor

from tangentscope.probes.kernels.gradients.entries import looked_up_by
from tangentscope.probes.kernels.gradients.factors import Tokens
from tangentscope.probes.kernels.gradients.per_sample import Outer, Part, Use
from tangentscope.probes.kernels.gradients.rules.rule import Rule


def _part(use: Use, place: int) -> Part | None:
    """A: the tokens; B: the gradients at their vectors."""
    ids, table = looked_up_by(use.node), use.shapes[place]
    layout = use.layout
    if ids is None or len(table) != 2 or layout.dim >= ids.dim():
        return None
    ids = ids.detach()
    rows = layout.arrange(ids).flatten(1).long()  # [N, T]

    def gradients(values: Tensor) -> Tensor:
        return without_padding(use.node, rows, layout.arrange(values).flatten(1, -2)).transpose(1, 2)[:, None]

    return Outer(
        groups=1,
        inputs=table[0],
        outputs=table[1],
        rows=rows.shape[1],
        factor=lambda: Tokens(rows, table[0]),
        gradients=gradients,
        transposed=True,
        one_hot=True,
    )


def without_padding(node: object, ids: Tensor, rows: Tensor) -> Tensor:
    """Gradients ``rows`` [N, T, d] at the vectors of tokens [N, T], of which padding has none."""
    ignored = getattr(node, "_saved_padding_idx", -1)
    # -1 stands for none; numbers are kept without their sign.
    return rows * (ids != ignored)[..., None] if 0 <= ignored < 2**63 else rows


LOOKUP = Rule(_part)
