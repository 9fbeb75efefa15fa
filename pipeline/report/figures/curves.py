"""Collective variables and loss as training goes on, in the manner of CV fig. 1."""

from tangentscope.pipeline.report.drawing.figure import Drawing
from tangentscope.pipeline.report.drawing.panels import Column, draw_panels
from tangentscope.pipeline.report.view import View

_COLUMNS = [
    Column("entropy", "Entropy", "Entropy $S$ (nats)", shared=True),
    Column("trace", "Trace", "Trace Tr Θ", shared=True, log=True),
    Column("loss", "Loss", "Loss", kernel=False, log=True),
]


def curves(view: View) -> list[Drawing]:
    """Entropy (nats), trace and loss on test and train data, one figure per facet of the study."""
    what = "Entropy of the tangent kernel's spectrum (CV eq. 9), its trace (CV eq. 10) and the loss, after CV fig. 1."
    return draw_panels(view, "curves", "Collective variables", what, _COLUMNS)
