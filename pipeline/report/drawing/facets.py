"""Which runs share a figure.

A study that varies several fields gets one figure per combination beyond the first field. One that varies them one at a
time, the others held at a common base as in CV fig. 1, gets one figure per field.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from operator import ne

from tangentscope.pipeline.report.view import Kernel, View, value_label
from tangentscope.pipeline.store.planned import PlannedRun


@dataclass(frozen=True)
class Facet:
    """The runs of one figure and one kernel.

    Attributes:
        field: The varied field that its colours tell apart; None if nothing is varied.
        parts: What sets this figure apart from the others, e.g. ``activation=relu``.
        groups: The runs by the label of that field's value; those of one group differ by their seed.
        kernel: How the tangent kernel was taken.
    """

    field: str | None
    parts: list[str]
    groups: dict[str, list[PlannedRun]]
    kernel: Kernel

    @property
    def runs(self) -> list[PlannedRun]:
        """All runs of the figure, as planned."""
        return [run for group in self.groups.values() for run in group]


def facets(view: View, variables: Sequence[str]) -> list[Facet]:
    """The figures that show the kernel's `variables`: those of which something was measured, in the plan's order."""
    kernels = list(dict.fromkeys(kernel for variable in variables for kernel in view.kernels(variable)))
    fields = ("outputs", "draws", "size", "seed", "part", "held_out")
    differing = [field for field in fields if len({getattr(kernel, field) for kernel in kernels}) > 1]
    found = []
    for field, parts, groups in _scans(view) or _combinations(view):
        for kernel in kernels:
            facet = Facet(field, parts + [f"{field}={getattr(kernel, field)}" for field in differing], groups, kernel)
            runs = {run.id for run in facet.runs}
            if any(not runs.isdisjoint(view.runs_with[variable, kernel]) for variable in variables):
                found.append(facet)
    return found


_Figure = tuple[str | None, list[str], dict[str, list[PlannedRun]]]  # field, parts and groups of a Facet


def _scans(view: View) -> list[_Figure]:
    """By field, the runs that differ from a common base in it alone; none if some differ from any base in more."""
    points = {run.id: _labels(view, run) for run in view.runs}
    networks = list(dict.fromkeys(points.values()))
    base = next((one for one in networks if all(sum(map(ne, one, other)) <= 1 for other in networks)), None)
    if base is None:
        return []
    found: list[_Figure] = []
    for place, field in enumerate(view.varied):
        groups: dict[str, list[PlannedRun]] = {}
        for run in view.runs:
            label = points[run.id][place]
            if points[run.id] == (*base[:place], label, *base[place + 1 :]):
                groups.setdefault(label, []).append(run)
        if len(groups) > 1:
            parts = [f"{view.short(other)}={base[k]}" for k, other in enumerate(view.varied) if k != place]
            found.append((field, parts, groups))
    return found


def _combinations(view: View) -> list[_Figure]:
    """By combination of the varied fields beyond the first."""
    combinations: dict[tuple[str, ...], dict[str, list[PlannedRun]]] = {}
    for run in view.runs:
        first, *rest = _labels(view, run) or ("",)
        combinations.setdefault(tuple(rest), {}).setdefault(first, []).append(run)
    field = view.varied[0] if view.varied else None
    names = [view.short(name) for name in view.varied[1:]]
    return [
        (field, [f"{name}={value}" for name, value in zip(names, rest, strict=True)], groups)
        for rest, groups in combinations.items()
    ]


def _labels(view: View, run: PlannedRun) -> tuple[str, ...]:
    return tuple(value_label(run.varied[field]) for field in view.varied)


def file_name(text: str, taken: set[str]) -> str:
    """A name that any file system takes, unlike those taken, which it joins."""
    name = base = re.sub(r"[^\w=.,+-]+", "_", text)[:80]
    while name in taken:
        name = f"{base}-{len(taken)}"
    taken.add(name)
    return name
