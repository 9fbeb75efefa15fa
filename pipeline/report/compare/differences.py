"""What sets studies apart: configs, kernels, versions and values at the end."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tangentscope.pipeline.report.claims.findings import bootstrap_interval
from tangentscope.pipeline.report.compare.shared import Shared
from tangentscope.pipeline.report.formatting import ABSENT
from tangentscope.pipeline.report.view import View, column

_MOST_VALUES = 8  # of a field that are listed


@dataclass(frozen=True)
class Difference:
    """A field, and what it is in each study."""

    field: str
    values: list[str]


@dataclass(frozen=True)
class End:
    """The last values of a variable over the finished seeds of one network of one study.

    Attributes:
        study: Its place.
        network: What is varied.
        mean: NaN if a seed's is.
        interval: 95 % by bootstrap over seeds; None below two seeds, or without a mean.
        seeds: How many.
    """

    study: int
    network: str
    mean: float
    interval: tuple[float, float] | None
    seeds: int


def configs(views: Sequence[View]) -> list[Difference]:
    """The fields of configs, kernels and schedules that are not the same in all studies."""
    return _differing([_fields(view) for view in views])


def versions(views: Sequence[View]) -> list[Difference]:
    """Versions of what the studies were computed with, commits and machines that differ."""
    return _differing([_provenance(view) for view in views])


def ends(views: Sequence[View], one: Shared) -> list[End]:
    """Values at the end of a variable, a row a study's network."""
    found = []
    for place, (view, kernel) in enumerate(zip(views, one.kernels, strict=True)):
        for parts, runs in view.networks.items():
            curves = [column(view.curve(run, one.split, one.variable, kernel), "value") for run in runs]
            last = np.array([values[-1] for values in curves if values.size])
            if last.size:
                enough = last.size > 1 and bool(np.isfinite(last).all())
                interval = bootstrap_interval(last.tolist()) if enough else None
                found.append(End(place, ", ".join(parts), float(last.mean()), interval, last.size))
    return found


def _differing(fields: Sequence[Mapping[str, str]]) -> list[Difference]:
    names = dict.fromkeys(name for own in fields for name in own)
    rows = [Difference(name, [own.get(name, ABSENT) for own in fields]) for name in names]
    return [row for row in rows if len({*row.values}) > 1]


def _fields(view: View) -> dict[str, str]:
    values: dict[str, dict[str, None]] = {}
    for run in view.runs:
        for field, value in _flat({**run.config, "data": run.data.source}):
            values.setdefault(field, {})[_text(value)] = None
    found = {field: _listed(list(own)) for field, own in values.items()}
    found["kernels"] = "; ".join(dict.fromkeys(str(view.kernel_of(probe)) for probe in view.probes)) or ABSENT
    found["variables"] = ", ".join(dict.fromkeys(name for how in view.probes.values() for name in how.variables))
    found["steps"] = _listed(list(dict.fromkeys(f"{run.steps:,}" for run in view.runs)))
    return found


def _flat(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in config.items():
        nested = isinstance(value, Mapping) and value
        found += _flat(value, f"{prefix}{key}.") if nested else [(f"{prefix}{key}", value)]
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _listed(values: Sequence[str]) -> str:
    more = len(values) - _MOST_VALUES
    return ", ".join(values[:_MOST_VALUES]) + (f" and {more} more" if more > 0 else "")


def _provenance(view: View) -> dict[str, str]:
    about = view.provenance
    found = {name: str(version) for name, version in sorted((about.get("versions") or {}).items())}
    if about.get("git_commit"):
        dirty = " with uncommitted changes" if about.get("git_dirty") else ""
        found["tangentscope's commit"] = f"{about['git_commit']}{dirty}"
    machine = about.get("machine") or {}
    found |= {name: str(machine[name]) for name in ("host", "platform", "processor", "cores") if machine.get(name)}
    return found
