"""The claims that a report can decide: a file per paper or topic, and one line of imports here."""

from tangentscope.pipeline.report.claims.bsc import CLAIMS as bsc
from tangentscope.pipeline.report.claims.claim import Claim, Needs, Varied
from tangentscope.pipeline.report.claims.cv import CLAIMS as cv
from tangentscope.pipeline.report.claims.findings import FEWEST_SEEDS, Finding, Sample
from tangentscope.pipeline.report.claims.games import CLAIMS as games
from tangentscope.pipeline.report.claims.nam_emergence import CLAIMS as nam_emergence
from tangentscope.pipeline.report.claims.nam_features import CLAIMS as nam_features
from tangentscope.pipeline.report.claims.nam_grokking import CLAIMS as nam_grokking
from tangentscope.pipeline.report.claims.nam_solvable import CLAIMS as nam_solvable
from tangentscope.pipeline.report.claims.nam_time import CLAIMS as nam_time
from tangentscope.pipeline.report.claims.nam_training import CLAIMS as nam_training

# Every claim of the tables imported above, by its name.
CLAIMS: dict[str, Claim] = {
    name: claim
    for table in list(globals().values())
    if isinstance(table, dict)
    for name, claim in table.items()
    if isinstance(claim, Claim)
}

__all__ = ["CLAIMS", "FEWEST_SEEDS", "Claim", "Finding", "Needs", "Sample", "Varied"]
