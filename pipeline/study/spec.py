"""The study file: what may stand in it, and one clear line for what may not.

``read_study`` gives a :class:`Study`; :mod:`tangentscope.pipeline.study.runs` expands it into runs.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from tangentscope.pipeline.config.components import PARTS
from tangentscope.pipeline.config.features import FeaturePoints
from tangentscope.pipeline.config.kernel import Kernel, Seed
from tangentscope.pipeline.config.resources import Resources
from tangentscope.pipeline.config.schedule import Schedule
from tangentscope.pipeline.config.validation import Strict, validate
from tangentscope.pipeline.study.yaml_text import YamlError, load
from tangentscope.pipeline.system.errors import UserError, nearest
from tangentscope.probes import FEATURE_VARIABLES, VARIABLES


def _all_in(table: Mapping[str, object], names: tuple[str, ...], what: str) -> tuple[str, ...]:
    for name in names:
        if name not in table:
            raise ValueError(f'{what} "{name}" unknown; {nearest(name, table)}')
    return names


def _once(names: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(names)) < len(names):
        raise ValueError(f"each may stand once, got {', '.join(map(str, names))}")
    return names


class Probes(Strict):
    """When, on what and which variables; `keep` says which probed snapshots stay once they are measured."""

    schedule: Schedule = Schedule(kind="log", points=40)
    splits: tuple[Literal["train", "test"], ...] = Field(default=("train", "test"), min_length=1)
    kernel: Kernel = Kernel()
    parts: tuple[str, ...] = ()  # of the outputs, each with kernels of its own; by default kernels are of all
    variables: tuple[str, ...] = ("trace", "entropy", "effective_rank")  # of kernels; none only beside features
    features: FeaturePoints | None = None  # of the last hidden layer, measured on the same snapshots
    snapshots: Schedule | None = None  # more of them than are probed, for a later run that probes them
    keep: Literal["all", "ends", "none"] = "all"

    @field_validator("variables")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name in FEATURE_VARIABLES:
                raise ValueError(f"{name} is of features; give it as one of probes.features.variables")
        return _all_in(VARIABLES, names, "variable")

    @field_validator("splits", "variables", "parts")
    @classmethod
    def _distinct(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _once(names)

    @model_validator(mode="after")
    def _something(self) -> "Probes":
        if not self.variables and self.features is None:
            raise ValueError("variables: got none, expected at least one, or features beside them")
        return self


class Report(Strict):
    """Which figures, their horizontal axis, and which claims of the papers are to be decided."""

    figures: tuple[str, ...] = ("curves", "effective_rank")
    claims: tuple[str, ...] = ()
    x: Literal["epoch", "step", "episode"] = "epoch"
    log_x: bool = False

    @field_validator("figures")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        # Imported here: drawing takes a second to load, and a study that names no figures needs none of it.
        from tangentscope.pipeline.report.figures import FIGURES

        return _all_in(FIGURES, names, "figure")

    @field_validator("claims")
    @classmethod
    def _claims_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        from tangentscope.pipeline.report.claims import CLAIMS

        return _once(_all_in(CLAIMS, names, "claim"))


class Study(Strict):
    """A study as written: task, model, optimiser and train are still open to `grid`, `zip` and `seeds`.

    A part that `grid` or `zip` gives whole, or the name of, need not stand beside them. A study of more than `max_runs`
    is taken for a mistake.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    task: dict[str, Any]
    model: dict[str, Any]
    optimiser: dict[str, Any]
    train: dict[str, Any]
    grid: dict[str, list[Any]] = Field(default={})
    zip: dict[str, list[Any]] = Field(default={})
    seeds: Annotated[int, Field(ge=1)] | Annotated[tuple[Seed, ...], Field(min_length=1)] = 1
    max_runs: int = Field(default=20_000, ge=1)
    probes: Probes = Probes()
    resources: Resources = Resources()
    report: Report = Report()
    scales: dict[str, dict[str, Any]] = Field(default={})

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: int | tuple[int, ...]) -> int | tuple[int, ...]:
        return seeds if isinstance(seeds, int) else _once(seeds)

    @model_validator(mode="before")
    @classmethod
    def _given_by_the_grid(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        varied = {key for kind in ("grid", "zip") if isinstance(data.get(kind), dict) for key in map(str, data[kind])}
        whole = [part for part in PARTS if {part, f"{part}.name"} & varied]
        return {**{part: {} for part in whole}, **data}

    @property
    def runs(self) -> int:
        """How many runs the study makes, where no two are the same."""
        seeds = self.seeds if isinstance(self.seeds, int) else len(self.seeds)
        rows = len(next(iter(self.zip.values()))) if self.zip else 1
        return math.prod(map(len, self.grid.values())) * rows * seeds

    @property
    def seed_list(self) -> list[int]:
        """The seeds: 0 to n − 1 if a number was given."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else list(self.seeds)

    def text(self) -> str:
        """The study as YAML, with scale and overrides in place; `parse_study` makes the same study of it."""
        resolved = self.model_dump(mode="json", exclude_unset=True)
        return yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True)


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
        data = load(text)
    except YamlError as error:
        raise UserError(f"{source}: no YAML{error}") from None
    if not isinstance(data, dict):
        raise UserError(f"{source}: {'empty' if data is None else 'no mapping'}; a study needs name, task, model, …")
    if scale is not None:
        for key, value in _scale(data.get("scales") or {}, scale, source).items():
            _put(data, str(key), value, source)
    for override in overrides:
        key, found, value = override.partition("=")
        if not found or not key:
            raise UserError(f'override "{override}": expected key=value, e.g. train.epochs=5')
        try:
            _put(data, key, load(value), source)
        except YamlError as error:
            raise UserError(f'override "{override}": the value is no YAML{error}') from None
    study = validate(Study, data, "", source)
    if study.report.claims:
        from tangentscope.pipeline.study.claimed import check_claims  # loads what reports are made with

        check_claims(study, source)
    return study


def _scale(scales: Any, name: str, source: str) -> dict[str, Any]:
    """What a scale sets."""
    if not isinstance(scales, dict) or not all(isinstance(fields, dict) for fields in scales.values()):
        raise UserError(f"{source}: scales: expected a mapping for each scale, e.g. small: {{train.epochs: 1}}")
    if name not in scales:
        allowed = nearest(name, map(str, scales)) if scales else "it has none"
        raise UserError(f'{source}: scale "{name}" unknown; {allowed}')
    return scales[name]


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
