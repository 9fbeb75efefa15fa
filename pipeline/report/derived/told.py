"""The derived quantities as the report shows them: a row a network, a column a quantity."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tangentscope.pipeline.report.derived.rows import Row
from tangentscope.pipeline.report.derived.scaling import FITTED
from tangentscope.pipeline.report.formatting import number

# By quantity the head of its column, and which of the row's fields stands beside the value.
_COLUMNS = {
    "test_loss_least": ("Least test loss", "stderr"),
    "entropy_at_least_test_loss": ("S there (nats)", "stderr"),
    "effective_rank_cosine_at_least_test_loss": ("Effective rank there", "stderr"),
    "trace_at_least_test_loss": ("Tr Θ there", "stderr"),
    "trace_ratio": ("Trace ratio", "stderr"),
    "adaptation_rate_at_least_test_loss": ("Adaptation rate there", "stderr"),
    "turning_epoch": ("Turning epoch", "spread"),
    "entropy_rebound": ("Rebound (nats)", "stderr"),
    "entropy_net": ("Net (nats)", "stderr"),
}


@dataclass(frozen=True)
class Cell:
    """A value, and how far it may be off; None where one seed does not tell."""

    value: float
    error: float | None


@dataclass(frozen=True)
class Line:
    """A network: a cell a column, None where there is no such quantity; its regimes; of how many seeds."""

    network: str
    cells: list[Cell | None]
    regimes: str
    seeds: int


@dataclass(frozen=True)
class Told:
    """The table, a sentence for each quantity of several networks, and what was fitted to networks of several sizes."""

    columns: list[str]
    rows: list[Line]
    sentences: list[str]
    fits: list[Row]


def told(rows: Sequence[Row]) -> Told | None:
    """None if there are no rows."""
    by_network: dict[str, dict[str, Row]] = {}
    for row in rows:
        apart = row.quantity == "adaptation_rate" or row.quantity.startswith(("least_", *FITTED))
        if row.run is None and not apart:
            by_network.setdefault(row.network, {})[row.quantity] = row
    shown = [name for name in _COLUMNS if any(name in own for own in by_network.values())]
    lines = [
        Line(
            network,
            [_cell(own.get(name), _COLUMNS[name][1]) for name in shown],
            own["regime"].text if "regime" in own else "",
            max(row.seeds for row in own.values()),
        )
        for network, own in by_network.items()
    ]
    sentences = [_sentence(row) for row in rows if row.quantity.startswith("least_")]
    fits = [row for row in rows if row.quantity.startswith(FITTED)]
    return Told([_COLUMNS[name][0] for name in shown], lines, sentences, fits) if lines else None


def _cell(row: Row | None, error: str) -> Cell | None:
    if row is None:
        return None
    beside = getattr(row, error)
    return Cell(row.value, None if math.isnan(beside) else beside)


def _sentence(row: Row) -> str:
    what = row.quantity.removeprefix("least_").removesuffix("_with_formation")
    where = f" ({row.network})" if row.network else ""
    found = number(int(row.value)) if not math.isnan(row.value) else row.text
    return f"Least {what} at which most seeds show formation{where}: {found}."
