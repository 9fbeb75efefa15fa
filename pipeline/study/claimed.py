"""Whether a study has what it takes to decide the claims it names; one line for the first thing that is missing."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tangentscope.pipeline.report.claims import CLAIMS, Needs
from tangentscope.pipeline.system.errors import UserError
from tangentscope.probes import FEATURE_VARIABLES
from tangentscope.tasks import TASKS, Game

if TYPE_CHECKING:
    from tangentscope.pipeline.study.spec import Study


def check_claims(study: "Study", source: str) -> None:
    """Raise UserError where a study names a claim that it has no data for."""
    for name in study.report.claims:
        for missing in _missing(study, CLAIMS[name].needs):
            raise UserError(f"{source}: report.claims: {name} needs {missing}, or leave the claim out")


def _missing(study: "Study", needs: Needs) -> Iterator[str]:
    """What is missing and what to do about it, as the end of a sentence that begins with "needs"."""
    for check in _CHECKS:
        yield from check(study, needs)


def _task(study: "Study", needs: Needs) -> Iterator[str]:
    for name in _values(study, "task.name"):
        if needs.plays != (isinstance(cls := TASKS.get(name), type) and issubclass(cls, Game)):
            what = "a game" if needs.plays else "a task with a loss"
            yield f"{what}, but task.name is {name}; give another task"


def _variables(study: "Study", needs: Needs) -> Iterator[str]:
    for name in needs.variables:
        place, there = _place(study, name)
        if name not in there:
            yield f"{name}, which {place} does not have; add it there"
    for split in needs.splits:
        if split not in study.probes.splits:
            yield f"kernels of the {split} split, which probes.splits does not have; add it there"


def _place(study: "Study", name: str) -> tuple[str, tuple[str, ...]]:
    """Where a variable is to stand, and what stands there."""
    if name not in FEATURE_VARIABLES:
        return "probes.variables", study.probes.variables
    features = study.probes.features
    return "probes.features.variables", () if features is None else features.variables


def _varied(study: "Study", needs: Needs) -> Iterator[str]:
    for varied in needs.varied:
        counts = {field: len(_numbers(study, field)) for field in varied.fields}
        if max(counts.values()) < varied.least:
            fields = " or ".join(varied.fields)
            found = max(counts, key=lambda field: counts[field])
            yield f"{varied.least} values of {fields}, but {found} has {counts[found]}; vary it in grid or zip"
    for field, values in needs.values.items():
        for value in values:
            if value not in _values(study, field):
                yield f"{field} {value}, which the study does not have; add it to grid or zip"
    fields = [field for field in (*study.grid, *study.zip) if len(_values(study, field)) > 1]
    if needs.any_of and not any(field.startswith(needs.any_of) for field in fields):
        yield f"several values of {', '.join(needs.any_of)} or a field below; vary one in grid or zip"


def _schedule(study: "Study", needs: Needs) -> Iterator[str]:
    schedule = study.probes.schedule
    every = schedule.every is not None and schedule.every.epochs is not None and schedule.every.epochs >= 1
    if needs.within_epoch and every:
        yield "kernels within the first epoch, but probes.schedule has whole epochs; give {kind: log, points: 40}"


_CHECKS: tuple[Callable[["Study", Needs], Iterator[str]], ...] = (_task, _variables, _varied, _schedule)


def _values(study: "Study", field: str) -> list[Any]:
    """The different values that a field takes: those varied, else the one it has."""
    part, _, rest = field.partition(".")
    for varied in (study.grid, study.zip):
        if field in varied:
            return _different(varied[field])
    for varied in (study.grid, study.zip):
        if part in varied:
            return _different([_at(whole, rest) for whole in varied[part]])
    found = _at(getattr(study, part), rest)
    return [] if found is None else [found]


def _at(part: Any, field: str) -> Any:
    for key in field.split("."):
        part = part.get(key) if isinstance(part, dict) else None
    return part


def _different(values: list[Any]) -> list[Any]:
    return [value for place, value in enumerate(values) if value not in values[:place]]


def _numbers(study: "Study", field: str) -> list[Any]:
    """The different values of a field that is varied by its own name, if they are numbers."""
    values = _values(study, field) if field in study.grid or field in study.zip else []
    return values if all(type(value) in (int, float) for value in values) else []
