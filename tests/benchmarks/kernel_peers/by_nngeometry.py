"""nngeometry 0.4: hooks on layers; gram multiplies layer by layer, jacobian holds J [O, N, P] and multiplies once."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from kernel_peers.cells import build
from kernel_peers.torch_warm_up import warm_up
from nngeometry import GramMatrix, Jacobian
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset


def prepare(cell: Path, name: str, sizes: dict[str, int], variant: str, device: str) -> Callable[[], Tensor]:
    """The timed call, giving [O, N, O, N]."""
    model, inputs = build(name, sizes, device)
    loader = DataLoader(TensorDataset(inputs), batch_size=len(inputs))
    warm_up(device)

    def gram() -> Tensor:
        return GramMatrix(model, loader).to_torch()

    def jacobian() -> Tensor:
        J = Jacobian(model, loader).to_torch()
        rows = J.flatten(0, 1)
        return (rows @ rows.T).view(*J.shape[:2], *J.shape[:2])

    return {"gram": gram, "jacobian": jacobian}[variant]


def entries(kernel: Tensor, points: np.ndarray, outputs: np.ndarray, per_point: int) -> np.ndarray:
    """Θ between the given rows."""
    return kernel[outputs[:, None], points[:, None], outputs, points].cpu().numpy()
