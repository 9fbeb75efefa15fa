"""The table of exact rules, one per layer type; parameters no rule covers go to per-sample Jacobians.

To add a rule, write one file with the functions of a ``Rule`` and add one line to ``RULES``. Types match exactly: a
subclass may compute anything in its ``forward``.
"""

from collections.abc import Mapping

from torch import nn

from probes.kernels.rules import convolution, embedding, linear, normalisation, patches, transposed_convolution
from probes.kernels.rules.rule import Rule

_CONVOLUTION = Rule(patches.applies, convolution.part, convolution.joins)
_TRANSPOSED = Rule(patches.applies, transposed_convolution.part, joins=lambda call: False)
_LINEAR = Rule(linear.applies, linear.part)

RULES: Mapping[str, Rule] = {
    "torch.nn.modules.linear.Linear": _LINEAR,
    "torch.nn.modules.conv.Conv1d": _CONVOLUTION,
    "torch.nn.modules.conv.Conv2d": _CONVOLUTION,
    "torch.nn.modules.conv.Conv3d": _CONVOLUTION,
    "torch.nn.modules.conv.ConvTranspose1d": _TRANSPOSED,
    "torch.nn.modules.conv.ConvTranspose2d": _TRANSPOSED,
    "torch.nn.modules.conv.ConvTranspose3d": _TRANSPOSED,
    "torch.nn.modules.sparse.Embedding": Rule(embedding.applies, embedding.part),
    "torch.nn.modules.normalization.LayerNorm": normalisation.LAYER,
    "torch.nn.modules.normalization.RMSNorm": normalisation.RMS,
    "torch.nn.modules.normalization.GroupNorm": normalisation.GROUP,
    "torch.nn.modules.batchnorm.BatchNorm1d": normalisation.BATCH,
    "torch.nn.modules.batchnorm.BatchNorm2d": normalisation.BATCH,
    "torch.nn.modules.batchnorm.BatchNorm3d": normalisation.BATCH,
    "torch_geometric.nn.dense.linear.Linear": _LINEAR,
}
"""By qualified name of the type, so that a library's layers can have a rule without being imported."""


def rule_of(module: nn.Module) -> Rule | None:
    """The rule for a module; None if its type has none or its forward or parameters are not the type's own."""
    cls = type(module)
    rule = RULES.get(f"{cls.__module__}.{cls.__qualname__}")
    # weight_norm, pruning and adapters bring other parameters or replace the forward of the instance.
    own = {name for name, parameter in module._parameters.items() if parameter is not None}
    return rule if rule and "forward" not in vars(module) and own <= {"weight", "bias"} else None
