"""Under which split and name a value that a user's loop gives is recorded."""

import re
from collections.abc import Collection

from tangentscope.pipeline.driver.attach.notices import Teller

_SPLITS = ("train", "test")
_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9_./ -]")  # in the name of a metric, as MLflow has it
_LONGEST = 200


class Names:
    """Gives names as tables and MLflow can hold them, one for each that the loop uses; says so where it changes one.

    Args:
        measured: What the probes measure, by the names that MLflow knows it by: no recorded value may be called so.
        teller: Is told what was changed.
    """

    def __init__(self, measured: Collection[str], teller: Teller) -> None:
        self._measured, self._teller = frozenset(measured), teller
        self._known: dict[str, tuple[str, str]] = {}

    def of(self, name: str) -> tuple[str, str]:
        """Split and name: ``test_loss`` is the test split's loss, and ``loss`` the training split's."""
        if name not in self._known:
            self._known[name] = self._chosen(name)
        return self._known[name]

    def _chosen(self, name: str) -> tuple[str, str]:
        split, _, rest = name.partition("_")
        place, plain = (split, rest) if split in _SPLITS and rest else ("train", name)
        plain = _NOT_ALLOWED.sub("_", plain)[:_LONGEST].strip(" /.") or "value"
        why = None if plain == (rest if place == split and rest else name) else "names hold letters, digits and _ - . /"
        if plain in self._measured:
            plain, why = f"loop_{plain}", f"the probes measure a variable {plain}"
        free = plain
        taken = set(self._known.values())
        while (place, free) in taken:
            other = next(key for key, value in self._known.items() if value == (place, free))
            free, why = (name if free != name else f"{free}_2"), f"{other} is the {place} split's {plain} already"
        if why is not None:
            self._teller.warn(f"{name} is recorded as {free} of the {place} split: {why}")
        return place, free
