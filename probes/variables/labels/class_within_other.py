"""Mean kernel entry within classes, between logits."""

from tangentscope.probes.variables.quantities import ClassMeans
from tangentscope.probes.variables.variable import Variable


def class_within_other(class_means: ClassMeans) -> float:
    """Mean Θ[ia, jb] over pairs i ≠ j of one class and logits a ≠ b; NaN where there are none."""
    return class_means.within_other


VARIABLE = Variable(
    "class_within_other", version=1, source="Seleznova 2023", compute=class_within_other, treatments=("full",)
)
