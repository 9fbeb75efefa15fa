"""Mean kernel entry within classes."""

from tangentscope.probes.variables.quantities import ClassMeans
from tangentscope.probes.variables.variable import Variable


def class_within(class_means: ClassMeans) -> float:
    """Mean Θ[ia, ja] over pairs i ≠ j of one class, the same logit; NaN where no class has two points."""
    return class_means.within


VARIABLE = Variable("class_within", version=1, source="Seleznova 2023", compute=class_within)
