"""Rows of the page's table of claims, from what `tangentscope export --table claims` wrote of each study."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

_VERDICTS = ("failed", "undecided", "held")  # what failed first


def rows(file: Path) -> Iterator[str]:
    """A line of Markdown for each claim of a study: verdicts, the least and the largest mean over seeds, seeds."""
    table = pd.read_csv(file)
    for (source, claim), found in table.groupby(["source", "claim"], sort=False):
        counts = found["verdict"].value_counts()
        there = [each for each in _VERDICTS if each in counts]
        verdicts = ", ".join(f"{counts[each]} {each}" if len(found) > 1 else each for each in there)
        link = f"[{file.stem}](claims/{file.name})"
        yield f"| {source} | {claim} | {link} | {verdicts} | {_numbers(found)} | {_seeds(found)} |"


def _numbers(found: pd.DataFrame) -> str:
    known = found.dropna(subset="value")
    if not len(known):
        return found["why"].iloc[0]
    if len(found) == 1:
        one = known.iloc[0]
        return f"{one['value']:.3g} [{one['low']:.3g}, {one['high']:.3g}]; {one['margin']}"
    return f"{known['value'].min():.3g} … {known['value'].max():.3g}"


def _seeds(found: pd.DataFrame) -> str:
    least, most = found["seeds"].min(), found["seeds"].max()
    return f"{least}" if least == most else f"{least} … {most}"
