"""The claims that a report can decide. A new one is a function of the study here, and an entry in a table."""

from tangentscope.pipeline.report.claims import cv
from tangentscope.pipeline.report.claims.claim import Claim, Needs, Varied
from tangentscope.pipeline.report.claims.findings import FEWEST_SEEDS, Finding, Sample
from tangentscope.pipeline.report.claims.games import actor_jumps_most, entropy_before_return

CLAIMS: dict[str, Claim] = {
    "entropy_before_return": Claim(
        entropy_before_return, "CV §4.2, fig. 3c", "onset", Needs(variables=("entropy",), plays=True)
    ),
    "actor_jumps_most": Claim(actor_jumps_most, "CV §4.2, fig. 3c", "onset", Needs(variables=("trace",), plays=True)),
    **cv.CLAIMS,
}

__all__ = ["CLAIMS", "FEWEST_SEEDS", "Claim", "Finding", "Needs", "Sample", "Varied"]
