"""What a report shows and how: as the study says, or as somebody asks for once."""

from collections.abc import Sequence
from typing import Any

import yaml

from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.study.spec import Report, put, validate
from tangentscope.pipeline.system.errors import UserError


def options(store: Store, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """A study's report options with ``report.key=value`` laid over them.

    Raises:
        UserError: No such option, or a value that it cannot have.
    """
    data: dict[str, Any] = {"report": dict(store.plan.report or {})}
    if not overrides:  # as it was planned, even by a version that had other options
        return data["report"]
    for override in overrides:
        key, found, value = override.partition("=")
        if not found or not key.startswith("report."):
            raise UserError(f'override "{override}": expected report.key=value, e.g. report.figures=[curves]')
        try:
            put(data, key, yaml.safe_load(value), "report")
        except yaml.YAMLError as error:
            problem = getattr(error, "problem", None) or "not text"
            raise UserError(f'override "{override}": the value is no YAML: {problem}') from None
    return validate(Report, data["report"], "report", "command line").model_dump(mode="json")
