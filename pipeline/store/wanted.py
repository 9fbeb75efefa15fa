"""What a plan wants measured: by the study's own schedule, and what was asked for further (see `driver.probe`)."""

from collections.abc import Container, Mapping
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


def told_apart(plan: Mapping[str, Any]) -> dict[str, str]:
    """What to add to a variable's name for each probe, so that a name stands for one way of measuring in all runs.

    Probes that differ by their data alone, such as those of two tasks, add the same, unless a run has both.
    """
    probes = kinds(plan)
    ways = {probe: tuple(how.get(field) for field in _WAY) for probe, how in probes.items()}
    names: dict[tuple[Any, ...], str] = {}
    taken: set[tuple[str, str]] = set()
    for probe, how in probes.items():
        if ways[probe] not in names:
            names[ways[probe]] = name = _unlike(taken, how)
            taken.add((how["split"], name))
    beside: set[str] = set()
    for run in plan["runs"]:
        first: dict[tuple[Any, ...], str] = {}
        ours = [*run.get("probes", ()), *(further["probe"] for further in run.get("further", ()))]
        beside |= {probe for probe in ours if probe in ways and first.setdefault(ways[probe], probe) != probe}
    return {probe: names[ways[probe]] + (f"_{probe[:6]}" if probe in beside else "") for probe in probes}


_WAY = ("split", "outputs", "part", "draws", "size", "seed")


def _unlike(taken: Container[tuple[str, str]], how: Mapping[str, Any]) -> str:
    parts = [how["outputs"]] * (how["outputs"] != "full") + [how["part"]] * bool(how.get("part"))
    name, more = "".join(f"_{part}" for part in parts), (f"_{how['draws']}x{how['size']}", f"_seed{how['seed']}")
    for addition in ("", *more):
        if (how["split"], name) in taken:
            name += addition
    return name
