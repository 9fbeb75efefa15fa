"""The shipped studies, one YAML file each."""

from pathlib import Path


def shipped() -> dict[str, Path]:
    """The shipped studies by name."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))}
