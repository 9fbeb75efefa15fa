"""Effective rank and losses with more and more training images replaced by noisy copies, after BSC figs 4 and 7."""

from tangentscope.pipeline.report.drawing.figure import Drawing
from tangentscope.pipeline.report.drawing.panels import Column, draw_panels
from tangentscope.pipeline.report.view import View


def bsc_noise(view: View) -> list[Drawing]:
    """Effective rank of the cosine-normalised kernel, loss and score, on test and train data."""
    columns = [
        Column("effective_rank_cosine", "Effective rank", "exp $S$", log=True),
        Column("loss", "Loss", "loss (nats)", kernel=False, log=True),
        Column("score", view.score.capitalize(), view.score.capitalize(), kernel=False),
    ]
    what = (
        "Effective rank of the cosine-normalised tangent kernel (BSC eq. 3, App. B.3), loss and score, as training "
        "images are replaced by noisy copies of others of their class; after BSC figs 4 and 7."
    )
    return draw_panels(view, "bsc_noise", "Fewer distinct samples", what, columns)
