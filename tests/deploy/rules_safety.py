"""Does deploy/ give away rights, ports or secrets? Each rule gives what it finds; nothing is good."""

import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from manifests import compose, containerfiles, containers, images, launcher, objects, pods, ray_groups, stages

_SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|FLASK.*KEY|PRIVATE_KEY", re.IGNORECASE)
# A key or token as programs make them. Versions, addresses and words of a language look otherwise.
_RANDOM = re.compile(r"\b(?=[A-Za-z0-9+/_-]*\d)(?=[A-Za-z0-9+/_-]*[a-zA-Z])[A-Za-z0-9+_]{24,}={0,2}")


def nothing_runs_as_root(root: Path) -> set[str]:
    """Neither as root nor with what leads to it: privileges, capabilities, the host's namespaces and files."""
    found = set()
    for name, template in pods(root):
        spec = template["spec"]
        found |= {f"{name}: {key}" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)}
        found |= {f"{name}: hostPath" for volume in spec.get("volumes", []) if "hostPath" in volume}
        if spec.get("automountServiceAccountToken") is not False:
            found.add(f"{name}: has the API's token")
        for each in containers(template):
            found |= {f"{name}, {each['name']}: {trouble}" for trouble in _rights(spec, each)}
    for name, service in compose(root)["services"].items():
        plain = re.match(r"[1-9]\d*:[1-9]\d*$", str(service.get("user"))) and not service.get("privileged")
        if not plain or service.get("cap_drop") != ["ALL"] or service.get("network_mode") == "host":
            found.add(f"compose.yaml: {name}")
    for path in containerfiles(root):
        shipped = [stage for stage in stages(path) if stage.command]
        if stages(path)[-1] not in shipped:
            found.add(f"{path.parent.name}/{path.name}: no CMD in its last stage")
        found |= {f"{path}: {stage.name or 'last'}" for stage in shipped if not re.match(r"[1-9]", stage.user or "")}
    options = launcher(root)["docker"]["run_options"]
    if "--cap-drop=ALL" not in options or any(re.match(r"--privileged|--cap-add|--user=?(0|root)", o) for o in options):
        found.add("ray-cluster.yaml: run_options")
    return found


def _rights(spec: dict[str, Any], container: dict[str, Any]) -> Iterator[str]:
    security = {**spec.get("securityContext", {}), **container.get("securityContext", {})}
    if security.get("runAsNonRoot") is not True or not security.get("runAsUser"):
        yield "may be root"
    if security.get("allowPrivilegeEscalation") is not False or security.get("privileged"):
        yield "may gain privileges"
    if security.get("capabilities", {}).get("drop") != ["ALL"] or security["capabilities"].get("add"):
        yield "keeps capabilities"
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "has no seccomp profile"
    resources = container.get("resources", {})
    if any(not {"cpu", "memory"} <= resources.get(kind, {}).keys() for kind in ("requests", "limits")):
        yield "has no requests or limits"


def no_port_is_open(root: Path) -> set[str]:
    """Published on 127.0.0.1 only; inside a cluster by ClusterIP only."""
    found = set()
    for name, service in compose(root)["services"].items():
        found |= {f"compose.yaml: {name} {port}" for port in service.get("ports", []) if not _local(port)}
    for name, document in objects(root):
        spec = document.get("spec", {})
        if document["kind"] == "Service" and (spec.get("type") != "ClusterIP" or "externalIPs" in spec):
            found.add(name)
        if document["kind"] in ("Ingress", "HTTPRoute"):
            found.add(name)
    for name, group in ray_groups(root):
        if group.get("serviceType", "ClusterIP") != "ClusterIP" or group.get("enableIngress"):
            found.add(name)
    for name, template in pods(root):
        ports = [port for each in containers(template) for port in each.get("ports", [])]
        found |= {f"{name}: {port}" for port in ports if "hostPort" in port or "hostIP" in port}
    for option in launcher(root)["docker"]["run_options"]:
        if re.match(r"-p\b|--publish|-P\b", option):
            found.add(f"ray-cluster.yaml: {option}")
    for file in ("ray-cluster.yaml", "slurm/study.sbatch", "README.md"):
        text = (root / "deploy" / file).read_text()
        hosts = re.findall(r"--(?:dashboard-)?host[= ](\S+)", text)
        starts = len(re.findall(r"ray start |ray symmetric-run (?=--)|mlflow ui ", text))
        if starts != len(hosts) or any(host != "127.0.0.1" for host in hosts):
            found.add(f"{file}: {starts} servers, listening on {hosts}")
    return found


def _local(port: object) -> bool:
    host = str(port).rpartition(":")[0].rpartition(":")[0]
    return bool(host) and ipaddress.ip_address(host.strip("[]")).is_loopback


def no_secret_is_written(root: Path) -> set[str]:
    """No Secret with its data, no value where a secret belongs, nothing that looks like a key."""
    found = {name for name, document in objects(root) if document["kind"] == "Secret"}
    for name, template in pods(root):
        variables = [one for each in containers(template) for one in each.get("env", [])]
        found |= {f"{name}: {one['name']}" for one in variables if _SECRET.search(one["name"]) and "value" in one}
    for name, service in compose(root)["services"].items():
        for key, value in service.get("environment", {}).items():
            if _SECRET.search(key) and not re.fullmatch(r"\$\{\w+:\?[^}]*\}", str(value)):
                found.add(f"compose.yaml: {name} {key}")
    for path in sorted(each for each in (root / "deploy").rglob("*") if each.is_file()):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if trouble := _secret_in(line, path.suffix == ".yaml"):
                found.add(f"{path.relative_to(root)}:{number}: {trouble}")
    return found


def _secret_in(line: str, yaml: bool) -> str | None:
    if _RANDOM.search(line):
        return "looks like a key"
    if re.search(r"://[^\s/@:]*:[^\s/@$]+@", line):
        return "a password in an address"
    # In YAML a colon stands after names of Secrets too; variables and their values are looked at above.
    sign = "=" if yaml else "[=:]"
    for key, value in re.findall(rf"""(?=\b([A-Za-z_-]+)["']?\s*{sign}\s*["']?([^\s`"',}}]+))""", line):
        # What makes a secret, or leaves a place for it, is none.
        if _SECRET.search(key) and not value.startswith(("$", "<(", "%s")):
            return key
    return None


def images_are_pinned(root: Path) -> set[str]:
    """By a version of at least two numbers; and every package of an image by its exact one."""
    found = {f"{where}: {image}" for where, image in images(root) if not re.search(r":v?\d+\.\d+[\w.-]*$", image)}
    for path in (root / "deploy/requirements.txt", root / "deploy/mlflow/requirements.txt"):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        found |= {f"{path}: {line}" for line in lines if not re.fullmatch(r"[\w.-]+==[\w.!+]+", line)}
    return found
