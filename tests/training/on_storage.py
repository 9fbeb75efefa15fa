"""What stands on storage about attempts at runs and how they ended."""

import io
from typing import Any

import torch
from training_cases import RUN

from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.store.checkpoints import seal_checkpoint
from tangentscope.pipeline.store.files import Storage


def attempts(storage: Storage, run: str = RUN) -> list[dict[str, Any]]:
    return [storage.read_json(f"runs/{run}/attempts/{name}") for name in storage.list(f"runs/{run}/attempts")]


def weights(step: int) -> bytes:
    file = io.BytesIO()
    torch.save({"step": step, "module": {"weight": torch.ones(2)}, "optimiser": {}}, file)
    return file.getvalue()


def checkpoint(step: int, run: str = RUN) -> bytes:
    """A checkpoint's file."""
    return seal_checkpoint(weights(step), run, step)


def outcome(storage: Storage, run: str = RUN) -> dict[str, Any] | None:
    return storage.read_json(run_files.outcome(run))


def states(storage: Storage, runs: list[str]) -> list[str | None]:
    return [(outcome(storage, run) or {}).get("state") for run in runs]
