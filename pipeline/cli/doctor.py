"""Is this machine fit: what is installed, where our code lies, which data are there."""

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

from tangentscope.pipeline.cli import data
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.system import provenance
from tangentscope.pipeline.system.errors import UserError, one_line
from tangentscope.pipeline.system.installation import ROOT, Check
from tangentscope.pipeline.tracking.uri import check_server, default_uri

_LEAST_DISK = 2 * 10**9
_SHARED_MEMORY = Path("/dev/shm")
_LEAST_SHARED = 256 * 2**20  # what our own object store takes


def checks(data_dir: Path | None, out: str | None = None, address: str | None = None) -> Iterator[Check]:
    """Look at this machine, cheapest first; with `out` also at that storage, with `address` at every node there.

    Starts nothing, and leaves nothing written.
    """
    yield Check("python", sys.version_info >= (3, 11), f"{sys.version.split()[0]} at {sys.executable}")
    yield Check("code", True, str(ROOT))
    yield from _requirements()
    machine = provenance.machine()
    gpus = ", ".join(machine["gpus"]) or "no GPU"
    memory = machine["memory_bytes"] / 1e9
    yield Check("machine", True, f"{machine['cores']} cores, {memory:.0f} GB, {gpus}")
    free = shutil.disk_usage(Path.cwd()).free
    yield Check("disk", free > _LEAST_DISK, f"{free / 1e9:.1f} GB free below {Path.cwd()}")
    yield from _shared_memory()
    yield Check("ray auth", os.environ.get("RAY_AUTH_MODE", "token") == "token", _auth())
    yield from _data(data_dir)
    if out is not None:
        yield from _storage(Storage.at(out))
    if address is not None:
        from tangentscope.pipeline.cluster import nodes  # loads Ray

        yield from nodes.checks(address)


def _requirements() -> Iterator[Check]:
    """Every requirement of this package against what is installed."""
    try:
        stated = [Requirement(line) for line in importlib.metadata.requires("tangentscope") or []]
    except importlib.metadata.PackageNotFoundError:
        yield Check("tangentscope", False, "not installed; pip install -e .")
        return
    wanted = [each for each in stated if each.marker is None or each.marker.evaluate({"extra": ""})]
    bad = []
    for requirement in wanted:
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            bad.append(f"{requirement.name} is absent")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            bad.append(f"{requirement.name} {version} is outside {requirement.specifier}")
    yield Check("packages", not bad, "; ".join(bad) + "; pip install -e ." if bad else f"{len(wanted)} as required")


def _auth() -> str:
    mode = os.environ.get("RAY_AUTH_MODE")
    return f"RAY_AUTH_MODE={mode}" if mode else "token (RAY_AUTH_MODE is unset, tangentscope sets it)"


def _shared_memory() -> Iterator[Check]:
    """Ray's object store lies there; containers often have 64 MB."""
    if _SHARED_MEMORY.is_dir():
        free = shutil.disk_usage(_SHARED_MEMORY).free
        mend = "" if (good := free > _LEAST_SHARED) else "; start the container with --shm-size=1g or more"
        yield Check("shared memory", good, f"{free / 1e9:.2f} GB free in {_SHARED_MEMORY}{mend}")


def _storage(storage: Storage) -> Iterator[Check]:
    """Can files be published there, and does the tracking that goes with it answer?"""
    try:
        storage.check_writable()
        yield Check("output", True, f"{storage.uri} can be written")
    except (UserError, OSError) as error:
        yield Check("output", False, one_line(error))
        return
    uri = default_uri(storage)
    try:
        check_server(uri)
        yield Check("mlflow", True, f"{uri} answers" if uri.startswith("http") else f"{uri} can be written")
    except UserError as error:
        yield Check("mlflow", False, str(error))


def _data(data_dir: Path | None) -> Iterator[Check]:
    try:
        for found in data.look([], data_dir):
            absent = found.state == "absent"
            told = f"absent (optional): {found.told}" if absent else found.told
            yield Check(f"data of {found.task}", found.state != "WRONG", told, absent)
    except UserError as error:
        yield Check("data", False, str(error))
