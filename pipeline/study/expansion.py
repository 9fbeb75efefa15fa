"""From a study to the configs of its runs: every combination of grid × zip, validated. Nothing here knows any data."""

import copy
import itertools
from typing import Any

from pydantic import BaseModel

from tangentscope.pipeline.config.components import PARTS, Parts, dump, named
from tangentscope.pipeline.config.naming import labels
from tangentscope.pipeline.config.train import course_of
from tangentscope.pipeline.config.validation import validate
from tangentscope.pipeline.study.spec import Study, put
from tangentscope.pipeline.system.errors import UserError


def expand(study: Study, source: str = "study") -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Every combination of grid × zip as (varied fields, the study's parts with them set), in the file's order.

    Of a varied field whose values are mappings there is a label for each, as `pipeline.config.naming` makes it.
    """
    _check_varied(study, source)
    fields = {**study.grid, **study.zip}
    marks = {key: labels(values) for key, values in fields.items()}
    rows = range(len(next(iter(study.zip.values())))) if study.zip else (0,)
    expanded = []
    for point in itertools.product(*(range(len(values)) for values in study.grid.values())):
        for row in rows:
            places = dict.fromkeys(study.zip, row) | dict(zip(study.grid, point, strict=True))
            parts = {kind: copy.deepcopy(getattr(study, kind)) for kind in PARTS}
            # A whole part first: fields of it that vary as well lie over it.
            for key in sorted(fields, key=lambda key: key.count(".")):
                put(parts, key, copy.deepcopy(fields[key][places[key]]), source)
            expanded.append(({key: marks[key][places[key]] for key in fields}, parts))
    return expanded


def _check_varied(study: Study, source: str) -> None:
    for kind in ("grid", "zip"):
        for key, values in getattr(study, kind).items():
            if not values:
                raise UserError(f"{source}: {kind}.{key}: empty; give at least one value or take the line out")
            if key.partition(".")[0] not in PARTS:
                raise UserError(f"{source}: {kind}.{key}: only fields of {', '.join(PARTS)} can be varied")
    if both := set(study.grid) & set(study.zip):
        raise UserError(f"{source}: {', '.join(sorted(both))} stands in grid and in zip; leave it in one of them")
    lengths = {key: len(values) for key, values in study.zip.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f"{source}: zip: lists of different length {lengths}; make them equal or use grid")
    if study.runs > study.max_runs:
        problem = f"got {study.runs:,} runs, expected {study.max_runs:,} at most"
        raise UserError(f"{source}: max_runs: {problem}; vary less, or raise it")


def validated(study: Study, source: str = "study") -> list[tuple[dict[str, Any], Parts]]:
    """Every combination of grid × zip as (varied fields, the configs with them set): all that holds without the data.

    Raises:
        UserError: A value that does not hold.
    """
    found: list[tuple[dict[str, Any], Parts]] = []
    for varied, parts in expand(study, source):
        task, model, optimiser = (named(kind, parts[kind], source) for kind in ("task", "model", "optimiser"))
        train = validate(course_of(parts["task"]), parts["train"], "train", source)
        varied = _as_read(varied, {"task": task, "model": model, "optimiser": optimiser, "train": train})
        found.append((varied, (task, model, optimiser, train)))  # pyright: ignore  the tables hold just these classes
    return found


def _as_read(varied: dict[str, Any], parts: dict[str, BaseModel]) -> dict[str, Any]:
    """The varied fields with the values the config made of them: YAML reads 1e-3, without a point, as text."""
    found = {}
    for key, value in varied.items():
        place: Any = {kind: dump(part) for kind, part in parts.items()}
        for part in key.split("."):
            place = place[part]
        found[key] = value if isinstance(place, dict) else place
    return found
