"""Which of the solvers at hand takes a kernel apart sooner: torch's or numpy's."""

import platform
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64
from threadpoolctl import ThreadpoolController
from torch import Tensor


def eigenvalues(kernels: Float64[Tensor, "draws side side"]) -> Float64[np.ndarray, "draws side"]:
    """Of symmetric matrices, ascending, by as many threads as torch has."""
    if _torch_is_ahead(kernels.device.type):
        return torch.linalg.eigvalsh(kernels).cpu().numpy()
    with _pools().limit(limits=torch.get_num_threads(), user_api="blas"):
        return np.linalg.eigvalsh(kernels.numpy())


def eigensystem(
    kernel: Float64[Tensor, "side side"],
) -> tuple[Float64[np.ndarray, " side"], Float64[np.ndarray, "side side"]]:
    """Of a symmetric matrix: eigenvalues, ascending, and eigenvectors as columns."""
    if _torch_is_ahead(kernel.device.type):
        values, vectors = torch.linalg.eigh(kernel)
        return values.cpu().numpy(), vectors.cpu().numpy()
    with _pools().limit(limits=torch.get_num_threads(), user_api="blas"):
        return np.linalg.eigh(kernel.numpy())


@cache
def _torch_is_ahead(device: str) -> bool:
    """Whether torch's solver is the faster one: always on a GPU, on a CPU where it is MKL's and the CPU of MKL's maker.

    There it takes half of numpy's time from a side of a thousand on. On others MKL goes its generic way, and numpy's
    OpenBLAS is ahead at every side: on an AMD EPYC by 4 to 40 %.
    """
    if device != "cpu":
        return True
    about = Path("/proc/cpuinfo")
    maker = about.read_text() if about.exists() else platform.processor()
    return torch.backends.mkl.is_available() and "GenuineIntel" in maker


@cache
def _pools() -> ThreadpoolController:
    """The thread pools of what is loaded; numpy's does not heed torch.set_num_threads."""
    return ThreadpoolController()
