"""What runs by default where there is much of a kind: one variation of each case, few examples of each property.

The rest are slow tests. The choice hangs on names alone: it is the same in every process, and stays when cases are
added.
"""

import zlib
from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


def turn(name: str, of: int) -> int:
    """A number below ``of`` that is the name's own."""
    return zlib.crc32(name.encode()) % of


def in_turns(test: str, cases: Mapping[str, Any], *variations: Iterable[Any], at_once: int = 1) -> list[Any]:
    """The parameters (case, a choice of each variation) of a test, whose name tells which choices are those by default.

    ``at_once`` of the choices run for each case by default. Choices that are no strings are called by their ``str``.
    """
    choices = [*product(*variations)]
    return [
        pytest.param(
            case,
            *choice,
            id="-".join([name, *map(str, choice)]),
            marks=() if (number - turn(f"{test}: {name}", len(choices))) % len(choices) < at_once else pytest.mark.slow,
        )
        for name, case in cases.items()
        for number, choice in enumerate(choices)
    ]


def tried(*strategies: st.SearchStrategy, few: int, many: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Try a property on ``few`` examples by default, and on ``many`` as a slow test."""

    def decorate(holds: Callable[..., None]) -> Callable[..., None]:
        @pytest.mark.parametrize(
            "examples", [pytest.param(few, id="few"), pytest.param(many, id="many", marks=pytest.mark.slow)]
        )
        def test(examples: int) -> None:
            settings(max_examples=examples, deadline=None)(given(*strategies)(holds))()

        test.__doc__ = holds.__doc__
        return test

    return decorate
