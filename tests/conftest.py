"""Shapes and types are checked while the tests run, in every module that declares shapes."""

from pathlib import Path

import jaxtyping
import pytest

from tangentscope.pipeline.cluster import ahead

ROOT = Path(__file__).parents[1]


def modules_with_shapes() -> list[str]:
    files = [file for room in ("probes", "models", "tasks") for file in sorted((ROOT / room).rglob("*.py"))]
    shaped = [file for file in files if "from jaxtyping import" in file.read_text()]
    names = (".".join(file.relative_to(ROOT).with_suffix("").parts) for file in shaped)
    return [f"tangentscope.{name}".removesuffix(".__init__") for name in names]


# Of these alone: a function within a function is decorated anew whenever it is defined, a third of the kernels' tests.
jaxtyping.install_import_hook(modules_with_shapes(), "beartype.beartype")


@pytest.fixture(autouse=True)
def no_ray_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that is run within this process starts no Ray here before it is known that it needs one."""
    monkeypatch.setattr(ahead, "_will_train", lambda out, again: False)
