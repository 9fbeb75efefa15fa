"""A check that needs not know what a network does: rules against torch's own gradients of the parameters.

For random cotangents v of some half of the points, the sum Σ_na v_na J_na over those points, of what a share's rule
makes of the gradients at its edges, must be the gradient of Σ_na v_na f_na by autograd. One backward pass gives both.
What disagrees goes to per-sample Jacobians.
"""

import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from tangentscope.probes.kernels.gradients.autograd_graph import Edge, Graph, dense
from tangentscope.probes.kernels.gradients.chain_rule import back
from tangentscope.probes.kernels.gradients.factors import Dense, Factor, Tokens
from tangentscope.probes.kernels.gradients.parameter_groups import Share
from tangentscope.probes.kernels.gradients.per_sample import Outer, Part
from tangentscope.probes.network.layers import Anatomy

logger = logging.getLogger(__name__)

VARIABLE = "TANGENTSCOPE_CHECK"
"""Environment variable: when to check."""

When = Literal["always", "first", "never"]
"""At every forward pass, once for each architecture and shape of inputs in a process, or not at all."""

EXPONENT = 0.7
"""Of the rounding, from which on numbers disagree: sums of many round more than once, and wrong rules are far off."""

_REMEMBERED = 10_000
_disagreeing: dict[int, frozenset[str]] = {}
"""By hash of what was checked, the parameters that disagreed."""


def when() -> When:
    """What the environment asks for, ``first`` by default.

    Raises:
        ValueError: it asks for something else.
    """
    asked = os.environ.get(VARIABLE, "first")
    for known in get_args(When):
        if asked == known:
            return known
    raise ValueError(f"{VARIABLE}={asked!r} is unknown, expected one of {', '.join(get_args(When))}")


def agreeing(
    anatomy: Anatomy, outputs: Tensor, graph: Graph, shares: list[Share], about: tuple[object, ...]
) -> list[Share]:
    """Those of the ``shares`` whose rules agree with autograd, as far as that is to be checked.

    about: what tells forward passes apart beside their operations.
    """
    asked = when()
    if asked == "never" or not shares:
        return shares
    names = tuple(node.name() for node in graph.nodes)
    key = hash((anatomy.code, names, tuple(share.signature for share in shares), about))
    if asked == "always" or key not in _disagreeing:
        if len(_disagreeing) >= _REMEMBERED:
            _disagreeing.clear()
        found = frozenset(_check(anatomy, outputs, graph, shares))
        if found and _disagreeing.get(key) != found:
            logger.warning(
                "gradients of %s by rule are not those of autograd in %s: per-sample Jacobians, which take longer",
                ", ".join(sorted(found)),
                type(anatomy.model).__name__,
            )
        _disagreeing[key] = found
    wrong = _disagreeing[key]
    return [share for share in shares if wrong.isdisjoint(share.parameters)] if wrong else shares


def _check(anatomy: Anatomy, outputs: Tensor, graph: Graph, shares: Sequence[Share]) -> set[str]:
    """The parameters whose shares disagree with autograd, and those that share a share with one."""
    random = torch.Generator().manual_seed(0)  # the global one is the caller's
    # Of some half of the points: what is said of the wrong point is missing then, or too much.
    chosen = torch.randperm(len(outputs), generator=random) < max(1, len(outputs) // 2)
    cotangent = (torch.randn(outputs.shape, generator=random) * chosen[:, None]).to(outputs)
    chosen = chosen.to(outputs.device)
    edges: list[Edge] = list(dict.fromkeys(edge for share in shares for edge, _ in share.uses))
    names = list(dict.fromkeys(name for share in shares for name in share.parameters))
    head = graph.head([edge for edge in edges if edge != graph.end])
    wanted = [*edges, *([head.rows] if head else [])]
    asked: list[Any] = [*(GradientEdge(*edge) for edge in wanted), *(anatomy.trainable[name] for name in names)]
    gradients = torch.autograd.grad(
        [graph.root],
        asked,
        [cotangent],
        retain_graph=True,
        allow_unused=True,
    )
    gradients = [None if gradient is None else dense(gradient) for gradient in gradients]
    at: dict[Edge, Tensor | None] = dict(zip(wanted, gradients, strict=False))
    expected = dict(zip(names, gradients[len(wanted) :], strict=True))
    tolerance = graph.rounding**EXPONENT
    # The sweep takes what lies at the end and behind the head from products of its own.
    at[graph.end] = ending = cotangent * graph.slopes(outputs)
    if head and not _close(ending @ head.matrix.T, at[head.rows], tolerance, 0.0):
        return set(names)
    sums: dict[str, Tensor] = {}
    scales: dict[str, float] = defaultdict(float)
    for share in shares:
        for name, found, scale in _sums(share, anatomy, at, chosen):
            sums[name] = sums[name] + found if name in sums else found
            scales[name] += scale
    wrong = set[str]()
    for name, found in sums.items():
        rounding = max(graph.rounding, torch.finfo(anatomy.trainable[name].dtype).eps)
        if not _close(found, _flat(expected[name], found), rounding**EXPONENT, scales[name]):
            wrong.add(name)
    return {name for share in shares if not wrong.isdisjoint(share.parameters) for name in share.parameters}


def _sums(
    share: Share, anatomy: Anatomy, at: dict[Edge, Tensor | None], chosen: Tensor
) -> list[tuple[str, Tensor, float]]:
    """By parameter, Σ_na v_na J_na [numbers] and the size of what was summed, over the points that are ``chosen``."""
    whole: Tensor | None = None
    scale = 0.0
    for edge, part in share.uses:
        if (gradient := at[edge]) is None:
            continue
        found, size = _sum(part, gradient, chosen)
        whole = found if whole is None else whole + found
        scale += size
    parameters = [anatomy.trainable[name] for name in share.parameters]
    if whole is None:
        whole = torch.zeros(share.numbers, device=parameters[0].device)
    if share.chain is not None:
        whole = back(share.chain.source, parameters, whole[None])[0][0]
    if len(parameters) == 1:
        return [(share.parameters[0], whole, scale)]
    if share.outer:  # the bias stands in the last column
        shape = (share.outer[0].groups, share.outer[0].outputs, share.outer[0].inputs)
        matrices = whole.view(shape[0], shape[2], shape[1]).mT if share.outer[0].transposed else whole.view(shape)
        weight = matrices[..., :-1]
        weight = weight.mT if share.outer[0].transposed else weight
        found = weight.flatten(), matrices[..., -1].flatten()
    else:
        found = whole.split([parameter.numel() for parameter in parameters])
    return [(name, part, scale) for name, part in zip(share.parameters, found, strict=True)]


def _sum(part: Part, gradient: Tensor, chosen: Tensor) -> tuple[Tensor, float]:
    """Over some points [N] and all their rows [width]; and a size to which its rounding is relative."""
    real = gradient.real.dtype
    if not isinstance(part, Outer):
        rows = part.jacobian(real)(gradient)[chosen]
        return rows.sum(0), float(_most(rows) + _most(gradient) * gradient.numel() ** 0.5)
    B = part.gradients(gradient)[chosen]  # [n, G, d_o, T]
    merged = B.permute(1, 2, 0, 3).flatten(2)  # [G, d_o, n·T]
    factor = _merged(part.factor().to(real), chosen)
    found = factor.jacobian(merged[None])[0]  # [G, d_o, d_i]
    size = _most(factor.values) if isinstance(factor, Dense) else 1.0
    scale = float(_most(merged) * size) * merged.shape[-1] ** 0.5
    return (found.transpose(-1, -2) if part.transposed else found).flatten(), scale


def _merged(factor: Factor, chosen: Tensor) -> Factor:
    """The rows of some points as those of one."""
    if isinstance(factor, Tokens):
        return Tokens(factor.ids[chosen].flatten(), factor.vocabulary)
    return Dense(factor.values[chosen].transpose(0, 1).flatten(1, 2))


def _most(values: Tensor) -> Tensor | float:
    return values.abs().max() if values.numel() else 0.0


def _flat(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient.flatten()


def _close(found: Tensor, expected: Tensor | None, tolerance: float, scale: float) -> bool:
    """Equal up to rounding; also where numbers are not finite, which are the kernel's to report."""
    if expected is None:
        return not bool(found.count_nonzero())
    if not found.numel():
        return True
    off = (found - expected).abs().max()
    return not bool(off > tolerance * max(scale, float(found.abs().max())))
