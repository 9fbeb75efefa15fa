"""What stands on storage about attempts at runs and how they ended."""

from typing import Any

import xxhash
from training_cases import RUN

from pipeline import layout
from pipeline.storage import Storage


def attempts(storage: Storage, run: str = RUN) -> list[dict[str, Any]]:
    return [storage.read_json(f"runs/{run}/attempts/{name}") for name in storage.list(f"runs/{run}/attempts")]


def sealed(state: bytes) -> bytes:
    return state + xxhash.xxh3_64_digest(state)


def outcome(storage: Storage, run: str = RUN) -> dict[str, Any] | None:
    return storage.read_json(layout.outcome(run))


def states(storage: Storage, runs: list[str]) -> list[str | None]:
    return [(outcome(storage, run) or {}).get("state") for run in runs]
