"""Do the files of deploy/ agree with each other and the project? Each rule gives what it finds; nothing is good."""

import fnmatch
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from manifests import Document, blocks, compose, containerfiles, containers, named, objects, pods, ray_groups, stages
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rules_commands import study_of

from tangentscope.pipeline.cli import app


def versions(root: Path) -> set[str]:
    """What the images pin is what pyproject.toml allows, and Ray and MLflow have one version everywhere."""
    lock = _lock(root / "deploy/requirements.txt")
    project = tomllib.loads((root / "pyproject.toml").read_text())
    stated = [Requirement(line) for line in [*project["project"]["dependencies"], *project["build-system"]["requires"]]]
    found = {f"{each}: {lock.get(canonicalize_name(each.name))}" for each in stated if not _within(each, lock)}
    ray, mlflow = lock["ray"], _lock(root / "deploy/mlflow/requirements.txt")["mlflow"]
    found |= {f"{name}: Ray {v}" for name, v in _ray_versions(root) if v != ray}
    if mlflow != lock["mlflow"]:
        found.add(f"MLflow's server {mlflow}, its clients {lock['mlflow']}")
    for where, image in _own_images(root):
        wanted = {"tangentscope": project["project"]["version"], "tangentscope-mlflow": mlflow}
        name, _, tag = image.rpartition("/")[2].partition(":")
        if tag != wanted[name]:
            found.add(f"{where}: {image}")
    return found


def _lock(path: Path) -> dict[str, str]:
    lines = (line for line in path.read_text().splitlines() if not line.startswith("#"))
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def _within(requirement: Requirement, lock: dict[str, str]) -> bool:
    version = lock.get(canonicalize_name(requirement.name))
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _ray_versions(root: Path) -> Iterator[tuple[str, str]]:
    for name, document in objects(root):
        if document["kind"] in ("RayCluster", "RayJob"):
            yield name, document["spec"].get("rayClusterSpec", document["spec"])["rayVersion"]
    for file in ("README.md", "requirements.txt"):
        yield from ((file, v) for v in re.findall(r"ray\[default\]==([\d.]+)", (root / "deploy" / file).read_text()))


def _own_images(root: Path) -> Iterator[tuple[str, str]]:
    texts = [(str(path), path.read_text()) for path in sorted((root / "deploy").rglob("*")) if path.is_file()]
    for where, text in texts:
        yield from ((where, image) for image in re.findall(r"(?:[\w.]+/)?tangentscope(?:-mlflow)?:[\d.]*\d", text))


def copied_files(root: Path) -> set[str]:
    """Container files copy what is there, what they do not ignore, and all of our packages; links lead somewhere."""
    ours, servers = containerfiles(root)
    found = set()
    for path, context in ((ours, root), (servers, servers.parent)):
        beside = path.with_name(f"{path.name}.dockerignore")
        ignore = (beside if beside.exists() else path.with_name(".dockerignore")).read_text().splitlines()
        copies = {source for stage in stages(path) for source in stage.copies}
        found |= {f"{path}: {source} is not there" for source in copies if not (context / source).exists()}
        found |= {f"{path}: {source} is ignored" for source in copies if f"!{source}" not in ignore}
        found |= {f"{path}: {line} is not used" for line in ignore if line.startswith("!") and line[1:] not in copies}
    packages = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    copies = {source for stage in stages(ours) for source in stage.copies}
    found |= {f"{package} is not copied" for package in packages if package.rstrip("*") not in copies}
    text = (root / "deploy/README.md").read_text()
    named_files = re.findall(r"\]\((?!http|#)([^)]+)\)", text)
    named_files += [f"../{each}" for each in re.findall(r"deploy/[\w./*-]+[\w*]", text)]
    found |= {f"README.md: {each}" for each in named_files if not list((root / "deploy").glob(each))}
    anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in re.findall(r"^#+ (.*)", text, re.M)}
    return found | {f"README.md: #{each}" for each in re.findall(r"\]\(#([^)]+)\)", text) if each not in anchors}


def one_cluster(root: Path) -> set[str]:
    """A RayJob's cluster is the RayCluster's."""
    job, cluster = named(root, "RayJob", "tangentscope")["spec"], named(root, "RayCluster", "tangentscope")["spec"]
    return set() if job["rayClusterSpec"] == cluster else {"rayjob.yaml and raycluster.yaml differ"}


def room_for_the_study(root: Path) -> set[str]:
    """The RayJob's study fits its cluster: trainers on the group train alone, probers on the group probe alone."""
    spec = named(root, "RayJob", "tangentscope")["spec"]
    _, bound, *_ = app.parse_args(shlex.split(spec["entrypoint"])[1:], exit_on_error=False, print_error=False)
    study = study_of(bound.arguments).resources
    cluster = spec["rayClusterSpec"]
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    found = set()
    counts = {"train": study.train.groups * study.train.workers, "probe": study.probe.actors}
    for what, pool in (("train", study.train), ("probe", study.probe)):
        may = {name for name, group in groups.items() if pool.labels.items() <= group["labels"].items()}
        if may != {what} or not pool.labels:
            found.add(f"{what} may run on {', '.join(sorted(may)) or 'no group'}")
        each = min(int(r // s) for r, s in zip(_room(groups[what]), (pool.cpu, pool.gpu), strict=True) if s)
        if each * groups[what]["replicas"] < counts[what]:
            found.add(f"{what}: {counts[what]} asked for")
    for name, group in ray_groups(root):
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        if _room(group)[0] > float(limits["cpu"]) or _room(group)[1] > float(limits.get("nvidia.com/gpu", 0)):
            found.add(f"{name}: Ray may use more than Kubernetes gives")
    mounts = {mount["mountPath"] for mount in groups["probe"]["template"]["spec"]["containers"][0]["volumeMounts"]}
    out = bound.arguments["out"]
    if not any(out.startswith(f"{mount}/") for mount in mounts):
        found.add(f"{out} is not on a volume")
    return found


def _room(group: Document) -> tuple[float, float]:
    return float(group["rayStartParams"]["num-cpus"]), float(group["rayStartParams"].get("num-gpus", 0))


def addresses(root: Path) -> set[str]:
    """What pods connect to is a Service's port, and MLflow answers under the names that it is called by."""
    services = [document for _, document in objects(root) if document["kind"] == "Service"]
    ports = {each["metadata"]["name"]: {port["port"] for port in each["spec"]["ports"]} for each in services}
    variables = [(name, one) for name, one in _environment(root) if "value" in one]
    found = set()
    for name, one in variables:
        address = urlsplit(f"//{one['value']}:5432" if one["name"] == "PGHOST" else one["value"])
        if address.hostname and address.port not in ports.get(address.hostname, ()):
            found.add(f"{name}: {one['value']}")
    hosts = [one["value"] for _, one in variables if one["name"] == "MLFLOW_SERVER_ALLOWED_HOSTS"]
    uris = {one["value"] for _, one in variables if one["name"] == "MLFLOW_TRACKING_URI"}
    asked = [(urlsplit(uri).netloc, host) for uri in [*uris, "http://127.0.0.1:5000"] for host in hosts]
    server = compose(root)["services"]["mlflow"]
    published = server["ports"][0].rpartition(":")[0]
    asked += [(published, server["environment"]["MLFLOW_SERVER_ALLOWED_HOSTS"])]
    for host, allowed in asked:
        if not any(fnmatch.fnmatch(host, pattern) for pattern in allowed.split(",")):
            found.add(f"{host} is not among {allowed}")
    return found


def secrets(root: Path) -> set[str]:
    """Secrets that are read are those, with the keys, that the README makes; and so is what compose asks for."""
    made = {name: set(keys) for name, keys in _secrets_made(root)}
    found = set()
    for name, one in _environment(root):
        reference = one.get("valueFrom", {}).get("secretKeyRef")
        if reference and reference["key"] not in made.get(reference["name"], ()):
            found.add(f"{name}: {reference}")
    for name, document in objects(root):
        spec = document.get("spec", {})
        options = spec.get("rayClusterSpec", spec).get("authOptions")
        if options and (options["mode"] != "token" or "auth_token" not in made.get(options["secretName"], ())):
            found.add(f"{name}: {options}")
    (listed,) = re.findall(r"for name in ([A-Z0-9_ ]+);", "\n".join(blocks(root)))
    asked = set(re.findall(r"\$\{(\w+)", (root / "deploy/mlflow/compose.yaml").read_text()))
    return found | {f"compose.yaml: {each}" for each in asked ^ set(listed.split())}


def _environment(root: Path) -> Iterator[tuple[str, Document]]:
    for name, template in pods(root):
        yield from ((name, one) for each in containers(template) for one in each.get("env", []))


def _secrets_made(root: Path) -> Iterator[tuple[str, list[str]]]:
    text = re.sub(r"\\\n", " ", "\n".join(blocks(root)))
    for line in re.findall(r"kubectl create secret generic .*", text):
        yield line.split()[4], re.findall(r"--from-(?:literal|file)=([\w-]+)=", line)
