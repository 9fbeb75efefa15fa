"""What a plan wants measured: by the study's own schedule, and what was asked for further (see `pipeline.further`)."""

from collections.abc import Mapping
from typing import Any

Wanted = Mapping[int, Mapping[str, tuple[str, ...]]]
"""By step, in ascending order: variables by probe."""


def kinds(plan: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The probes of a plan by id, each with all variables that are wanted of it anywhere."""
    found: dict[str, dict[str, Any]] = {}
    for probe in [*plan.get("probes", ()), *plan.get("further", ())]:
        known = found.setdefault(probe["probe"], {**probe, "variables": []})
        known["variables"] = list(dict.fromkeys([*known["variables"], *probe["variables"]]))
    return found


def wanted(plan: Mapping[str, Any], run: Mapping[str, Any]) -> Wanted:
    """What is wanted of one of the plan's runs."""
    variables = {probe["probe"]: tuple(probe["variables"]) for probe in plan.get("probes", ())}
    own = {probe: variables[probe] for probe in run.get("probes", ()) if probe in variables}
    found: dict[int, dict[str, tuple[str, ...]]] = dict.fromkeys(run.get("schedule", ()), own)
    for further in run.get("further", ()):  # plans on storage that know of none have no such entry
        probe, more = further["probe"], further["variables"]
        for step in further["steps"]:
            known = found.get(step, {})
            found[step] = {**known, probe: tuple(dict.fromkeys([*known.get(probe, ()), *more]))}
    return {step: found[step] for step in sorted(found)}


def count(values: Wanted) -> int:
    """How many values that makes."""
    return sum(len(variables) for probes in values.values() for variables in probes.values())


def told_apart(probes: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What to add to a variable's name for each probe, so that no two probes of a split give the same name."""
    found: dict[str, str] = {}
    known: set[tuple[str, str]] = set()
    for probe, how in probes.items():
        parts = [how["outputs"]] * (how["outputs"] != "full") + [how["part"]] * bool(how.get("part"))
        name, more = "".join(f"_{part}" for part in parts), (f"_{how['draws']}x{how['size']}", f"_seed{how['seed']}")
        for addition in ("", *more):
            if (how["split"], name) in known:
                name += addition
        known.add((how["split"], name))
        found[probe] = name
    return found
