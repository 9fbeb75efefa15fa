"""The data points of a probe: drawn once by the driver, stored, and the same at every step of every run."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from tangentscope.pipeline.store import layout, sealed
from tangentscope.pipeline.store.faults import Fault, set_aside
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.planned import PlannedProbe
from tangentscope.pipeline.system.errors import UserError


def inputs_of(points: Mapping[str, Tensor]) -> Any:
    """The inputs among points that were drawn, as networks take them: a tensor, or a mini-batch of graphs."""
    if "inputs" in points:
        return points["inputs"]
    from tangentscope.tasks.graphs import Graphs  # loads PyTorch Geometric

    parts = {name.removeprefix("inputs."): tensor for name, tensor in points.items() if name.startswith("inputs.")}
    graphs = Graphs.from_tensors(parts)
    return graphs[torch.arange(len(graphs))]


def keep_points(storage: Storage, probe: PlannedProbe, draw: Callable[[], Mapping[str, Tensor]]) -> Fault | None:
    """Publish the points of a probe unless they are there and whole; what was wrong with those that were there.

    Args:
        storage: The study's.
        probe: Of the plan.
        draw: Gives the points; only called if they are wanted.
    """
    content = _read(storage, probe.id)
    if content is None:
        write_points(storage, probe, draw())
        return None
    if not isinstance(content, Fault):
        tensors, metadata = content
        if metadata:
            return None
        points = draw()  # the same on every machine
        if sealed.checksum(tensors) == sealed.checksum(points):
            write_points(storage, probe, points)
            return None
        content = Fault(layout.points(probe.id), "damaged", "it has no checksum, and is not what the data give")
    set_aside(storage, content)
    write_points(storage, probe, draw())
    return content


def write_points(storage: Storage, probe: PlannedProbe, points: Mapping[str, Tensor]) -> None:
    """Publish the points of a probe, with what they are of and a checksum."""
    identity = {"probe": probe.id, "split": probe.split, "data": probe.fingerprint}
    storage.write(layout.points(probe.id), sealed.seal(points, identity))


def stored_points(storage: Storage, probe: str) -> dict[str, Tensor] | Fault | None:
    """The stored points of a probe, as :func:`draw_points` gave them, or what is wrong with them; None without any."""
    content = _read(storage, probe)
    return content if content is None or isinstance(content, Fault) else content[0]


def read_points(storage: Storage, probe: str) -> dict[str, Tensor]:
    """The stored points of a probe, as :func:`draw_points` gave them.

    Raises:
        UserError: There are none, the bytes are not those that were written, or are those of another probe.
    """
    points = stored_points(storage, probe)
    if isinstance(points, dict):
        return points
    fault = points or Fault(layout.points(probe), "missing", "the points of a probe")
    raise UserError(f"{fault}; run the study again, which draws them again, then take the values up with `retry`")


def _read(storage: Storage, probe: str) -> sealed.Sealed | Fault | None:
    try:
        return sealed.read(storage, layout.points(probe), {"probe": probe}, older=True)
    except FileNotFoundError:
        return None
