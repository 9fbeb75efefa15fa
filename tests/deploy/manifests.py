"""What stands in deploy/, taken apart: YAML documents, pods, images, compose services, commands of the README."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
Document = dict[str, Any]


class _Strict(yaml.SafeLoader):
    """Refuses a key that stands twice: PyYAML would silently take the latter."""


def _once(loader: _Strict, node: yaml.MappingNode) -> dict:
    keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
    if twice := {key for key in keys if keys.count(key) > 1}:
        raise ValueError(f"line {node.start_mark.line + 1}: {', '.join(twice)} stands twice")
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Strict.add_constructor("tag:yaml.org,2002:map", _once)


def documents(path: Path) -> list[Document]:
    return [document for document in yaml.load_all(path.read_text(), _Strict) if document]


def launcher(root: Path) -> Document:
    (config,) = documents(root / "deploy/ray-cluster.yaml")
    return config


def compose(root: Path) -> Document:
    (config,) = documents(root / "deploy/mlflow/compose.yaml")
    return config


def objects(root: Path) -> Iterator[tuple[str, Document]]:
    """Every Kubernetes object, by a name for messages."""
    for folder in ("deploy/kubernetes", "deploy/mlflow/kubernetes"):
        for path in sorted((root / folder).glob("*.yaml")):
            for document in documents(path):
                yield f"{path.name}: {document.get('kind')} {document.get('metadata', {}).get('name')}", document


def named(root: Path, kind: str, name: str) -> Document:
    (found,) = [each for _, each in objects(root) if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


def pods(root: Path) -> Iterator[tuple[str, Document]]:
    """Every pod template, also those inside KubeRay's objects."""
    for name, document in objects(root):
        for place, template in _templates(document.get("spec", {})):
            yield f"{name}{place}", template


def _templates(node: Any, place: str = "") -> Iterator[tuple[str, Document]]:
    if isinstance(node, dict):
        for key, value in node.items():
            if isinstance(value, dict) and "containers" in value.get("spec", {}):
                yield f"{place}/{key}", value
            else:
                yield from _templates(value, f"{place}/{key}")
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from _templates(value, f"{place}/{number}")


def containers(template: Document) -> list[Document]:
    return [*template["spec"]["containers"], *template["spec"].get("initContainers", [])]


def ray_groups(root: Path) -> Iterator[tuple[str, Document]]:
    """Every group of Ray pods of every cluster, by name; the head's is called head."""
    for name, document in objects(root):
        if document["kind"] in ("RayCluster", "RayJob"):
            spec = document["spec"].get("rayClusterSpec", document["spec"])
            yield f"{name}, head", spec["headGroupSpec"]
            for group in spec["workerGroupSpecs"]:
                yield f"{name}, {group['groupName']}", group


@dataclass(frozen=True)
class Stage:
    """One stage of a Containerfile; `copies` are the sources taken from the build context."""

    name: str
    image: str
    user: str | None
    command: tuple[str, ...]
    copies: tuple[str, ...]


def stages(path: Path) -> list[Stage]:
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    instructions = re.sub(r"\\\n", " ", "\n".join(lines)).splitlines()
    found: list[Stage] = []
    arguments: dict[str, str] = {}
    for keyword, _, rest in (line.partition(" ") for line in instructions if line.strip()):
        if keyword == "FROM":
            image, *alias = rest.split()
            found.append(Stage(alias[-1] if alias else "", image, None, (), ()))
        elif keyword == "ARG":
            key, _, value = rest.partition("=")
            arguments[key] = value
        elif keyword == "USER":
            user = re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], rest.strip())
            found[-1] = Stage(**{**vars(found[-1]), "user": user})
        elif keyword == "CMD":
            found[-1] = Stage(**{**vars(found[-1]), "command": tuple(json.loads(rest))})
        elif keyword == "COPY" and "--from=" not in rest:
            found[-1] = Stage(**{**vars(found[-1]), "copies": (*found[-1].copies, *rest.split()[:-1])})
    return found


def containerfiles(root: Path) -> list[Path]:
    return [root / "deploy/Containerfile", root / "deploy/mlflow/Containerfile"]


def images(root: Path) -> Iterator[tuple[str, str]]:
    """Every image that is named anywhere, and where."""
    for path in containerfiles(root):
        known = {stage.name for stage in stages(path)}
        yield from ((str(path), stage.image) for stage in stages(path) if stage.image not in known)
    yield "ray-cluster.yaml", launcher(root)["docker"]["image"]
    yield from ((f"compose.yaml: {name}", service["image"]) for name, service in compose(root)["services"].items())
    yield from ((name, each["image"]) for name, template in pods(root) for each in containers(template))


def blocks(root: Path) -> list[str]:
    """The README's shell code."""
    return re.findall(r"```bash\n(.*?)```", (root / "deploy/README.md").read_text(), flags=re.DOTALL)


def simple_commands(text: str) -> Iterator[list[str]]:
    """The simple commands of shell text, split at &&, |, ; and the like, without leading assignments."""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="();|&")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if not set(word) <= set("();|&"):
                words.append(word)
                continue
            while words and re.match(r"\w+=", words[0]):
                words.pop(0)
            if words:
                yield words
            words = []


def readme_commands(root: Path) -> Iterator[list[str]]:
    """Every command of the README's code, those that run inside other commands, and ours in its prose."""
    for text in blocks(root):
        for words in simple_commands(text):
            yield words
            if words[:2] == ["ray", "exec"]:
                yield from simple_commands(words[-1])
            elif words[:2] == ["podman", "run"] and "tangentscope" in words:
                yield words[words.index("tangentscope") :]
            elif words[:2] == ["kubectl", "exec"] and "--" in words:
                yield words[words.index("--") + 1 :]
    yield from our_words_in(re.sub(r"```.*?```", "", (root / "deploy/README.md").read_text(), flags=re.DOTALL))


def our_words_in(prose: str) -> Iterator[list[str]]:
    """Our commands between backticks, where they have an argument: `tangentscope stop` alone is a name."""
    for text in re.findall(r"`([^`]+)`", prose):
        if len(text.split()) > 2 and text.startswith("tangentscope "):
            yield shlex.split(text)
