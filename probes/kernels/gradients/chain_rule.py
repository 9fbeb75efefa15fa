"""From the gradient of a tensor that enters the batch's rows to that of the parameter it is made of."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from tangentscope.probes.kernels.gradients.autograd_graph import Edge, edge_dtype, edge_shape
from tangentscope.probes.kernels.gradients.entries import Chain, looked_up_by
from tangentscope.probes.kernels.gradients.factors import Tokens
from tangentscope.probes.kernels.gradients.per_sample import Direct, Outer, Part
from tangentscope.probes.kernels.gradients.rules.lookup import without_padding

AT_ONCE = 2**25
"""Bytes of gradients of a large tensor, such as a normalised weight, that go through its making at a time."""


class Making:
    """What makes one tensor out of parameters: its gradient is taken back to all of them at once, and kept a while."""

    def __init__(self, source: Edge):
        self.source = source
        self.parameters: list[nn.Parameter] = []
        self._numbers: dict[int, int] = {}  # of the parameters, by id
        self._last: tuple[Tensor, object, list[Tensor]] | None = None

    def along(self, chain: Chain, part: Part, entry: object) -> Direct:
        """The gradient of a parameter by the chain rule, from that of the tensor, which enters at ``entry``."""
        key = id(chain.parameter)
        if key not in self._numbers:
            self._numbers[key] = len(self.parameters)
            self.parameters.append(chain.parameter)
        number = self._numbers[key]

        def prepare(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
            jacobian = part.jacobian(dtype)

            def of(gradients: Tensor) -> Tensor:
                # Shares of several parameters come with the same gradients, one after another.
                if self._last is None or self._last[0] is not gradients or self._last[1] != entry:
                    rows = jacobian(gradients)
                    each = max(1, AT_ONCE // max(1, rows[:1].nbytes))
                    pieces = [back(self.source, self.parameters, some) for some in rows.split(each)]
                    self._last = gradients, entry, [torch.cat(found).to(dtype) for found in zip(*pieces, strict=True)]
                return self._last[2][number]

            return of

        return Direct(chain.parameter.numel(), prepare, late=part.late)


def back(source: Edge, parameters: Sequence[nn.Parameter], rows: Tensor) -> list[Tensor]:
    """Gradients [n, numbers] of the parameters, of gradients [n, ...] of the tensor at ``source``."""
    edge = GradientEdge(*source)
    rows = rows.view(len(rows), *edge_shape(source)).to(edge_dtype(source))
    try:
        gradients = torch.autograd.grad(
            [edge], parameters, [rows], is_grads_batched=True, retain_graph=True, allow_unused=True
        )
    except RuntimeError:  # an operation that takes no batch of gradients, or a hook that asks for their numbers
        each = [torch.autograd.grad([edge], parameters, [row], retain_graph=True, allow_unused=True) for row in rows]
        gradients = [None if found[0] is None else torch.stack(found) for found in zip(*each, strict=True)]
    return [
        rows.new_zeros(len(rows), parameter.numel()) if found is None else found.reshape(len(rows), parameter.numel())
        for parameter, found in zip(parameters, gradients, strict=True)
    ]


def through_lookup(part: Part, chain: Chain, points: int) -> Outer:
    """The gradient of a table of which every point sees the same rows: positions, relative positions, one token.

    A: which rows of the table they are; B: the gradients at those, that is ``part``'s, taken back through ``steps``.
    """
    vocabulary, width = chain.parameter.shape
    lookup, *selections = chain.steps
    ids = looked_up_by(lookup[0])
    assert ids is not None
    tokens = ids.detach().flatten().long().expand(points, -1)
    shape = edge_shape(chain.source)

    prepared: dict[torch.dtype, Callable[[Tensor], Tensor]] = {}

    def gradients(values: Tensor) -> Tensor:
        if values.dtype not in prepared:
            prepared[values.dtype] = part.jacobian(values.dtype)
        rows = prepared[values.dtype](values).view(points, *shape)
        if selections:
            rows = _selected_back(chain, lookup, rows)
        rows = rows.reshape(points, -1, width)
        return without_padding(lookup[0], tokens, rows).transpose(1, 2)[:, None]

    return Outer(
        groups=1,
        inputs=vocabulary,
        outputs=width,
        rows=tokens.shape[1],
        factor=lambda: Tokens(tokens, vocabulary),
        gradients=gradients,
        transposed=True,
        one_hot=True,
        late=part.late,
    )


def _selected_back(chain: Chain, lookup: Edge, rows: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(
        [GradientEdge(*chain.source)], [GradientEdge(*lookup)], [rows], is_grads_batched=True, retain_graph=True
    )
    return found
