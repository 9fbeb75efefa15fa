"""YAML as it stands in study files and overrides: plain values, and one line for what is none or too much."""

import math
from typing import Any

import yaml

MOST_CHARACTERS = 2_000_000
MOST_VALUES = 200_000  # with every alias written out: a few lines of them can stand for billions
MOST_LEVELS = 50
_LARGEST = 2**63 - 1  # what tables and storage have place for


class YamlError(ValueError):
    """Text that is no YAML, or more than a study is. What it says goes on from ``no YAML``."""


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping, of which YAML would silently keep the last, and huge integers."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f'"{key.value}" stands twice', key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) < 100 and abs(value := super().construct_yaml_int(node)) <= _LARGEST:
            return value
        raise yaml.constructor.ConstructorError(None, None, "an integer beyond 2**63 - 1; give less", node.start_mark)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def load(text: str) -> Any:
    """The value of a YAML text, no two parts of it the same object.

    Raises:
        YamlError: Broken, too long or too deep, or with an anchor within itself.
    """
    if len(text) > MOST_CHARACTERS:
        raise YamlError(f": got {len(text):,} characters, expected {MOST_CHARACTERS:,} at most")
    try:
        return _value(_Loader(text))
    except RecursionError:
        raise YamlError(f": nested too deeply, expected {MOST_LEVELS} levels at most") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        raise YamlError(f"{line}: {getattr(error, 'problem', None) or 'not text'}") from None
    except YamlError:
        raise
    except (ValueError, OverflowError) as error:  # such as a date in a 13th month
        raise YamlError(f": {error}") from None


def _value(loader: _Loader) -> Any:
    node = loader.get_single_node()
    if node is None:
        return None
    if (values := _values(node, {}, ())) > MOST_VALUES:
        shown = f"{values:,}" if values < 10**12 else f"about 10^{round(math.log10(values))}"
        raise YamlError(f": got {shown} values once all aliases are written out, expected {MOST_VALUES:,} at most")
    return _apart(loader.construct_document(node))


def _values(node: yaml.Node, counted: dict[int, int], above: tuple[int, ...]) -> int:
    """How many values a node makes with every alias in it written out."""
    if id(node) in above:
        line = node.start_mark.line + 1 if node.start_mark else "?"
        raise YamlError(f" at line {line}: an anchor is used within itself")
    if len(above) >= MOST_LEVELS:
        raise RecursionError
    if id(node) not in counted:
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        inner = (part for each in parts for part in (each if isinstance(each, tuple) else (each,)))
        counted[id(node)] = 1 + sum(_values(part, counted, (*above, id(node))) for part in inner)
    return counted[id(node)]


def _apart(value: Any) -> Any:
    """A copy in which what an alias stands for is a value of its own: to set one changes no other."""
    if isinstance(value, dict):
        return {key: _apart(item) for key, item in value.items()}
    return [_apart(item) for item in value] if isinstance(value, list) else value
