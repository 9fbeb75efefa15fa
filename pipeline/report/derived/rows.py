"""A row of the table ``derived``, and the columns that it has."""

import math
from dataclasses import dataclass

COLUMNS = ("study", "network", "run", "seed", "split", "kernel", "quantity", "step", "epoch")
COLUMNS = (*COLUMNS, "value", "stderr", "spread", "low", "high", "seeds", "text")


@dataclass(frozen=True)
class Row:
    """A derived quantity of a run, of a network (over its seeds) or of several networks.

    Attributes:
        quantity: Its name.
        network: What is varied, e.g. ``width=8``; empty where nothing is.
        run, seed: None where the row is about several runs.
        step, epoch: Where in training it is taken, if it is of one place.
        value: NaN where there is none: `text` says why.
        stderr: Its standard error over seeds (by jackknife for rates); NaN below two.
        spread: The standard deviation over seeds; NaN below two.
        low, high: 95 % interval by bootstrap over seeds, of what is fitted to an ensemble.
        seeds: How many it is made of.
        text: What no number says, such as the name of a regime.
    """

    quantity: str
    network: str
    value: float = math.nan
    run: str | None = None
    seed: int | None = None
    step: float = math.nan
    epoch: float = math.nan
    stderr: float = math.nan
    spread: float = math.nan
    low: float = math.nan
    high: float = math.nan
    seeds: int = 1
    text: str = ""
