"""Mean kernel entry between classes, between logits."""

from tangentscope.probes.variables.quantities import ClassMeans
from tangentscope.probes.variables.variable import Variable


def class_between_other(class_means: ClassMeans) -> float:
    """Mean Θ[ia, jb] over pairs of different classes and logits a ≠ b; NaN where there are none."""
    return class_means.between_other


VARIABLE = Variable(
    "class_between_other", version=1, source="Seleznova 2023", compute=class_between_other, treatments=("full",)
)
