"""Overlap of the first eigenfunction with the constant."""

from tangentscope.probes.variables.features.quantities import Eigenfunctions, Sample, UndefinedError
from tangentscope.probes.variables.variable import Variable


def feature_constant_overlap(eigenfunctions: Eigenfunctions, sample: Sample) -> float:
    """|⟨e_1|1⟩|/‖e_1‖ on held-out points, in [0, 1]; above 0.95 in all networks of Nam §2.5.1 but the toy."""
    if not eigenfunctions.norms[0] > 0:
        raise UndefinedError("the first feature is 0 at all held-out data points")
    along = float(sample.constant @ eigenfunctions.values[:, 0])
    return min(1.0, abs(along) / float(eigenfunctions.norms[0]))


VARIABLE = Variable("feature_constant_overlap", version=1, source="Nam §2.5.1", compute=feature_constant_overlap)
