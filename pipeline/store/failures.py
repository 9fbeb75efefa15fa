"""What could not be measured: the state its row says, and whether a launch tries it again."""

import math
from collections.abc import Mapping
from typing import Any

from tangentscope.pipeline.store.plan import Plan
from tangentscope.pipeline.system.errors import UserError

FAILED = "failed"
"""By its own fault: nobody tries it again before a `retry`."""

INTERRUPTED = "interrupted"
"""For what surrounds it, such as a damaged file: the next launch tries it again."""


def state_of(error: Exception | None) -> str:
    """The state of what an error, or None for the death of a prober, kept from being measured."""
    return INTERRUPTED if error is None or isinstance(error, (OSError, UserError)) else FAILED


def stands(row: Mapping[str, Any], plan: Plan) -> bool:
    """Whether a row of something that was not measured keeps it from being tried: it failed since the latest retry.

    Launches tell which came first: clocks are set back.
    """
    if row["state"] != FAILED:
        return False
    retried, launch = plan.retried.get(row["run"], 0), row.get("launch")
    if launch is None or math.isnan(launch):  # from before rows said so
        return not retried and row["recorded_at"] > plan.retried_at.get(row["run"], 0.0)
    return launch >= retried
