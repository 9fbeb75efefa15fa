"""The exact fallback for any parameter: per-sample Jacobians J by torch.func, and Θ += J Jᵀ in tiles.

The whole Jacobian [N·K, P] is never held: parameters are taken in groups, and a group too large for the budget in
tiles of rows (points × functions), every pair of tiles once. K = functions per point, see ``OutputRows``.
"""

import logging
import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap

from tangentscope.probes.kernels.engine.memory import saved_bytes
from tangentscope.probes.kernels.gradients.autograd_graph import dense
from tangentscope.probes.kernels.treatment import OutputRows
from tangentscope.probes.network.batch import Batch, TensorBatch
from tangentscope.probes.network.state import renew

logger = logging.getLogger(__name__)

Tile = tuple[slice, slice]
"""Rows of the Jacobian: data points, and functions of each."""

Jacobian = dict[str, Tensor]
"""By parameter name, [n, k, *shape of the parameter]."""


@dataclass(frozen=True)
class Block:
    """Where products are added to, by the module that has a parameter.

    kernel_of: the kernel [N, R, M, R]. add_trace: adds [n] to the traces of some of the points, if any are wanted.
    group_of: equal for modules whose parameters are added to the same.
    """

    kernel_of: Callable[[str], Tensor]
    add_trace: Callable[[str, slice, Tensor], None]
    group_of: Callable[[str], Hashable]


def add_jacobian_kernel(
    block: Block,
    model: nn.Module,
    parameters: dict[str, nn.Parameter],
    inputs: Batch,
    others: Batch | None,
    rows: OutputRows,
    memory_bytes: int,
) -> None:
    """Add the share of ``parameters`` to a block of kernels, in place.

    others: the points of the kernel's columns; None if they are the ``inputs``, whose upper triangle then suffices.
    memory_bytes bounds Jacobians and their working space together; one row is always taken, however large.
    """
    points, symmetric = len(inputs), others is None
    storage, workspace = memory_bytes // 2, memory_bytes // 2
    activations = saved_bytes(model, inputs.sample(1))
    for group in _groups(parameters, points * rows.functions, storage):
        owners = _by_owner(group, block)
        group_bytes = sum(parameter.nbytes for parameter in group.values())
        row_count = points * rows.functions
        if row_count * group_bytes > storage or not symmetric:
            row_count = storage // 2 // group_bytes  # two tiles are alive at a time
        chunk_rows = workspace // (group_bytes + activations)
        tiles = list(split(points, rows.functions, row_count))
        jacobian = _PerSampleJacobian(model, group, inputs, rows, chunk_rows)
        other_tiles, other_jacobian = tiles, jacobian
        if others is not None:
            other_tiles = list(split(len(others), rows.functions, row_count))
            other_jacobian = _PerSampleJacobian(model, group, others, rows, chunk_rows)
        for i, tile in enumerate(tiles):
            left = jacobian(tile)
            for owner, names in owners.items():
                block.add_trace(owner, tile[0], sum(_squares(left[name]) for name in names))  # pyright: ignore
            for other in other_tiles[i if symmetric else 0 :]:
                if rows.contracted > 1 and other[1] != tile[1]:
                    continue  # different functions never meet in a traced kernel
                right = left if symmetric and other is tile else other_jacobian(other)
                for owner, names in owners.items():
                    kernel = block.kernel_of(owner)
                    _add_product(kernel, left, right, names, tile, other, contracted=rows.contracted > 1)


def _by_owner(parameters: Iterable[str], block: Block) -> dict[str, list[str]]:
    """Names of those parameters that are added to the same, by one of their modules."""
    groups: dict[Hashable, list[str]] = defaultdict(list)
    for name in parameters:
        groups[block.group_of(name.rpartition(".")[0])].append(name)
    return {names[0].rpartition(".")[0]: names for names in groups.values()}


def _squares(jacobian: Tensor) -> Tensor:
    """[n], of [n, k, *shape]: each point's part of the trace."""
    return jacobian.double().flatten(1).square().sum(1)


def split(points: int, functions: int, row_count: int) -> Iterator[Tile]:
    """Cut [points, functions] rows into tiles of about ``row_count`` rows (at least one), point-major."""
    points_each = max(1, row_count // functions)
    functions_each = functions if row_count >= functions else max(1, row_count)
    for point in range(0, points, points_each):
        for function in range(0, functions, functions_each):
            yield (
                slice(point, min(point + points_each, points)),
                slice(function, min(function + functions_each, functions)),
            )


def _groups(parameters: dict[str, nn.Parameter], row_count: int, storage: int) -> Iterator[dict[str, nn.Parameter]]:
    """Parameters in runs whose Jacobians fit the budget together, to share backward passes; a large one alone."""
    group: dict[str, nn.Parameter] = {}
    held = 0
    for name, parameter in parameters.items():
        size = row_count * parameter.nbytes
        if group and held + size > storage:
            yield group
            group, held = {}, 0
        group[name] = parameter
        held += size
    yield group


def _add_product(
    kernel: Tensor, left: Jacobian, right: Jacobian, names: Sequence[str], tile: Tile, other: Tile, *, contracted: bool
) -> None:
    """Θ[tile, other] += J_tile J_otherᵀ, summed over the functions of a point where they are contracted."""
    target = kernel[tile[0], :, other[0], :] if contracted else kernel[tile[0], tile[1], other[0], other[1]]
    sides = (target.shape[0] * target.shape[1], target.shape[2] * target.shape[3])
    product = target.new_zeros(sides)
    for name in names:
        product.addmm_(
            left[name].reshape(sides[0], -1).to(product.dtype), right[name].reshape(sides[1], -1).to(product.dtype).T
        )
    target += product.view(target.shape)


class _PerSampleJacobian:
    """Jacobian rows of one group of parameters, by vmap where the network allows it, else sample by sample."""

    def __init__(
        self,
        model: nn.Module,
        parameters: dict[str, nn.Parameter],
        batch: Batch,
        rows: OutputRows,
        chunk_rows: int,
    ):
        self.model, self.parameters, self.batch, self.rows = model, parameters, batch, rows
        self.chunk_rows = max(1, chunk_rows)
        self.method: Callable[[Tile], Jacobian] | None = None  # chosen on the first rows

    def __call__(self, tile: Tile) -> Jacobian:
        """The rows of ``tile``, computed in chunks that fit the working space."""
        points, functions = tile[0].stop - tile[0].start, tile[1].stop - tile[1].start
        chunks = list(split(points, functions, self.chunk_rows))
        if len(chunks) == 1:
            return self._rows(tile)
        whole = {name: p.new_empty((points, functions, *p.shape)) for name, p in self.parameters.items()}
        for chunk in chunks:
            for name, value in self._rows((_shift(chunk[0], tile[0]), _shift(chunk[1], tile[1]))).items():
                whole[name][chunk] = value
        return whole

    def _rows(self, tile: Tile) -> Jacobian:
        if self.method is not None:
            return self.method(tile)
        if not isinstance(self.batch, TensorBatch):
            self.method = self._by_loop
            return self.method(tile)
        try:
            found = self._by_vmap(tile)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # vmap refuses in many ways; the loop below is exact, or raises the network's error
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
        else:
            if self._sums_to_gradient(found, tile):
                self.method = self._by_vmap
                return found
            reason = "its Jacobian does not add up to the ordinary gradient"
        logger.info("per-sample Jacobians of %s by a loop, vmap failed: %s", type(self.model).__name__, reason)
        self.method = self._by_loop
        return self.method(tile)

    def _by_vmap(self, tile: Tile) -> Jacobian:
        batch = self.batch
        assert isinstance(batch, TensorBatch)
        varied = {name: parameter.detach() for name, parameter in self.parameters.items()}
        name_of = {id(parameter): name for name, parameter in self.parameters.items()}
        # Of tied ones every place, but a module that stands at two places of the tree once.
        places = {
            f"{path}.{name}" if path else name: parameter
            for path, module in self.model.named_modules()
            for name, parameter in module._parameters.items()
            if parameter is not None
        }

        def functions_of(varied: dict[str, Tensor], sample: list[Tensor]) -> Tensor:
            put = {place: varied[name_of[id(p)]] if id(p) in name_of else p.detach() for place, p in places.items()}
            outputs = batch.filled([rows.unsqueeze(0) for rows in sample]).run(self.model, put)
            return self._functions(outputs)[tile[1]]

        renew(self.model)
        with warnings.catch_warnings():
            # Operations without a batching rule are run sample by sample: slower, and nothing a user could mend.
            warnings.filterwarnings("ignore", message="There is a performance drop", category=UserWarning)
            found = vmap(jacrev(functions_of), in_dims=(None, 0))(varied, [rows[tile[0]] for rows in batch.rows])
        return {name: self.rows.scale * value for name, value in found.items()} if self.rows.scale != 1 else found

    def _functions(self, outputs: Tensor) -> Tensor:
        """[K], of one point's outputs; they are scaled only as gradients, since hooks may clip what passes."""
        outputs = outputs.reshape(-1)
        return outputs.sum(-1, keepdim=True) if self.rows.treatment == "summed" else outputs

    def _by_loop(self, tile: Tile) -> Jacobian:
        points, functions = tile[0].stop - tile[0].start, tile[1].stop - tile[1].start
        whole = {name: p.new_zeros((points, functions, *p.shape)) for name, p in self.parameters.items()}
        for n in range(points):
            alone = self.batch.take(torch.tensor([tile[0].start + n]))
            values = self._functions(alone.run(self.model))[tile[1]]
            for k in range(functions):
                for name, gradient in self._gradients(values[k], retain_graph=k + 1 < functions).items():
                    whole[name][n, k] = gradient * self.rows.scale
        return whole

    def _gradients(self, scalar: Tensor, *, retain_graph: bool = False) -> Jacobian:
        if not scalar.requires_grad:
            return {name: torch.zeros_like(parameter) for name, parameter in self.parameters.items()}
        leaves: Sequence[Tensor] = list(self.parameters.values())
        found = torch.autograd.grad(
            scalar, leaves, retain_graph=retain_graph, allow_unused=True, materialize_grads=True
        )
        return dict(zip(self.parameters, map(dense, found), strict=True))

    def _sums_to_gradient(self, jacobian: Jacobian, tile: Tile) -> bool:
        """Whether Σ_nk J_nk is the gradient of Σ_nk f_k(x_n) by ordinary autograd.

        Costs one backward pass and catches networks that keep references to their parameters where functional_call
        cannot replace them: there the Jacobian would be silently zero.
        """
        outputs = self.batch.take(torch.arange(tile[0].start, tile[0].stop)).run(self.model)
        functions = torch.stack([self._functions(values)[tile[1]].sum() for values in outputs])
        expected = self._gradients(self.rows.scale * functions.sum())
        largest = {name: float(torch.linalg.vector_norm(value, ord=math.inf)) for name, value in jacobian.items()}
        overall = max(largest.values())
        for name, value in jacobian.items():
            row_count, eps = value.shape[0] * value.shape[1], torch.finfo(value.dtype).eps
            difference = torch.linalg.vector_norm(value.sum((0, 1)) - expected[name], ord=math.inf)
            # A gradient that is exactly zero, such as a key's bias, is noise of the others' size. Non-finite
            # Jacobians compare false and pass: they are the kernel's to report.
            if difference > row_count * (largest[name] * eps**0.5 + overall * eps):
                return False
        return True


def _shift(inner: slice, outer: slice) -> slice:
    return slice(outer.start + inner.start, outer.start + inner.stop)
