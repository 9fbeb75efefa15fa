"""Mean kernel entry between classes."""

from tangentscope.probes.variables.quantities import ClassMeans
from tangentscope.probes.variables.variable import Variable


def class_between(class_means: ClassMeans) -> float:
    """Mean Θ[ia, ja] over pairs of different classes, the same logit; NaN where all points are of one class."""
    return class_means.between


VARIABLE = Variable("class_between", version=1, source="Seleznova 2023", compute=class_between)
