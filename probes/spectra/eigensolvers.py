"""Which of the solvers at hand takes a kernel apart sooner: torch's or numpy's."""

from contextlib import AbstractContextManager
from functools import cache

import numpy as np
import torch
from jaxtyping import Float64
from threadpoolctl import ThreadpoolController
from torch import Tensor

from tangentscope.probes.hardware import mkl_is_at_home


def eigenvalues(kernels: Float64[Tensor, "draws side side"]) -> Float64[np.ndarray, "draws side"]:
    """Of symmetric matrices, ascending."""
    if _torch_is_ahead(kernels.device.type, torch.get_num_threads()):
        return torch.linalg.eigvalsh(kernels).cpu().numpy()
    with _one_thread():
        return np.linalg.eigvalsh(kernels.numpy())


def eigensystem(
    kernel: Float64[Tensor, "side side"],
) -> tuple[Float64[np.ndarray, " side"], Float64[np.ndarray, "side side"]]:
    """Of a symmetric matrix: eigenvalues, ascending, and eigenvectors as columns."""
    if _torch_is_ahead(kernel.device.type, torch.get_num_threads()):
        values, vectors = torch.linalg.eigh(kernel)
        return values.cpu().numpy(), vectors.cpu().numpy()
    with _one_thread():
        return np.linalg.eigh(kernel.numpy())


def _torch_is_ahead(device: str, threads: int) -> bool:
    """Whether torch's solver is the faster one: of several threads, and of one where it is MKL's on its maker's CPU.

    There it takes half of numpy's time from a side of a thousand on. On others MKL goes its generic way, and one thread
    of numpy's OpenBLAS is ahead: on an AMD EPYC by a third at sides of 500 to 1,300. Several are in the way of torch's
    own, which wait for work between two kernels by trying again and again.
    """
    if device != "cpu" or threads > 1:
        return True
    return mkl_is_at_home()


def _one_thread() -> AbstractContextManager[object]:
    """For numpy, which does not heed torch.set_num_threads."""
    return _pools().limit(limits=1, user_api="blas")


@cache
def _pools() -> ThreadpoolController:
    return ThreadpoolController()  # looks through all that is loaded: some milliseconds
