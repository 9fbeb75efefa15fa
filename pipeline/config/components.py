"""Tasks, models, optimisers and training by their names: what a study says of each, and the config it becomes."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from torch import nn

from tangentscope import models, tasks
from tangentscope.pipeline.config.optimisers import OPTIMISERS, Optimiser
from tangentscope.pipeline.config.train import Course, course_of
from tangentscope.pipeline.config.validation import validate
from tangentscope.pipeline.system.errors import UserError, nearest

# What a study may name in each of these places.
TABLES: dict[str, dict[str, Any]] = {"task": tasks.TASKS, "model": models.MODELS, "optimiser": OPTIMISERS}
PARTS = ("task", "model", "optimiser", "train")
Parts = tuple[tasks.Task, models.Model, Optimiser, Course]


def named(kind: str, data: Any, source: str) -> BaseModel:
    """The config of a task, model or optimiser: its class looked up by ``name`` in the explicit table."""
    table = TABLES[kind]
    if not isinstance(data, dict) or "name" not in data:
        raise UserError(f"{source}: {kind}: got {data!r}; expected a mapping with a name, {nearest('', table)}")
    if not isinstance(data["name"], str) or data["name"] not in table:
        raise UserError(f'{source}: {kind}.name: "{data["name"]}" unknown; {nearest(str(data["name"]), table)}')
    return validate(table[data["name"]], data, kind, source)


def dump(part: BaseModel) -> dict[str, Any]:
    """A config as plain values."""
    return part.model_dump(mode="json")


def restore(config: Mapping[str, Any]) -> Parts:
    """Task, model, optimiser and training of a config as :meth:`Run.config` gave it."""
    task, model, optimiser = (named(kind, config.get(kind), "config") for kind in PARTS[:3])
    course = validate(course_of(config["task"]), config.get("train"), "train", "config")
    return task, model, optimiser, course  # pyright: ignore[reportReturnType]  the tables hold just these classes


def build_network(
    config: Mapping[str, Any], input_shape: Sequence[int], outputs: int, codes: Mapping[str, Sequence[int]]
) -> nn.Module:
    """A new network of a run's config for data of these shapes; its parameters will be overwritten."""
    return restore(config)[1].network(input_shape, outputs, codes)
