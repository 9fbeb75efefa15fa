"""The study file: what may stand in it, and one clear line for what may not.

``read_study`` gives a :class:`Study`; :mod:`pipeline.plan` expands it into runs.
"""

import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from models import MODELS
from pipeline.errors import UserError, nearest
from pipeline.optimisers import OPTIMISERS
from pipeline.resources import Resources
from pipeline.schedule import Schedule
from probes import VARIABLES
from tasks import TASKS

# What a study may name in each of these places.
TABLES: dict[str, dict[str, Any]] = {"task": TASKS, "model": MODELS, "optimiser": OPTIMISERS}


def _all_in(table: Mapping[str, object], names: tuple[str, ...], what: str) -> tuple[str, ...]:
    for name in names:
        if name not in table:
            raise ValueError(f'{what} "{name}" unknown; {nearest(name, table)}')
    return names


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Kernel(_Part):
    """What one measurement takes the kernel of: `draws` kernels on `size` data points each (CV §4: 200 of 20)."""

    outputs: Literal["full", "traced", "summed"] = "full"
    draws: int = Field(default=1, ge=1)
    size: int = Field(default=100, ge=1)
    seed: int = Field(default=0, ge=0)


class Probes(_Part):
    """When, on what and which variables; `keep` says which probed snapshots stay once they are measured."""

    schedule: Schedule = Schedule(kind="log", points=40)
    splits: tuple[Literal["train", "test"], ...] = Field(default=("train", "test"), min_length=1)
    kernel: Kernel = Kernel()
    parts: tuple[str, ...] = ()  # of the outputs, each with kernels of its own; by default kernels are of all
    variables: tuple[str, ...] = Field(default=("trace", "entropy", "effective_rank"), min_length=1)
    snapshots: Schedule | None = None  # more of them than are probed, for a later run that probes them
    keep: Literal["all", "ends", "none"] = "all"

    @field_validator("variables")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _all_in(VARIABLES, names, "variable")

    @field_validator("splits", "variables", "parts")
    @classmethod
    def _once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError(f"each may stand once, got {', '.join(names)}")
        return names


class Report(_Part):
    """Which figures, their horizontal axis, and which claims of the papers are to be decided."""

    figures: tuple[str, ...] = ("curves", "effective_rank")
    claims: tuple[str, ...] = ()
    x: Literal["epoch", "step", "episode"] = "epoch"
    log_x: bool = False

    @field_validator("figures")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        # Imported here: drawing takes a second to load, and a study that names no figures needs none of it.
        from pipeline.report.figures import FIGURES

        return _all_in(FIGURES, names, "figure")

    @field_validator("claims")
    @classmethod
    def _claims_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        from pipeline.report.claims import CLAIMS

        return _all_in(CLAIMS, names, "claim")


class Study(_Part):
    """A study as written: task, model and optimiser are still open to `grid`, `zip` and `seeds`."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    task: dict[str, Any]
    model: dict[str, Any]
    optimiser: dict[str, Any]
    train: dict[str, Any]
    grid: dict[str, list[Any]] = {}
    zip: dict[str, list[Any]] = {}
    seeds: Annotated[int, Field(ge=1)] | Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = 1
    probes: Probes = Probes()
    resources: Resources = Resources()
    report: Report = Report()
    scales: dict[str, dict[str, Any]] = {}

    @property
    def seed_list(self) -> list[int]:
        """The seeds: 0 to n − 1 if a number was given."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else list(self.seeds)

    def text(self) -> str:
        """The study as YAML, with scale and overrides in place; `parse_study` makes the same study of it."""
        resolved = self.model_dump(mode="json", exclude_unset=True)
        return yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True)


Config = TypeVar("Config", bound=BaseModel)


def validate(cls: type[Config], data: Any, place: str, source: str) -> Config:
    """`data` as `cls`, or a UserError that names the place, what was got and what is allowed there."""
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        # Unknown keys first: a mistyped one explains why another is missing.
        places = sorted(_by_place(error.errors()), key=lambda e: e["type"] != "extra_forbidden")[:3]
        raise UserError("; ".join(_explain(cls, e, place, source) for e in places)) from None


# What pydantic adds to the place of an error to say which of several allowed types it means, e.g. "literal['full']".
_BRANCH = re.compile(r"constrained-|.*\[.*\]$")


def _by_place(errors: list[Any]) -> list[Any]:
    """Errors with their real places; what is said of each type a field allows becomes one error."""
    found: list[Any] = []
    for error in errors:
        branches = [k for k, part in enumerate(error["loc"]) if _BRANCH.match(str(part))]
        root = error["loc"][: branches[0]] if branches else error["loc"]
        error = {**error, "loc": tuple(p for k, p in enumerate(error["loc"]) if k not in branches), "root": root}
        other = found[-1] if found and branches and found[-1]["root"] == root else None
        if other is None:
            found.append(error)
        elif len(error["loc"]) > len(other["loc"]):
            found[-1] = error  # this type fits as a whole, and one of its items does not
        elif len(error["loc"]) == len(other["loc"]):
            other["msg"] += f" or {error['msg'].removeprefix('Input should be ')}"
    return found


def _explain(cls: type[BaseModel], error: Any, place: str, source: str) -> str:
    where = ".".join([place] * bool(place) + [str(part) for part in error["loc"]])
    got = repr(error["input"])
    if error["type"] == "extra_forbidden":
        owner = _class_at(cls, error["loc"][:-1])
        allowed = nearest(str(error["loc"][-1]), owner.model_fields) if owner else "no such key here"
        return f"{source}: {where}: unknown key; {allowed}"
    if error["type"] == "missing":
        return f"{source}: {where}: missing; every {place or 'study'} needs it"
    message = error["msg"].removeprefix("Value error, ")
    return f"{source}: {where}: got {got if len(got) < 80 else got[:77] + '…'}; {message[0].lower()}{message[1:]}"


def _class_at(cls: type[BaseModel], loc: tuple[Any, ...]) -> type[BaseModel] | None:
    for part in loc:
        field = cls.model_fields.get(str(part))
        annotation = field.annotation if field else None
        options = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
        inner = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
        if not inner:
            return None
        cls = inner[0]
    return cls


def named(kind: str, data: Any, source: str) -> BaseModel:
    """The config of a task, model or optimiser: its class looked up by ``name`` in the explicit table."""
    table = TABLES[kind]
    if not isinstance(data, dict) or "name" not in data:
        raise UserError(f"{source}: {kind}: got {data!r}; expected a mapping with a name, {nearest('', table)}")
    if not isinstance(data["name"], str) or data["name"] not in table:
        raise UserError(f'{source}: {kind}.name: "{data["name"]}" unknown; {nearest(str(data["name"]), table)}')
    return validate(table[data["name"]], data, kind, source)


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f'"{key.value}" stands twice', key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_study(path: str | Path, overrides: tuple[str, ...] = (), scale: str | None = None) -> Study:
    """The study in a YAML file, with a `scale` of its own and ``key=value`` overrides laid over it, in this order.

    Raises:
        UserError: Not a file, not YAML, empty, an unknown key or scale, a value out of bounds.
    """
    source = Path(path).name
    try:
        text = Path(path).read_text()
    except OSError as error:
        raise UserError(f"study {path}: {error.strerror}; give a YAML file, see `tangentscope ls studies`") from None
    except UnicodeDecodeError:
        raise UserError(f"{source}: no YAML: not text") from None
    return parse_study(text, source, overrides, scale)


def parse_study(text: str, source: str, overrides: tuple[str, ...] = (), scale: str | None = None) -> Study:
    """The study in YAML text from `source`; see `read_study`."""
    try:
        data = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        raise UserError(f"{source}: no YAML{line}: {getattr(error, 'problem', None) or 'not text'}") from None
    if not isinstance(data, dict):
        raise UserError(f"{source}: {'empty' if data is None else 'no mapping'}; a study needs name, task, model, …")
    if scale is not None:
        scales = data.get("scales") or {}
        if scale not in scales:
            raise UserError(f'{source}: scale "{scale}" unknown; {nearest(scale, scales) if scales else "it has none"}')
        if not isinstance(scales, dict) or not isinstance(scales[scale], dict):
            raise UserError(f"{source}: scales: expected a mapping for each scale, e.g. small: {{train.epochs: 1}}")
        for key, value in scales[scale].items():
            _put(data, str(key), value, source)
    for override in overrides:
        key, found, value = override.partition("=")
        if not found or not key:
            raise UserError(f'override "{override}": expected key=value, e.g. train.epochs=5')
        try:
            _put(data, key, yaml.safe_load(value), source)
        except yaml.YAMLError as error:
            problem = getattr(error, "problem", None) or "not text"
            raise UserError(f'override "{override}": the value is no YAML: {problem}') from None
    return validate(Study, data, "", source)


def _put(data: dict[str, Any], key: str, value: Any, source: str) -> None:
    *parents, last = key.split(".")
    # A key of grid and zip has dots itself: grid.model.width sets grid["model.width"].
    if parents and parents[0] in ("grid", "zip"):
        parents, last = parents[:1], key.partition(".")[2]
    here = data
    for part in parents:
        here = here.setdefault(part, {})
        if not isinstance(here, dict):
            raise UserError(f"{source}: {key}: {part} holds {here!r}, no mapping, so nothing can be set below it")
    here[last] = value


def put(data: dict[str, Any], key: str, value: Any, source: str) -> None:
    """Set a dotted key, making mappings on the way. Raises UserError below a value that is no mapping."""
    _put(data, key, value, source)
