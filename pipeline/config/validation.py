"""Plain values as a config, or one line that says where they do not hold, what was got and what is allowed there."""

import re
import types
import typing
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from tangentscope.pipeline.system.errors import UserError, nearest

Config = TypeVar("Config", bound=BaseModel)


class Strict(BaseModel):
    """A part of a study: fixed once it is made, without keys that nobody knows, and finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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
