"""Which values could not be measured, and why: counts and first causes by variable."""

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Failure:
    """Of one variable: how many of its values could not be measured, of how many, and why the first of them."""

    variable: str
    count: int
    total: int
    cause: str

    def __str__(self) -> str:
        return f"{self.variable}: {self.count} of {self.total} values ({self.cause})"


def failures(measurements: pd.DataFrame) -> list[Failure]:
    """By variable, the most frequent first; none where everything was measured.

    Args:
        measurements: As `Store.measurements` gives them.
    """
    found = []
    for variable, rows in measurements.groupby("variable", sort=True):
        failed = rows.loc[rows["state"] != "measured"].sort_values("step", kind="stable")
        if len(failed):
            found.append(Failure(str(variable), len(failed), len(rows), str(failed["cause"].iloc[0])))
    return sorted(found, key=lambda each: -each.count)
