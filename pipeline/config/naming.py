"""What varied fields and their values are called in run names, columns, legends and tags: short, and told apart."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any


def short(field: str, among: Iterable[str]) -> str:
    """A varied field by its last part where that is unique: ``width`` for ``model.width``, ``task`` for ``task.name``.

    Args:
        field: With its dots.
        among: All fields that are varied.
    """
    tails = Counter(_tail(other) for other in among)
    return _tail(field) if tails[_tail(field)] == 1 else field


def _tail(field: str) -> str:
    return field.removesuffix(".name").rpartition(".")[2]


def labels(values: Sequence[Any]) -> list[Any]:
    """What stands for each value of a varied field: a mapping by its name and its fields, anything else by itself.

    Of several mappings of one name those fields are told in which they differ: ``{name: mlp, width: 32}`` beside
    ``{name: mlp, width: 8}`` is ``mlp-32``. Different values never have the same label.
    """
    mappings = [value for value in values if isinstance(value, Mapping)]
    fields = list(dict.fromkeys(field for value in mappings for field in value if field != "name"))

    ways: list[Callable[[Mapping[str, Any]], str]] = [
        lambda value: _label(value, _differing(value, fields, mappings), named=False),
        lambda value: _label(value, fields, named=True),
    ]
    for way in ways:
        found = [way(value) if isinstance(value, Mapping) else value for value in values]
        if len(set(map(_key, found))) == len(set(map(_key, values))):
            return found
    return [_key(value) if isinstance(value, Mapping) else value for value in values]


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """A config's fields by their dotted names, each with its value."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _differing(value: Mapping[str, Any], fields: Sequence[str], among: Sequence[Mapping[str, Any]]) -> list[str]:
    """The fields by which a mapping is told from the others of its name. One without others tells a single field."""
    others = [other for other in among if other.get("name") == value.get("name") and other != value]
    if "name" in value and not others:
        own = [field for field in fields if field in value]
        return own if len(own) == 1 else []
    return [f for f in fields if not others or any(_key(other.get(f)) != _key(value.get(f)) for other in others)]


def _label(value: Mapping[str, Any], fields: Iterable[str], named: bool) -> str:
    """A mapping's name, then the values of its fields, each after the field's own name where it says nothing alone."""
    parts = [str(value["name"])] if "name" in value else []
    for field in fields:
        if field in value:
            plain = type(value[field]) in (int, float, str)
            parts.append(_text(value[field]) if plain and parts and not named else f"{field}={_text(value[field])}")
    return "-".join(parts) or "default"


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return _label(value, [field for field in value if field != "name"], named=True)
    return f"[{','.join(map(_text, value))}]" if isinstance(value, list | tuple) else str(value)


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
