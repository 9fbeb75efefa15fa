"""Whether other packages or folders hide those that stand beside this one."""

import importlib.util
import sys
from pathlib import Path

from pipeline.errors import UserError

_BESIDE = ("models", "tasks", "probes")


def check_not_shadowed() -> None:
    """Refuse to go on where Python finds another package under the name of one of ours.

    Raises:
        UserError: It names the one that hides ours.
    """
    root = Path(__file__).resolve().parent.parent
    for name in _BESIDE:
        place = _place(name)
        if place is not None and place != root / name:
            raise UserError(
                f'{place} hides the package "{name}" of tangentscope, which is in {root}: rename it, or run Python '
                f"with PYTHONPATH={root} so that ours comes first"
            )


def _place(name: str) -> Path | None:
    """The folder or file that an import of `name` gives."""
    loaded = sys.modules.get(name)
    spec = getattr(loaded, "__spec__", None) or importlib.util.find_spec(name)
    if spec is None:
        return None
    if spec.origin and spec.origin != "namespace":
        origin = Path(spec.origin).resolve()
        return origin.parent if origin.name == "__init__.py" else origin
    return next((Path(each).resolve() for each in spec.submodule_search_locations or ()), None)
