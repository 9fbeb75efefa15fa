"""How far a step on a new point at equal loss would go, as training goes on (CV §3.1, late data)."""

from tangentscope.pipeline.report.drawing.figure import Drawing
from tangentscope.pipeline.report.drawing.panels import Column, draw_panels
from tangentscope.pipeline.report.view import View

_COLUMNS = [
    Column("new_point_step_parameters", "Parameters", "‖Δθ‖/η (sqrt of Tr Θ's unit)", log=True, shared=True),
    Column("new_point_step_outputs", "Outputs", "‖Δf‖/η (Tr Θ's unit)", log=True, shared=True),
]


def new_points(view: View) -> list[Drawing]:
    """‖Δθ‖ and ‖Δf‖ of one small step on a point whose loss is ln C, per unit of the rate η."""
    what = (
        "How far one small step of gradient descent on one point moves parameters and outputs, per unit of its rate η, "
        "means over points under a target at which the cross-entropy is ln C for every network at every time (CV §3.1)."
    )
    return draw_panels(view, "new_points", "Steps on new points", what, _COLUMNS)
