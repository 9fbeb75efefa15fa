"""The effective rank of the tangent kernel beside the score."""

from tangentscope.pipeline.report.drawing.figure import Drawing
from tangentscope.pipeline.report.drawing.panels import Column, draw_panels
from tangentscope.pipeline.report.view import View


def effective_rank(view: View) -> list[Drawing]:
    """Effective rank exp(S) (BSC eq. 3, here of the kernel as it is) and score on test and train data."""
    columns = [
        Column("effective_rank", "Effective rank", "Effective rank exp $S$", shared=True),
        Column("score", view.score.capitalize(), view.score.capitalize(), kernel=False, shared=True),
    ]
    what = f"Effective rank of the tangent kernel, exp S of its spectrum's entropy S (BSC eq. 3), and {view.score}."
    return draw_panels(view, "effective_rank", "Effective rank", what, columns)
