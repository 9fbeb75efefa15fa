"""The table of exact rules, by what a node of the autograd graph computes; any other node is asked itself.

It does not matter which class or function of which library made the node: a layer whose ``forward`` was replaced, a
subclass, a function of a user's own are what they compute. To add a rule, write one file with a ``Rule`` and add one
line to ``RULES``.
"""

from collections.abc import Mapping

from tangentscope.probes.kernels.gradients.per_sample import Part, Use
from tangentscope.probes.kernels.gradients.rules import (
    anything,
    convolution,
    entrywise,
    lookup,
    matrices,
    normalisation,
)
from tangentscope.probes.kernels.gradients.rules.rule import Rule

RULES: Mapping[str, Rule] = {
    "AddmmBackward0": matrices.ADDMM,
    "MmBackward0": matrices.MM,
    "MvBackward0": matrices.MV,
    "BmmBackward0": matrices.BMM,
    "BaddbmmBackward0": matrices.BADDBMM,
    "ConvolutionBackward0": convolution.CONVOLUTION,
    "EmbeddingBackward0": lookup.LOOKUP,
    "IndexBackward0": lookup.LOOKUP,
    "IndexSelectBackward0": lookup.LOOKUP,
    "NativeLayerNormBackward0": normalisation.LAYER,
    "NativeGroupNormBackward0": normalisation.GROUP,
    "NativeBatchNormBackward0": normalisation.BATCH,
    "AddBackward0": entrywise.ENTRYWISE,
    "SubBackward0": entrywise.ENTRYWISE,
    "MulBackward0": entrywise.ENTRYWISE,
    "DivBackward0": entrywise.ENTRYWISE,
    "ExpandBackward0": entrywise.ENTRYWISE,
    "PreluKernelBackward0": entrywise.ENTRYWISE,
}
"""By the node's name."""


def part_of(use: Use, place: int) -> Part:
    """The gradient of what the node takes at ``place``, in that tensor's own coordinates."""
    rule = RULES.get(use.node.name()) if use.number == 0 else None  # statistics are other outputs
    return (rule.part(use, place) if rule else None) or anything.part(use, place)


def joint_part_of(use: Use, places: frozenset[int]) -> Part | None:
    """The gradient of weight and bias as one, if those are the places and that is cheaper."""
    rule = RULES.get(use.node.name())
    return rule.joint(use) if rule and use.number == 0 and places == {rule.weight, rule.bias} else None
