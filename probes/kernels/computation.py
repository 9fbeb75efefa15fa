"""One computation of kernels: checked, given its room, cut into blocks of points that fit, put together."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tangentscope.probes.kernels.engine.block import Kernels, Network, add_block, remaining_parameters
from tangentscope.probes.kernels.engine.buffer_pool import keep_freed_memory
from tangentscope.probes.kernels.engine.gradient_store import decide
from tangentscope.probes.kernels.engine.memory import Room, ceiling, points_that_fit, room
from tangentscope.probes.kernels.first_look import first_look, sketch_of
from tangentscope.probes.kernels.gradients.observation import Observation, observe
from tangentscope.probes.kernels.treatment import OutputRows, OutputTreatment, check_treatment
from tangentscope.probes.network.batch import Batch
from tangentscope.probes.network.checks import check_alike, check_devices, check_layers, check_numbers
from tangentscope.probes.network.deterministic import deterministic
from tangentscope.probes.network.function import Function

APART = 0.9
"""Draws of which so many points are different ones pass their few others twice: nothing need be gathered then."""


class Found(NamedTuple):
    """Kernels by name, [N·R, M·R] or [draws, n·R, n·R], and by part what each point adds to its trace, one axis less.

    The traces are in float64 and of the points in the kernels' rows, or in every draw: [N] or [draws, n].
    """

    kernels: dict[str, Tensor]
    traces: dict[str, Tensor]

    def each(self, change: Callable[[Tensor], Tensor]) -> "Found":
        """All of them changed."""
        return Found(*({name: change(one) for name, one in found.items()} for found in self))


@dataclass(frozen=True)
class Run:
    """Kernels of a network between the points of ``left`` and ``right`` (None: of left with itself).

    name_of: the name of the kernel that a module's parameters are added to. part_of: the part that has their trace, or
        None where no traces are wanted. ceiling: bytes for everything.
    sketch: a forward pass of few points, and the ``room`` that it shows a point to take. alone: outputs [1, O] of the
        last point of ``left`` by itself, if known.
    """

    network: Network
    left: Batch
    right: Batch | None
    name_of: Callable[[str], str]
    part_of: Callable[[str], str] | None
    ceiling: int
    sketch: Observation
    alone: Tensor | None
    room: Room

    @property
    def device(self) -> torch.device:
        """Where it all happens."""
        return self.network.anatomy.device

    @property
    def names(self) -> list[str]:
        """Of all kernels that the trainable parameters are added to."""
        return list(dict.fromkeys(self.name_of(name.rpartition(".")[0]) for name in self.network.anatomy.trainable))

    def kernels(self) -> Found:
        """Of all points."""
        R, columns_of = self.network.rows.kept, self.left if self.right is None else self.right
        N, M = len(self.left), len(columns_of)
        free = self.free(N * M * R * R)
        at_once = self.points_at_once(free, N)
        found = self._empty((1, N, R, M, R))
        broken_rows, broken_columns = torch.zeros(N, R, dtype=torch.bool), torch.zeros(M, R, dtype=torch.bool)
        for rows in _slices(N, at_once):
            for columns in _slices(M, at_once):
                if self.right is None and columns.start < rows.start:
                    continue
                left = self._observe(self.left, rows)
                right = None if self.right is None and columns == rows else self._observe(columns_of, columns)
                broken_rows[rows] = self._broken(left)
                broken_columns[columns] = self._broken(right or left)
                add_block(self.network, found, (rows, columns), left, right, None, free)
        return self._finish(found, broken_rows[None], broken_columns[None]).each(lambda one: one[0])

    def draws(self, index: Tensor) -> Found:
        """Of the draws of points at ``index`` [draws, size]."""
        R, (draws, size) = self.network.rows.kept, index.shape
        points, place = torch.unique(index, return_inverse=True)
        free = self.free(draws * (size * R) ** 2)
        at_once = self.points_at_once(free, len(points))
        if at_once < size:
            each = zip(*(self._of(draw).kernels() for draw in index), strict=True)
            kernels, traces = ({name: torch.stack([one[name] for one in all]) for name in all[0]} for all in each)
            return Found(kernels, traces)
        if self._union_is_cheaper(draws, size, len(points), free):
            if draws == 1 and len(points) == size:  # in its own order nothing need be gathered
                return self._of(index[0]).kernels().each(lambda one: one[None])
            kernels, traces = self._of(points).kernels()
            traces = {part: found[place.to(self.device)] for part, found in traces.items()}
            place = (place[..., None] * R + torch.arange(R)).flatten(1).to(self.device)
            kernels = {name: torch.stack([kernel[rows][:, rows] for rows in place]) for name, kernel in kernels.items()}
            return Found(kernels, traces)
        found = self._empty((draws, size, R, size, R))
        broken = torch.zeros((draws, size, R), dtype=torch.bool)
        for chunk in _chunks(index, at_once):
            points, place = torch.unique(index[chunk], return_inverse=True)
            if len(points) > APART * place.numel() and place.numel() <= at_once:
                points, place = index[chunk].flatten(), torch.arange(place.numel()).view(place.shape)
            left = observe(self.network.anatomy, self.left.take(points), like=self.sketch)[0]
            broken[chunk] = self._broken(left)[place]
            part = found.part(chunk)
            add_block(self.network, part, (slice(None), slice(None)), left, None, place.to(self.device), free)
        return self._finish(found, broken, broken)

    def free(self, entries: int) -> int:
        """Bytes that are left beside kernels of ``entries`` numbers each."""
        held = len(self.names) + (self.part_of is not None)  # a share whose trace is wanted is put together apart
        return self.ceiling - entries * self.network.dtype.itemsize * held

    def points_at_once(self, free: int, points: int) -> int:
        """How many points a block takes on a side.

        Raises:
            ValueError: not even one fits.
        """
        whole = self.right is None
        found = points_that_fit(lambda n: self.room.fits(free, n, symmetric=whole and n == points), points)
        if not found:
            least = self.ceiling - free + self.room.needed(1, symmetric=whole and points == 1)
            raise ValueError(
                f"memory_bytes={self.ceiling} is too little for kernels of {self.ceiling - free} bytes and the work "
                f"on two points, expected at least {least}: raise it, or take fewer points or outputs='traced'"
            )
        return found

    def _of(self, points: Tensor) -> "Run":
        """The same for some of the points."""
        return replace(self, left=self.left.take(points), alone=None)

    def _union_is_cheaper(self, draws: int, size: int, points: int, free: int) -> bool:
        """Whether one kernel of all points costs less than the draws' kernels, and leaves as much room."""
        union = self.network.blocks(1, points, points, symmetric=True)
        apart = self.network.blocks(draws, size, size, symmetric=True)
        others = remaining_parameters(self.network, self.sketch.shares, [self.sketch])
        count = sum(parameter.numel() for parameter in others.values())
        weights = [
            b.products * count + sum(decide(share, b).cost.weight for share in self.sketch.shares)
            for b in (union, apart)
        ]
        entries = (points * self.network.rows.kept) ** 2
        return weights[0] <= weights[1] and self.room.fits(self.free(entries) // 2, points, symmetric=True)

    def _observe(self, batch: Batch, points: slice) -> Observation:
        anatomy, alone = self.network.anatomy, None
        if points != slice(0, len(batch)):
            batch = batch.take(torch.arange(points.start, points.stop))
        elif batch is self.left:
            alone = self.alone
        return observe(anatomy, batch, alone, like=self.sketch)[0]

    def _broken(self, seen: Observation) -> Tensor:
        """[n, R]: functions of points that are not finite."""
        rows = self.network.rows
        finite = torch.isfinite(rows.of(seen.values))
        return ~finite.view(-1, rows.kept, rows.contracted).all(2).cpu()

    def _empty(self, shape: tuple[int, ...]) -> Kernels:
        return Kernels(shape, self.network.dtype, self.device, self.name_of, self.part_of)

    def _finish(self, found: Kernels, broken_rows: Tensor, broken_columns: Tensor) -> Found:
        """Kernels as matrices, those of one batch mirrored; gradients can be finite where the function is not.

        broken_rows, broken_columns: [draws, n, R], functions that are not finite.
        """
        kernels, traces = found.of_all(self.network.anatomy.trainable)
        kernels = {name: kernel.flatten(3).flatten(1, 2) for name, kernel in kernels.items()}
        lost = None
        if bool(broken_rows.any()) or bool(broken_columns.any()):
            lost = (broken_rows.flatten(1)[:, :, None] | broken_columns.flatten(1)[:, None, :]).to(self.device)
        for kernel in kernels.values():
            if self.right is None:
                for matrix in kernel:
                    mirror_upper(matrix)
            if lost is not None:
                kernel[lost] = torch.nan
        broken = broken_rows.any(2).to(self.device)
        return Found(kernels, {part: one.masked_fill(broken, torch.nan) for part, one in traces.items()})


@contextmanager
def begin(
    function: Function,
    inputs: Any,
    others: Any,
    outputs: OutputTreatment,
    memory_bytes: int | None,
    name_of: Callable[[str], str],
    part_of: Callable[[str], str] | None = None,
) -> Iterator[Run]:
    """Check everything and look at the network once; inside, it is a deterministic function.

    Raises:
        TypeError, ValueError: see ``tangent_kernel``.
    """
    check_treatment(outputs)
    anatomy = function.anatomy()
    model, device = anatomy.model, anatomy.device
    check_numbers(model)
    left = function.batch(inputs)
    right = None if others is None else function.batch(others, "others")
    if right is not None:
        check_alike(left, right)
    check_devices(model, device, {"inputs": left} | ({} if right is None else {"others": right}))
    bound = ceiling(memory_bytes, device)
    if device.type == "cpu":
        keep_freed_memory()
    with deterministic(model, device) as state:
        check_layers(model)
        sketch, alone = first_look(anatomy, left, state)
        if right is not None:
            other = sketch_of(anatomy, right)[0]
            if other.outputs.shape[1] != sketch.outputs.shape[1]:
                raise ValueError(
                    f"the model has {sketch.outputs.shape[1]} outputs for inputs and {other.outputs.shape[1]} for "
                    "others: pass points of one shape"
                )
            if len(left) == 1:
                sketch = other
        dtype = torch.float32  # at least: sums over parameters lose everything in half precision
        for parameter in anatomy.trainable.values():
            dtype = torch.promote_types(dtype, parameter.dtype)
        network = Network(anatomy, OutputRows(outputs, sketch.outputs.shape[1]), dtype)
        M = len(left) if right is None else len(right)
        per_point = room(model, sketch, network.blocks(1, len(left), M, right is None))
        yield Run(network, left, right, name_of, part_of, bound, sketch, alone, per_point)


def mirror_upper(kernel: Tensor, block: int = 256) -> None:
    """Copy the upper triangle onto the lower one in place, so that the kernel is symmetric to the last bit."""
    side = len(kernel)
    for start in range(0, side, block):
        stop = min(start + block, side)
        diagonal = kernel[start:stop, start:stop]
        diagonal.copy_(diagonal.triu() + diagonal.triu(1).T)
        kernel[stop:, start:stop] = kernel[start:stop, stop:].T


def _slices(length: int, each: int) -> list[slice]:
    return [slice(start, min(start + each, length)) for start in range(0, length, each)]


def _chunks(index: Tensor, at_once: int) -> Iterator[slice]:
    """Neighbouring draws that have at most ``at_once`` different points together."""
    start, points = 0, set[int]()
    for number, draw in enumerate(index.tolist()):
        if number > start and len(points | set(draw)) > at_once:
            yield slice(start, number)
            start, points = number, set()
        points |= set(draw)
    yield slice(start, len(index))
