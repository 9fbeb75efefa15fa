"""Nodes of the autograd graph that multiply rows of data by a weight.

Shapes: R rows of data, p numbers a row, K numbers that come of a row.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tangentscope.probes.kernels.gradients.autograd_graph import edge_shape


@dataclass(frozen=True)
class Product:
    """One kind of product: at which places it takes its left and right factor, and under which names it saves them.

    batched: its factors are stacks of matrices. convolution: they are an input and a kernel.
    """

    left: tuple[int, str]
    right: tuple[int, str]
    batched: bool = False
    convolution: bool = False

    @property
    def places(self) -> tuple[int, int]:
        """Of both factors."""
        return self.left[0], self.right[0]

    def saved(self, node: Any, place: int) -> Tensor | None:
        """The factor at ``place``; None where the node has not kept it, as no gradient of the other one is needed."""
        return getattr(node, "_saved_" + (self.left if place == self.left[0] else self.right)[1])

    def row_dimension(self, place: int) -> int:
        """The dimension of the data that are taken at ``place`` along which their rows lie."""
        return 0 if self.convolution else self.batched + (place != self.left[0])

    def rows(self, values: Tensor, place: int) -> Tensor:
        """[R, p], of the data that are taken at ``place``."""
        return self._matrix(values, flipped=place != self.left[0])

    def weight(self, values: Tensor, place: int) -> Tensor:
        """[p, K], of the weight that is taken at ``place``."""
        return self._matrix(values, flipped=self.convolution or place == self.left[0])

    def results(self, values: Tensor, place: int) -> Tensor:
        """[R, K], of a tensor of the product's shape, where the data are taken at ``place``."""
        return self._matrix(values, flipped=place != self.left[0])

    def _matrix(self, values: Tensor, flipped: bool) -> Tensor:
        if self.convolution:
            values = values.flatten(1)
        if self.batched:
            values = values[0]
        if values.dim() == 1:
            values = values[:, None]
        return values.T if flipped else values

    def is_matrix(self, node: Any) -> bool:
        """Whether it is one product of two matrices: in a stack of one, or as a convolution that gives one position."""
        shape = edge_shape((node, 0))
        if self.batched:
            return shape[0] == 1
        return not self.convolution or _sees_all(node, shape)


def _sees_all(node: Any, shape: Any) -> bool:
    """Whether a convolution has one window, which is all of its input, as a 1×1 one on a single pixel has."""
    kernel = edge_shape(node.next_functions[1])
    return (
        shape[2:].numel() == 1
        and node._saved_input.shape[1:] == kernel[1:]
        and not node._saved_transposed
        and not any(node._saved_padding)
    )


PRODUCTS = {
    "AddmmBackward0": Product((1, "mat1"), (2, "mat2")),
    "MmBackward0": Product((0, "self"), (1, "mat2")),
    "MvBackward0": Product((0, "self"), (1, "vec")),
    "BmmBackward0": Product((0, "self"), (1, "mat2"), batched=True),
    "BaddbmmBackward0": Product((1, "batch1"), (2, "batch2"), batched=True),
    "ConvolutionBackward0": Product((0, "input"), (1, "weight"), convolution=True),
}
"""By the name of the node."""
