"""What is asked of :func:`tangentscope.attach`, checked before anything begins."""

import dataclasses
import json
import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tangentscope.pipeline.config.kernel import Kernel
from tangentscope.pipeline.config.schedule import Schedule
from tangentscope.pipeline.probing.given import Given
from tangentscope.pipeline.study.spec import Probes, validate
from tangentscope.pipeline.system.errors import UserError
from tangentscope.probes import givens_of

_SCHEDULES = '{"kind": "log", "points": 40}, {"every": {"steps": 10}} or {"at": [0, 10, 100]}'
_OF_THE_LOSS = {"residual", "output_hessian"}


def check_rank() -> None:
    """Refuse all workers of a training but the first.

    Raises:
        UserError: This is another one.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    else:
        rank, size = (_number(os.environ.get(name)) for name in ("RANK", "WORLD_SIZE"))  # as torchrun sets them
    if rank > 0 and size > 1:
        raise UserError(
            f"attach() in rank {rank} of {size}: only rank 0 attaches, since all have the same network; call attach() "
            "and watch() under `if rank == 0:`"
        )


def whole(name: str, value: Any, least: int, of: str) -> None:
    """Check a whole number.

    Raises:
        UserError: It is none, or too small.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"attach(): {name}: got {value!r}, expected at least {least} and whole: {of}")


def asked_probes(
    splits: Mapping[str, Given],
    variables: Sequence[str],
    schedule: Mapping[str, Any] | None,
    kernel: Mapping[str, Any] | None,
    steps: int,
    has_loss: bool,
) -> Probes:
    """What to measure when.

    A kernel's size that is not given is at most the number of points.

    Raises:
        UserError: Anything that does not hold.
    """
    if isinstance(variables, str):
        raise UserError(f'attach(): variables: got "{variables}", expected a list of names, ["{variables}"]')
    if schedule is not None and not isinstance(schedule, Mapping | Schedule):
        raise UserError(f"attach(): schedule: got {schedule!r}, expected one of {_SCHEDULES}")
    if kernel is not None and not isinstance(kernel, Mapping | Kernel):
        raise UserError(f'attach(): kernel: got {kernel!r}, expected a mapping, e.g. {{"draws": 20, "size": 20}}')
    asked: dict[str, Any] = {"splits": [*splits], "variables": [*variables], "kernel": _mapping(kernel)}
    if schedule is not None:
        asked["schedule"] = _mapping(schedule)
    smallest = min(len(points) for points in splits.values())
    asked["kernel"] = {"size": min(Kernel().size, smallest)} | asked["kernel"]
    probes = validate(Probes, asked, "", "attach()")
    for split, points in splits.items():
        if probes.kernel.size > len(points):
            got = f"got {probes.kernel.size} points in a draw, but {split} has {len(points)}"
            raise UserError(f"attach(): kernel.size: {got}; lower it or give more points")
    if beyond := [step for step in probes.schedule.at or () if step > steps]:
        raise UserError(f"attach(): schedule.at: got step {beyond[0]}, but the training has {steps} steps")
    if needy := [each for each in probes.variables if not has_loss and givens_of(each) & _OF_THE_LOSS]:
        raise UserError(f"attach(): {needy[0]} needs the loss of each point; pass loss=, or leave it out")
    return probes


def plain_config(config: Any) -> dict[str, Any]:
    """A config as JSON holds it: a mapping, a dataclass or what argparse gives; what JSON has not, as text.

    Raises:
        UserError: It is none of these.
    """
    if config is None:
        return {}
    if isinstance(config, Namespace):
        config = vars(config)
    elif dataclasses.is_dataclass(config) and not isinstance(config, type):
        config = dataclasses.asdict(config)
    if not isinstance(config, Mapping):
        raise UserError(f'attach(): config: got a {type(config).__name__}, expected a mapping, e.g. {{"lr": 0.1}}')
    return json.loads(json.dumps(_plain(config), default=str))


def as_text(value: Any) -> str:
    """What tells an output= or parameters= from another: of a function, where it is defined."""
    if callable(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__name__)}"
    return repr(value)


def _plain(config: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): _plain(value) if isinstance(value, Mapping) else value for key, value in config.items()}


def _mapping(given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    return dict(given) if isinstance(given, Mapping) else given.model_dump(exclude_unset=True)


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0
