"""The claims that a study asks for, decided: what failed first, since nobody may have to look for it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from tangentscope.pipeline.report.claims import CLAIMS, FEWEST_SEEDS, Finding
from tangentscope.pipeline.report.claims.findings import FAILED, HELD, UNDECIDED
from tangentscope.pipeline.report.view import View

_ORDER = (FAILED, UNDECIDED, HELD)


@dataclass(frozen=True)
class Decided:
    """A finding with the claim that it is about.

    Attributes:
        claim: Its name in the table of claims.
        source: Where the paper makes it.
        figure: The figure that shows it.
        finding: What the study says.
    """

    claim: str
    source: str
    figure: str
    finding: Finding

    @property
    def margin(self) -> str:
        """What the interval has to lie in."""
        found = self.finding
        low = [f"> {found.above:g}"] if math.isfinite(found.above) else []
        high = [f"≤ {found.at_most:g}"] if math.isfinite(found.at_most) else []
        return " and ".join([*low, *high])

    @property
    def why_undecided(self) -> str:
        """What is wanting for a verdict; empty if there is one."""
        count = len(self.finding.values)
        if self.finding.verdict != UNDECIDED:
            return ""
        few = count < FEWEST_SEEDS
        return f"{count} of the {FEWEST_SEEDS} seeds that a verdict takes" if few else "the margin is in the interval"


def decide(view: View, names: Iterable[str]) -> tuple[list[Decided], list[str]]:
    """What came of claims, those that failed first, and a note for each that cannot be looked at."""
    found: list[Decided] = []
    notes: list[str] = []
    for name in names:
        if name not in CLAIMS:
            notes.append(f'Claim "{name}" is not known to this version; known: {", ".join(CLAIMS)}.')
            continue
        claim = CLAIMS[name]
        ours = [Decided(name, claim.source, claim.figure, finding) for finding in claim(view)]
        if not ours:
            notes.append(f'Claim "{name}" is not looked at: nothing that it speaks of has been measured.')
        found += ours
    return sorted(found, key=lambda one: _ORDER.index(one.finding.verdict)), notes
