"""The claims that a study asks for, decided: what failed first, since nobody may have to look for it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from tangentscope.pipeline.report.claims import CLAIMS, Finding
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
        low = [f"> {_bound(found.above)}"] if math.isfinite(found.above) else []
        high = [f"≤ {_bound(found.at_most)}"] if math.isfinite(found.at_most) else []
        return " and ".join([*low, *high])

    @property
    def why_undecided(self) -> str:
        """What is wanting for a verdict; empty if there is one."""
        count, notes = len(self.finding.values), {sample.note for sample in self.finding.samples}
        if self.finding.verdict != UNDECIDED:
            return ""
        if not count and len(notes) == 1:
            return notes.pop()
        few = count < self.finding.fewest
        return (
            f"{count} of the {self.finding.fewest} seeds that a verdict takes"
            if few
            else "the margin is in the interval"
        )


def _bound(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")


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


def claims_table(view: View) -> pd.DataFrame:
    """The claims that a study asks for as a table, in the order of `decide`: one row a finding.

    Columns are `claim`, `source`, `statement`, `verdict`, `statistic`, `value` (the mean over seeds), `low` and `high`
    (of its 95 % interval), `margin`, `seeds` (that have a number) and `why` (it is undecided, else empty).
    """
    columns = ["claim", "source", "statement", "verdict", "statistic", "value", "low", "high", "margin", "seeds", "why"]
    rows = []
    for one in decide(view, view.options.get("claims") or [])[0]:
        found = one.finding
        low, high = found.interval or (None, None)
        about = (one.claim, one.source, found.statement, found.verdict, found.statistic)
        rows.append((*about, found.mean, low, high, one.margin, len(found.values), one.why_undecided))
    return pd.DataFrame(rows, columns=columns)
