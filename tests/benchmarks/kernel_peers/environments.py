"""Where a peer runs: this interpreter, this one with a folder more, or an environment made for the peer once."""

import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

NNGEOMETRY = "nngeometry==0.4"
# The last jax that neural-tangents 0.6.5 agrees with, and what belongs to it.
NEURAL_TANGENTS = ("neural-tangents==0.6.5", "jax==0.4.23", "jaxlib==0.4.23", "flax==0.8.0", "numpy==1.26.4")


class UnavailableError(Exception):
    """The peer cannot be installed here."""


@dataclass(frozen=True)
class Environment:
    """An interpreter, and folders that go before its own packages."""

    python: str = sys.executable
    folders: tuple[Path, ...] = field(default=())


def default_folder() -> Path:
    """Environments outlive an output folder: they take minutes to make."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tangentscope" / "peers"


def environment(peer: str, folder: Path) -> Environment:
    """The peer's environment, made below ``folder`` if need be. Raises UnavailableError with pip's last words."""
    if peer == "nngeometry" and importlib.util.find_spec("nngeometry") is None:
        target = folder / NNGEOMETRY
        pip(sys.executable, target, "--no-deps", "--target", str(target), NNGEOMETRY)  # on this interpreter's torch
        return Environment(folders=(target,))
    if peer == "neural-tangents":
        target = folder / NEURAL_TANGENTS[0]
        python = str(target / "bin" / "python")
        if not Path(python).exists():
            command([sys.executable, "-m", "venv", str(target)])
        pip(python, target, *NEURAL_TANGENTS)
        return Environment(python)
    return Environment()


def pip(python: str, target: Path, *arguments: str) -> None:
    """Install once; a file says that it was done."""
    done = target / "installed.txt"
    if not done.exists():
        print(f"installing {' '.join(arguments)}", flush=True)
        command([python, "-m", "pip", "install", "--quiet", *arguments])
        done.write_text("\n".join(arguments))


def command(words: list[str]) -> None:
    """Run it, or say why it failed."""
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise UnavailableError(lines[-1] if lines else f"exit status {done.returncode}")
