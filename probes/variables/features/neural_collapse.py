"""Neural collapse of the features of the training points: NC1 to NC4."""

import torch
from jaxtyping import Float64
from torch import Tensor

from tangentscope.probes.features.last_layer import Features
from tangentscope.probes.features.sample import blocks_of
from tangentscope.probes.variables.features.quantities import ClassFeatures, UndefinedError
from tangentscope.probes.variables.variable import Variable


def nc1_norm(class_features: ClassFeatures) -> float:
    """‖Σ_W Σ_bᵀ‖_F, ≥ 0, in the unit of Φ⁴; 0 where points of a class do not differ along the class means."""
    of_axes = class_features.within * class_features.sizes.square()
    return float(torch.linalg.matrix_norm(of_axes)) / len(class_features.means)


def nc1_trace(class_features: ClassFeatures) -> float:
    """Tr(Σ_W Σ_b⁺)/C, ≥ 0: the scatter within classes relative to that between them, whatever the unit of Φ."""
    along = (class_features.axes * class_features.within).sum(0)
    return float((along / class_features.sizes.square()).sum())


def nc2(class_features: ClassFeatures) -> float:
    """Mean over pairs i ≠ j of |cos(μ_i − μ_g, μ_j − μ_g) + 1/(C − 1)|; 0 for a simplex, always so for two classes."""
    unit = _unit(class_features.spread, "the mean features of a class are those of all classes")
    cosines, C = unit @ unit.T, len(unit)
    pairs = ~torch.eye(C, dtype=torch.bool, device=unit.device)
    return float((cosines[pairs] + 1 / (C - 1)).abs().mean())


def nc3(class_features: ClassFeatures, train_features: Features) -> float:
    """Mean over classes of ‖w_i/‖w_i‖ − (μ_i − μ_g)/‖μ_i − μ_g‖‖, in [0, 2]; 0 where weights point to the means."""
    spread = _unit(class_features.spread, "the mean features of a class are those of all classes")
    weight = _unit(train_features.weight, "the last layer's weight of a class is 0")
    return float((weight - spread).norm(dim=1).mean())


def nc4(class_features: ClassFeatures, train_features: Features) -> float:
    """Share of training points whose nearest class mean is not the class of their largest output, in [0, 1]."""
    centre, spread = class_features.means.mean(0), class_features.spread
    differ = 0
    for rows in blocks_of(len(train_features), spread.shape[1]):
        values = train_features.values[rows].double() - centre
        nearest = (spread.square().sum(1) - 2 * values @ spread.T).argmin(1)
        differ += int((nearest != train_features.outputs[rows].argmax(1)).sum())
    return differ / len(train_features)


def _unit(rows: Float64[Tensor, "C p"], zero: str) -> Float64[Tensor, "C p"]:
    norms = rows.norm(dim=1, keepdim=True)
    if not bool((norms > torch.finfo(torch.float64).eps * norms.max()).all()):
        raise UndefinedError(f"{zero}, and has no direction")
    return rows / norms


NC1_NORM = Variable("nc1_norm", version=1, source="Nam eq. D.6, 2.10", compute=nc1_norm)
NC1_TRACE = Variable("nc1_trace", version=1, source="Nam App. D; Papyan et al. 2020", compute=nc1_trace)
NC2 = Variable("nc2", version=1, source="Nam eq. D.7; Papyan et al. 2020", compute=nc2)
NC3 = Variable("nc3", version=1, source="Nam eq. D.8", compute=nc3)
NC4 = Variable("nc4", version=1, source="Nam eq. D.9", compute=nc4)
