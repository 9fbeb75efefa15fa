"""Conjugate kernels: inner products of what enters each layer (BSC App. B.2.1, eq. 10)."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tangentscope.probes.features.passes import checked_batch, deterministic_with, few_outputs, outputs_of
from tangentscope.probes.features.products import PRODUCTS
from tangentscope.probes.kernels.computation import mirror_upper
from tangentscope.probes.kernels.engine.memory import ceiling, saved_bytes
from tangentscope.probes.kernels.gradients.autograd_graph import Graph
from tangentscope.probes.kernels.gradients.entries import Entries, Entry
from tangentscope.probes.kernels.gradients.row_layouts import Grid
from tangentscope.probes.kernels.gradients.row_ownership import Ownership
from tangentscope.probes.network.batch import Batch
from tangentscope.probes.network.layers import Anatomy
from tangentscope.probes.network.output import Output


def conjugate_kernels(
    model: nn.Module,
    inputs: Any,
    layers: str | Iterable[str] | None = None,
    *,
    output: Output = None,
    memory_bytes: int | None = None,
) -> dict[str, Float[Tensor, "N N"]]:
    """K_l[i, j] = ⟨x_l(i), x_l(j)⟩ of what enters each layer l, from the first on, where that is the data themselves.

    A layer is a weight that multiplies rows of the data: dense, convolutional, a projection of attention. Its x_l are
    all numbers that enter it, of all positions and uses. Of dense nets the tangent kernel is made of them (BSC eq. 12):
    Θ = Σ_l S_l ∘ (K_l + 1), with the sensitivities S_l[(i,a),(j,b)] = ⟨∂f_a(x_i)/∂h_l, ∂f_b(x_j)/∂h_l⟩ to what layer l
    gives, and without the 1 for layers that have no bias. ``collective_variables`` takes them as it takes tangent
    kernels, for effective rank, trace and the like; the last one is the feature kernel.

    Args:
        model, inputs, output: as for ``tangent_kernel``; the model is left as it was.
        layers: names of modules; by default all layers, of which every data point has equally many rows.
        memory_bytes: bound on what forward passes keep at a time, by default a quarter of what is free.

    Returns:
        By the name of the module that has the weight, in the network's precision, float32 at least.

    Raises:
        ValueError: a layer that does not exist, or of which data points have different numbers of rows.
        ValueError, TypeError: as for ``tangent_kernel``.
    """
    batch, device = checked_batch(model, inputs, output)
    bound = ceiling(memory_bytes, device)
    with deterministic_with(model, device, lambda _: True) as anatomy:
        wanted = _wanted(model, [*_entering(anatomy, few_outputs(anatomy, batch)[0])], layers)
        at_once = max(1, bound // (4 * (saved_bytes(model, batch.sample(1)) + 1)))  # two blocks, and their copies
        kernels: dict[str, Tensor] = {}
        blocks = torch.arange(len(batch)).split(at_once)
        for number, rows in enumerate(blocks):
            left = _entering(anatomy, batch.take(rows))
            for columns in blocks[number:]:
                right = left if columns is rows else _entering(anatomy, batch.take(columns))
                for name in _unlike(left, right, wanted):
                    if layers is not None:
                        raise ValueError(_refusal(model, name, [layer for layer in wanted if layer != name]))
                    wanted.remove(name)
                    kernels.pop(name, None)
                for name in wanted:
                    block = left[name] @ right[name].T
                    kernel = kernels.setdefault(name, block.new_empty(len(batch), len(batch)))
                    kernel[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = block
    for kernel in kernels.values():
        mirror_upper(kernel)
    return kernels


def _wanted(model: nn.Module, present: list[str], layers: str | Iterable[str] | None) -> list[str]:
    if layers is None:
        return present
    names = [layers] if isinstance(layers, str) else list(layers)
    for name in names:
        if name not in present:
            raise ValueError(_refusal(model, name, present))
    return names


def _refusal(model: nn.Module, name: str, present: list[str]) -> str:
    near = get_close_matches(name, present, n=1)
    hint = f"did you mean {near[0]!r}? E" if near else "e"
    return (
        f"{name!r} is no layer of {type(model).__name__} that multiplies equally many rows of each data point by a "
        f"weight, {hint}xpected some of {', '.join(map(repr, present))}"
    )


def _unlike(left: dict[str, Tensor], right: dict[str, Tensor], names: list[str]) -> list[str]:
    """Layers that do not take equally much of all points, such as experts, which some points come by."""
    return [
        name for name in names if name not in left or name not in right or left[name].shape[1] != right[name].shape[1]
    ]


def _entering(anatomy: Anatomy, batch: Batch) -> dict[str, Tensor]:
    """What enters each layer, [n, numbers]."""
    n = len(batch)
    if n == 1:  # whose rows belong to which point shows in several only
        batch = batch.take(torch.tensor([0, 0]))
    outputs = outputs_of(anatomy, batch)
    graph = Graph(outputs, anatomy.trainable.values())
    entries = Entries(graph, Ownership(graph, outputs, batch))
    entering: dict[str, list[Tensor]] = defaultdict(list)
    for name, parameter in anatomy.trainable.items():
        for entry, _ in (entries.of(parameter) or ()) if graph.users[id(parameter)] else ():
            if (rows := _rows(entry)) is not None:
                entering[name.rpartition(".")[0]].append(rows[:n])
    return {name: torch.cat(rows, 1) for name, rows in entering.items()}


def _rows(entry: Entry) -> Tensor | None:
    """[N, numbers] that a weight multiplies at ``entry``; None if it is no product, or points differ in their rows."""
    product = PRODUCTS.get(entry.node.name())
    if product is None or entry.place not in product.places or not isinstance(entry.layout, Grid):
        return None
    place = sum(product.places) - entry.place
    values = product.saved(entry.node, place)
    if values is None or values.dim() < 2:
        return None
    values = values.detach().to(torch.promote_types(values.dtype, torch.float32))
    return replace(entry.layout, dim=product.row_dimension(place)).arrange(values).flatten(1)
