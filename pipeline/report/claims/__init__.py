"""The claims that a report can decide. A new one is a function of the study here, and a line in the table."""

from collections.abc import Callable

from tangentscope.pipeline.report.claims.findings import FEWEST_SEEDS, Finding, Sample
from tangentscope.pipeline.report.claims.games import actor_jumps_most, entropy_before_return
from tangentscope.pipeline.report.view import View

CLAIMS: dict[str, Callable[[View], list[Finding]]] = {
    "entropy_before_return": entropy_before_return,
    "actor_jumps_most": actor_jumps_most,
}

__all__ = ["CLAIMS", "FEWEST_SEEDS", "Finding", "Sample"]
