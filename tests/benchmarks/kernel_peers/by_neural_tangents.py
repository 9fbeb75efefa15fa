"""neural-tangents 0.6.5 in an environment of its own: its three implementations, compiled.

"structured" compiles the kernel as a whole, "structured/4" blocks of 4 × 4 points one after the other, for less memory.
"""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import neural_tangents as nt
import numpy as np
from kernel_peers.jax_nets import NETS

IMPLEMENTATIONS = {
    "structured": nt.NtkImplementation.STRUCTURED_DERIVATIVES,
    "vector-products": nt.NtkImplementation.NTK_VECTOR_PRODUCTS,
    "jacobian": nt.NtkImplementation.JACOBIAN_CONTRACTION,
}


def prepare(cell: Path, name: str, sizes: dict[str, int], variant: str, device: str) -> Callable[[], jnp.ndarray]:
    """The timed call, giving [N, N, O, O]; its first call compiles. On the processor, whatever the ``device``."""
    weights, inputs, f = NETS[name](dict(np.load(cell / "net.npz")))
    implementation, _, block = variant.partition("/")
    kernel_fn = nt.empirical_ntk_fn(f, trace_axes=(), vmap_axes=0, implementation=IMPLEMENTATIONS[implementation])
    kernel_fn = nt.batch(kernel_fn, batch_size=int(block), device_count=0) if block else jax.jit(kernel_fn)
    jax.jit(jax.grad(lambda x: (x @ x).sum()))(jnp.ones((64, 64))).block_until_ready()
    return lambda: kernel_fn(inputs, None, weights).block_until_ready()


def entries(kernel: jnp.ndarray, points: np.ndarray, outputs: np.ndarray, per_point: int) -> np.ndarray:
    """Θ between the given rows."""
    return np.asarray(kernel)[points[:, None], points, outputs[:, None], outputs]
