"""What figures depend on besides the code."""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from kernel_peers.environments import Environment
from kernel_peers.processes import Settings, module


def describe_machine(out: Path, settings: Settings, fresh: bool) -> dict[str, Any]:
    """What the figures depend on, with the rate of matrix products."""
    threads, device = settings.threads, settings.device
    found = {"cpu": cpu(), "cpus": psutil.cpu_count(), "memory": psutil.virtual_memory().total, "threads": threads}
    found |= {"torch": version("torch"), "python": platform.python_version()}
    found["gpu"] = gpu() if device == "cuda" else None
    path = out / "machine.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    if fresh or any(known.get(key) != value for key, value in found.items()):
        printed = module("matrix_rate", str(threads), device, threads=threads, environment=Environment(), limit=600)
        known = {**found, "multiply_adds_per_second": float(printed)}
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(known, indent=1))
    return known


def cpu() -> str:
    """The processor's name, as Linux gives it."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


def gpu() -> str | None:
    """The name of the GPU that torch takes first, if there is one."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
