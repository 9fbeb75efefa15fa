"""What several studies have in common to be overlaid: the variables that all of them measure, or record."""

from collections.abc import Sequence
from dataclasses import dataclass

from tangentscope.pipeline.report.view import SPLITS, Kernel, View
from tangentscope.pipeline.system.errors import UserError

_RECORDED = ("loss", "score")


@dataclass(frozen=True)
class Shared:
    """A variable that all of the studies have on a split.

    Attributes:
        variable: Its name.
        split: Of the data.
        kernels: By place of the study, how its kernel was taken; None for loss and score.
    """

    variable: str
    split: str
    kernels: tuple[Kernel | None, ...]


def shared(views: Sequence[View]) -> list[Shared]:
    """By split, then in the first study's order: kernels' variables, loss and score.

    Raises:
        UserError: There are none.
    """
    found = [
        Shared(variable, split, tuple(view.kernels(variable, split)[0] for view in views))
        for split in SPLITS
        for variable in _variables(views[0])
        if all(_measured(view, variable, split) for view in views)
    ]
    recorded = [_names(view) for view in views]
    for split in SPLITS:
        for variable in _RECORDED:
            alike = variable == "loss" or len({view.score for view in views}) == 1
            if alike and all((split, variable) in names for names in recorded):
                found.append(Shared(variable, split, (None,) * len(views)))
    if not any(one.kernels[0] for one in found):
        told = "; ".join(f"{view.name}: {', '.join(_variables(view)) or 'none'}" for view in views)
        raise UserError(f"compare: got studies that share no measured variable ({told}); give studies that share one")
    return found


def _variables(view: View) -> list[str]:
    return list(dict.fromkeys(name for how in view.probes.values() for name in how.variables))


def _measured(view: View, variable: str, split: str) -> bool:
    kernels = view.kernels(variable, split)
    return bool(kernels) and bool(view.runs_with[variable, kernels[0]])


def _names(view: View) -> set[tuple[str, str]]:
    pairs = set(zip(view.history["split"], view.history["variable"], strict=True))
    return {(split, "score" if name == view.score else name) for split, name in pairs}
