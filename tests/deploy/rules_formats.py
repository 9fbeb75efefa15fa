"""Is every file of deploy/ what its reader takes? Each rule gives what it finds wrong below a root; nothing is good."""

import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from kuberay_schema import SCHEMAS
from manifests import compose, containerfiles, documents, launcher, objects, pods

_KUBERNETES = "1.37"


def yaml_files(root: Path) -> set[str]:
    """Each can be read, with no key twice in a mapping."""
    found = set()
    for path in sorted((root / "deploy").rglob("*.yaml")):
        try:
            documents(path)
        except (yaml.YAMLError, ValueError) as error:
            found.add(f"{path.name}: {error}")
    return found


def kubernetes_objects(root: Path) -> set[str]:
    """Against Kubernetes' own schemas, which know no field that is not theirs."""
    plain = [(name, each) for name, each in objects(root) if each["kind"] not in SCHEMAS]
    found = {f"{name}: {trouble}" for name, each in plain for trouble in _not(each)}
    for name, template in pods(root):
        metadata = {"name": "pod", **template.get("metadata", {})}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        found |= {f"{name}: {trouble}" for trouble in _not(pod)}
    return found


def _not(document: dict) -> list[str]:
    try:
        kubernetes_validate.validate(document, _KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message[:200]}"]
    except kubernetes_validate.SchemaNotFoundError:
        return [f"no kind {document['kind']} in {document['apiVersion']}"]
    return []


def kuberay_objects(root: Path) -> set[str]:
    """Against the fields of KubeRay that these files use."""
    found = set()
    for name, document in objects(root):
        if document["apiVersion"].startswith("ray.io/") or document["kind"] in SCHEMAS:
            errors = jsonschema.Draft202012Validator(SCHEMAS[document["kind"]]).iter_errors(document)
            found |= {f"{name}: {error.json_path}: {error.message[:200]}" for error in errors}
    return found


def compose_file(root: Path) -> set[str]:
    """Against the compose specification; every variable must be set, every name a service refers to must be there."""
    config = compose(root)
    validator = jsonschema.Draft202012Validator(get_builtin_schema("vendor.compose-spec"))
    found = {f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(config)}
    text = (root / "deploy/mlflow/compose.yaml").read_text()
    found |= {f"{variable} may be unset" for variable in re.findall(r"\$\{[^}]*\}", text) if ":?" not in variable}
    found |= {f"{variable}: without braces" for variable in re.findall(r"\$\w+", text)}
    for name, service in config["services"].items():
        found |= {f"{name} waits for {other}" for other in {*service.get("depends_on", {})} - {*config["services"]}}
        found |= {f"{name} joins {net}" for net in {*service.get("networks", [])} - {*config["networks"]}}
        volumes = {volume.partition(":")[0] for volume in service.get("volumes", [])}
        found |= {f"{name} mounts {volume}" for volume in volumes - {*config["volumes"]}}
    return found


def launcher_file(root: Path) -> set[str]:
    """As `ray up` reads it before it connects to anything."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    try:
        validate_config(prepare_config(launcher(root)))
    except Exception as error:  # Ray raises half a dozen kinds here, SystemExit's cousin of click among them
        return {f"{type(error).__name__}: {str(error)[:300]}"}
    return set()


def shell_scripts(root: Path) -> set[str]:
    """Bash can parse them and shellcheck has no objection."""
    scripts = sorted((root / "deploy").rglob("*.sbatch")) + sorted((root / "deploy").rglob("*.sh"))
    assert scripts
    return {said for command in (["bash", "-n"], [_tool("shellcheck")]) for said in _said(command, scripts)}


def images_are_built_well(root: Path) -> set[str]:
    """What hadolint says of the container files."""
    return _said([_tool("hadolint")], containerfiles(root))


def _tool(name: str) -> str:
    """A program that its wheel has put beside this Python, also when that is not on PATH."""
    return str(Path(sys.executable).parent / name)


def _said(command: list[str], files: list[Path]) -> set[str]:
    done = [subprocess.run([*command, str(file)], capture_output=True, text=True, timeout=60) for file in files]
    return {each.stdout + each.stderr for each in done if each.returncode}
