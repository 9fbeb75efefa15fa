"""Networks whose outputs contain gradients taken inside of forward: of inputs, of positions, of their own weights."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from kernel_graphs import Net, averaged, molecules
from kernel_networks import mlp, tied
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch_geometric.data import Batch
from torch_geometric.nn.aggr import EquilibriumAggregation
from wild_case import Wild

ROWS, IMAGES = (4, 3), (3, 1, 6, 6)


def slope(values: Tensor, of: Tensor) -> Tensor:
    return torch.autograd.grad(values.sum(), of, create_graph=True)[0]


def forces(energy: Callable[..., Tensor], **parts: Callable[[], nn.Module | nn.Parameter]) -> Callable[[], nn.Module]:
    """A network that puts out the gradient of its energy, at most three numbers of it."""

    def run(net: Net, x: Tensor) -> Tensor:
        x = x.requires_grad_(True)
        return slope(energy(net, x), x).flatten(1)[:, :3]

    return lambda: Net(run, **{name: part() for name, part in parts.items()})


def forces_of(*layers: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return forces(lambda net, x: net.f(x).square(), f=lambda: nn.Sequential(*(layer() for layer in layers)))


def transformed(run: Callable[[Callable, Tensor], Tensor], outputs: int = 1) -> Callable[[], nn.Module]:
    """A small network, and what ``run`` makes of it and its inputs by transforms of torch.func."""
    return lambda: Net(lambda net, x: run(net.f, x), f=mlp(3, 6, outputs))


# Physics


class Force(nn.Module):
    """An energy whose gradient is the output; its last bias plays no part."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 16), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.requires_grad_(True)
        return torch.autograd.grad(self.b(self.a(x).tanh()).sum(), x, create_graph=True)[0]


def heat(net: Net, points: Tensor) -> Tensor:
    """The residual of the heat equation, beside the field itself."""
    x, t = (points[:, i : i + 1].clone().requires_grad_(True) for i in range(2))
    u = net.f(torch.cat([x, t], 1))
    return torch.cat([u, slope(u, t) - slope(slope(u, x), x)], 1)


def hamiltonian(net: Net, state: Tensor) -> Tensor:
    with torch.enable_grad():  # as whoever means to call it under no_grad writes it
        state = state.requires_grad_(True)
        dq, dp = slope(net.f(state), state).chunk(2, 1)
    return torch.cat([dp, -dq], 1)


def lagrangian(net: Net, state: Tensor) -> Tensor:
    """Accelerations that the Euler-Lagrange equations ask for."""
    q, v = (part.clone().requires_grad_(True) for part in state.chunk(2, 1))
    value = net.f(torch.cat([q, v], 1)) + v.square().sum(1, keepdim=True)
    momentum = slope(value, v)
    mass = torch.stack([slope(p, v) for p in momentum.unbind(1)], 1)
    drift = torch.stack([(slope(p, q) * v).sum(1) for p in momentum.unbind(1)], 1)
    return torch.linalg.solve(mass, (slope(value, q) - drift)[:, :, None])[:, :, 0]


def atoms(net: Net, positions: Tensor) -> Tensor:
    """Forces between atoms [N, atoms, 3], by filters of their distances as in SchNet."""
    positions = positions.requires_grad_(True)
    i, j = torch.triu_indices(3, 3, 1, device=positions.device)
    distances = (positions[:, i] - positions[:, j]).square().sum(2).add(0.1).sqrt()
    kinds = net.kinds(torch.tensor([0, 1, 0], device=positions.device))
    filters = net.filters((-(distances[:, :, None] - net.centres).square()).exp())
    energy = net.out((filters * net.pair(kinds[i] * kinds[j])).tanh()).sum((1, 2))
    return -slope(energy, positions)[:, :2].flatten(1)


def stress(net: Net, x: Tensor) -> Tensor:
    """The gradient of a strain that is zero and made inside."""
    strain = torch.zeros(len(x), 3, 3, dtype=x.dtype, device=x.device, requires_grad=True)
    strained = x[:, None] + x[:, None] @ strain
    return slope(net.f(strained[:, 0]), strain).diagonal(dim1=1, dim2=2)


def divergence(net: Net, x: Tensor) -> Tensor:
    """One step of a continuous normalising flow, and the change of the density."""
    x = x.requires_grad_(True)
    velocity = net.f(x)
    trace = sum(slope(velocity[:, i], x)[:, i] for i in range(3))
    return torch.cat([x + velocity, trace[:, None]], 1)


def penalised(net: Net, x: Tensor) -> Tensor:
    x = x.requires_grad_(True)
    features = net.f(x)
    return torch.cat([features, slope(features, x).square().sum(1, keepdim=True)], 1)


def inner_and_outer(net: Net, x: Tensor) -> Tensor:
    """One layer inside of the gradient and outside."""
    x = x.requires_grad_(True)
    return net.a(slope(net.b(net.a(x).tanh()), x)).tanh()


def salience(net: Net, tokens: Tensor) -> Tensor:
    words = net.words(tokens)
    return net.head((words * slope(net.f(words).exp(), words)).sum(1))


def adapted(net: Net, x: Tensor) -> Tensor:
    """A step of descent on the weights, of each point by itself, as model-agnostic meta-learning takes."""
    outputs = []
    for row in x:
        weight = net.layer.weight
        fast = weight - 0.3 * slope((F.linear(row, weight, net.layer.bias).tanh() - row).square(), weight)
        outputs.append(net.head(F.linear(row, fast).tanh()))
    return torch.stack(outputs)


def prompt_tuned(net: Net, x: Tensor) -> Tensor:
    """Steps of descent on a code, as auto-decoders take."""
    code = torch.zeros(len(x), 4, dtype=x.dtype, device=x.device, requires_grad=True)
    for _ in range(2):
        code = code - 0.2 * slope((net.decoder(code).tanh() - x).square(), code)
    return net.head(code)


class Equilibrium(nn.Module):
    """torch_geometric's pooling by descent on an energy; one graph a point."""

    def __init__(self):
        super().__init__()
        self.pool = EquilibriumAggregation(4, 3, [5], grad_iter=2)
        # It begins in float32 whatever the parameters have, and would round there.
        self.pool.init_output = lambda size: torch.zeros(size, 3, dtype=self.pool.lamb.dtype, requires_grad=True)

    def forward(self, g: Batch) -> Tensor:
        pooled = []
        for graph in range(g.num_graphs):  # its regulariser is a mean over all graphs
            x = g.x[g.batch == graph]
            pooled.append(self.pool(x, torch.zeros(len(x), dtype=torch.int64, device=x.device), dim_size=1))
        return torch.cat(pooled)


def graph_forces(net: Net, g: Batch) -> Tensor:
    x = g.x.requires_grad_(True)
    source, target = g.edge_index
    energy = net.out((net.nodes(x)[target] * net.edges(torch.cat([x[source], g.edge_attr], 1)).tanh()).tanh())
    return averaged(slope(energy, x) + net.nodes(x).sum(1, keepdim=True), g)


def matrix(*shape: int) -> Callable[[], nn.Parameter]:
    return lambda: nn.Parameter(torch.zeros(shape))


def linear(*sizes: int, bias: bool = True) -> Callable[[], nn.Module]:
    return lambda: nn.Linear(*sizes, bias=bias)


def perceptron(*widths: int, activation: Callable[[], nn.Module] = nn.Tanh) -> Callable[[], nn.Module]:
    return lambda: mlp(*widths, activation=activation)


# fmt: off
GRADIENTS = [
    Wild("forces of an energy", Force, ROWS),
    Wild("forces, deep", forces_of(perceptron(3, 6, 5, 4, 2, activation=nn.Softplus)), ROWS),
    Wild("forces, no biases", forces_of(linear(3, 6, bias=False), nn.Tanh, linear(6, 1, bias=False)), ROWS),
    Wild("forces, one point", Force, (1, 3)),
    Wild("forces with layer norm", forces_of(linear(3, 6), lambda: nn.LayerNorm(6), nn.Tanh, linear(6, 1)), ROWS),
    Wild("forces with group norm", forces_of(linear(3, 6), lambda: nn.GroupNorm(2, 6), nn.SiLU, linear(6, 1)), ROWS),
    Wild("forces with batch norm", forces_of(linear(3, 6), lambda: nn.BatchNorm1d(6), nn.Tanh, linear(6, 1)), ROWS),
    Wild("forces with rms norm", forces_of(linear(3, 6), lambda: nn.RMSNorm(6), nn.Tanh, linear(6, 1)), ROWS),
    Wild("forces with SiLU and residuals",
        forces(lambda net, x: net.out(net.b(F.silu(net.a(F.silu(net.first(x))))) + net.first(x)),
        first=linear(3, 5), a=linear(5, 6), b=linear(6, 5), out=linear(5, 1)), ROWS),
    Wild("forces of a conv net", forces_of(lambda: nn.Conv2d(1, 4, 3), nn.Tanh, lambda: nn.Conv2d(4, 1, 1)), IMAGES),
    Wild("forces of a conv net with a dense head", forces_of(lambda: nn.Conv2d(1, 2, 3, padding=1), nn.Softplus,
        nn.Flatten, linear(72, 4), nn.Tanh, linear(4, 1)), IMAGES),
    Wild("forces through ReLU and average pooling", forces_of(lambda: nn.Conv2d(1, 4, 3), nn.ReLU,
        lambda: nn.AvgPool2d(2), lambda: nn.Conv2d(4, 1, 1)), IMAGES),
    Wild("forces through leaky ReLU and pooling to one", forces_of(lambda: nn.Conv2d(1, 3, 3), nn.LeakyReLU,
        lambda: nn.AdaptiveAvgPool2d(1), nn.Flatten, linear(3, 1)), IMAGES),
    Wild("forces of a conv1d", forces_of(lambda: nn.Conv1d(2, 3, 3, padding=1), nn.Tanh, nn.Flatten, linear(15, 1)),
        (3, 2, 5)),
    Wild("forces of a transposed convolution", forces_of(lambda: nn.ConvTranspose1d(2, 2, 3, stride=2), nn.Tanh,
        nn.Flatten, linear(14, 1)), (3, 2, 3)),
    Wild("forces of a bilinear energy", forces(lambda net, x: net.pair(net.a(x).tanh(), x), a=linear(3, 4),
        pair=lambda: nn.Bilinear(4, 3, 1)), ROWS),
    Wild("forces of bare matrices", forces(lambda net, x: (torch.addmm(net.b, x,
        net.w).tanh() @ net.w.T).tanh() @ net.v,
        w=matrix(3, 5), b=matrix(5), v=matrix(3, 1)), ROWS),
    Wild("forces of einsums", forces(lambda net, x: torch.einsum("bhk,hk->b",
        torch.einsum("bd,dhk->bhk", x, net.w).tanh(), net.v), w=matrix(3, 2, 3), v=matrix(2, 3)), ROWS),
    Wild("forces of a matrix and its transpose",
        forces(lambda net, x: F.linear(net.a(x).tanh(), net.a.weight.T).square(), a=linear(3, 5)), ROWS),
    Wild("forces of tied layers", lambda: tied(forces_of(linear(3, 3), nn.Tanh, linear(3, 3), nn.Tanh, linear(3, 1))(),
        "f.2.weight", "f.0.weight"), ROWS),
    Wild("forces of a layer used twice", forces(lambda net, x: net.out(net.a(net.a(x).tanh()).tanh()), a=linear(3, 3),
        out=linear(3, 1)), ROWS),
    Wild("forces through a checkpoint", forces(lambda net, x: net.out(checkpoint(net.f, x, use_reentrant=False).tanh()),
        f=perceptron(3, 5, 4), out=linear(4, 1)), ROWS),
    Wild("forces of a recurrent network", forces(lambda net, x: net.out(net.cell(x, net.cell(x))).sin(),
        cell=lambda: nn.RNNCell(3, 3), out=linear(3, 1)), ROWS),
    Wild("forces of attention by hand", forces(lambda net, x: net.out((net.q(x) @ net.k(x).transpose(1, 2)).softmax(2)
        @ net.v(x)).tanh(), q=linear(3, 4), k=linear(3, 4), v=linear(3, 4), out=linear(4, 1)), (3, 2, 3)),
    Wild("forces between atoms", lambda: Net(atoms, kinds=nn.Embedding(2, 4), centres=nn.Parameter(torch.arange(3.0)),
        filters=mlp(3, 4, 4), pair=nn.Linear(4, 4), out=nn.Linear(4, 1)), (3, 3, 3)),
    Wild("heat equation", lambda: Net(heat, f=mlp(2, 8, 6, 1)), (4, 2)),
    Wild("heat equation with SiLU", lambda: Net(heat, f=mlp(2, 6, 1, activation=nn.SiLU)), (4, 2)),
    Wild("score of a density", forces(lambda net, x: -net.f(x).square().sum(1) - net.f(x).exp().sum(1).log(),
        f=perceptron(3, 6, 2)), ROWS),
    Wild("symplectic gradient", lambda: Net(hamiltonian, f=mlp(4, 7, 1)), (4, 4)),
    Wild("lagrangian", lambda: Net(lagrangian, f=mlp(4, 5, 1, activation=nn.Softplus)), (3, 4)),
    Wild("stress of a strain made inside", lambda: Net(stress, f=mlp(3, 5, 1)), ROWS),
    Wild("continuous normalising flow", lambda: Net(divergence, f=mlp(3, 5, 3)), ROWS),
    Wild("features and their penalty", lambda: Net(penalised, f=mlp(3, 6, 2)), ROWS),
    Wild("layer inside and outside", lambda: Net(inner_and_outer, a=nn.Linear(3, 4), b=nn.Linear(4, 1)), ROWS),
    Wild("salience of embedded words", lambda: Net(salience, words=nn.Embedding(5, 4), f=mlp(4, 5, 1),
        head=nn.Linear(4, 2)), lambda: torch.randint(5, (4, 3))),
    Wild("weights adapted to each point", lambda: Net(adapted, layer=nn.Linear(3, 3), head=nn.Linear(3, 2)), ROWS),
    Wild("codes found by descent", lambda: Net(prompt_tuned, decoder=nn.Linear(4, 3), head=nn.Linear(4, 2)), ROWS),
    Wild("equilibrium aggregation", Equilibrium, molecules(3, 1, 2)),
    Wild("forces on nodes", lambda: Net(graph_forces, nodes=nn.Linear(4, 3), edges=nn.Linear(7, 3),
        out=nn.Linear(3, 1)),
        molecules(3, 1, 4)),
    Wild("torch.func.grad inside", transformed(lambda f, x: torch.vmap(torch.func.grad(lambda z: f(z).sum()))(x)),
        ROWS),
    Wild("torch.func.grad inside, without vmap",
        transformed(lambda f, x: torch.func.grad(lambda z: f(z).square().sum())(x), 2), ROWS),
    Wild("torch.func.jacrev inside", transformed(lambda f, x: torch.vmap(torch.func.jacrev(f))(x).flatten(1), 2), ROWS),
    Wild("torch.func.jacfwd inside", transformed(lambda f, x: torch.vmap(torch.func.jacfwd(f))(x).flatten(1), 2), ROWS,
        slow=True),
    Wild("torch.func.hessian inside",
        transformed(lambda f, x: torch.vmap(torch.func.hessian(lambda z: f(z)[0]))(x).diagonal(dim1=1, dim2=2)), ROWS),
    Wild("torch.func.jvp inside", transformed(lambda f, x: torch.func.jvp(f, (x,), (x.cos(),))[1], 2), ROWS),
    Wild("torch.func.vjp inside",
        transformed(lambda f, x: torch.func.vjp(f, x)[1](torch.ones_like(x[:, :2]))[0], 2), ROWS),
    Wild("torch.autograd.functional.jvp inside",
        transformed(lambda f, x: torch.autograd.functional.jvp(f, x, x.cos(), create_graph=True)[1], 2), ROWS),
]
# fmt: on
