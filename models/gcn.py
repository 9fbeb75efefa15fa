"""Graph convolutional networks (Kipf, Welling 2017, arXiv:1609.02907) on molecules, with bonds as OGB adds them."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tangentscope.models.graphs import GraphModel, added


class GCN(GraphModel, frozen=True):
    """Layers that average over an atom and its neighbours, by the degrees of both.

    Σ_j ReLU(W x_j + b + bond_ij)/√(d_i d_j), where an atom is its own neighbour by a bond of its own and d counts it
    too; fields as in `GraphModel`. With `width: 300` it is the baseline GCN of Hu et al. 2020.
    """

    name: Literal["gcn"] = "gcn"

    version: ClassVar[int] = 1

    def layer(self) -> nn.Module:
        """As `GraphModel` says."""
        return _Convolution(self.width)


class _Convolution(nn.Module):
    """Written out, as PyTorch Geometric's `GCNConv` takes no vectors for bonds."""

    def __init__(self, width: int):
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.own = nn.Parameter(torch.empty(1, width))
        nn.init.xavier_uniform_(self.own)

    def forward(self, x: Tensor, edges: Tensor, bonds: Tensor) -> Tensor:
        source, target = edges
        x = self.linear(x)
        degrees = 1 + torch.bincount(target, minlength=len(x)).to(x)
        share = (degrees[source] * degrees[target]).rsqrt()
        messages = share[:, None] * F.relu(x[source] + bonds)
        return added(messages, target, len(x)) + F.relu(x + self.own) / degrees[:, None]
