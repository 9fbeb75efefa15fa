"""Which runs share a figure: a study that varies several fields gets one figure per combination beyond the first."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.report.view import Kernel, View, value_label, where


@dataclass(frozen=True)
class Facet:
    """The runs of one figure and one kernel.

    Attributes:
        parts: What sets this figure apart from the others, e.g. ``activation=relu``.
        groups: The runs by the label of the first varied field's value; those of one group differ by their seed.
        kernel: How the tangent kernel was taken.
    """

    parts: list[str]
    groups: dict[str, list[dict[str, Any]]]
    kernel: Kernel

    @property
    def runs(self) -> list[dict[str, Any]]:
        """All runs of the figure, as planned."""
        return [run for group in self.groups.values() for run in group]


def facets(view: View, variables: Sequence[str]) -> list[Facet]:
    """The figures that show the kernel's `variables`: those of which something was measured, in the plan's order."""
    kernels = list(dict.fromkeys(kernel for variable in variables for kernel in view.kernels(variable)))
    fields = ("outputs", "draws", "size", "seed")
    differing = [field for field in fields if len({getattr(kernel, field) for kernel in kernels}) > 1]
    combinations: dict[tuple[str, ...], dict[str, list[dict[str, Any]]]] = {}
    for run in view.runs:
        first, *rest = [value_label(run["varied"][field]) for field in view.varied] or [""]
        combinations.setdefault(tuple(rest), {}).setdefault(first, []).append(run)
    found = []
    for rest, groups in combinations.items():
        parts = [f"{view.short(field)}={value}" for field, value in zip(view.varied[1:], rest, strict=True)]
        for kernel in kernels:
            facet = Facet(parts + [f"{field}={getattr(kernel, field)}" for field in differing], groups, kernel)
            runs = {run["run"] for run in facet.runs}
            rows = where(view.numbers, kernel=kernel)
            if any(run in runs and name in variables for run, name in zip(rows["run"], rows["variable"], strict=True)):
                found.append(facet)
    return found


def file_name(text: str, taken: set[str]) -> str:
    """A name that any file system takes, unlike those taken, which it joins."""
    name = base = re.sub(r"[^\w=.,+-]+", "_", text)[:80]
    while name in taken:
        name = f"{base}-{len(taken)}"
    taken.add(name)
    return name
