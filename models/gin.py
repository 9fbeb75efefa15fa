"""Graph isomorphism networks (Xu, Hu, Leskovec, Jegelka 2019, arXiv:1810.00826) on molecules, as OGB has them."""

from typing import ClassVar, Literal

from torch import nn

from tangentscope.models.graphs import GraphModel


class GIN(GraphModel, frozen=True):
    """Layers that apply a net of two dense layers to an atom and the sum of its messages.

    MLP((1 + ε)·x_i + Σ_j ReLU(x_j + bond_ij)), with ε learned from 0, and 2·`width` units between the two; fields as in
    `GraphModel`. With `width: 300` and `virtual_node: true` it is the baseline GIN-virtual of Hu et al. 2020.
    """

    name: Literal["gin"] = "gin"

    version: ClassVar[int] = 1

    def layer(self) -> nn.Module:
        """As `GraphModel` says."""
        from torch_geometric.nn import GINEConv  # seconds to load, and needed here only

        wide = 2 * self.width
        both = nn.Sequential(nn.Linear(self.width, wide), self.normed(wide), nn.ReLU(), nn.Linear(wide, self.width))
        return GINEConv(both, train_eps=True)
