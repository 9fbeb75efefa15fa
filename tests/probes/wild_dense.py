"""Dense layers and embeddings that go by other names: matrices, einsums, experts, positions, prompts."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from kernel_graphs import Net
from kernel_networks import mlp, tied
from torch import Tensor, nn
from wild_case import Wild

ROWS, TOKENS, IMAGES = (4, 6), (4, 3, 6), (3, 2, 5, 5)
WORDS = lambda: torch.randint(5, (4, 3))  # noqa: E731


class Conv1D(nn.Module):
    """GPT-2's dense layer, its weight [d_in, d_out]."""

    def __init__(self, d_out: int, d_in: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(d_in, d_out)), nn.Parameter(torch.zeros(d_out))

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight)
        return rows.view(*x.shape[:-1], rows.shape[-1])


class FalconLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        rows = x @ self.weight.T
        return rows if self.bias is None else rows + self.bias


class ScaledEmbedding(nn.Embedding):
    """Of Gemma, BART and the first transformer."""

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens) * math.sqrt(self.embedding_dim)


class LearnedPositions(nn.Embedding):
    """OPT's and BART's, which begin at two."""

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        return super().forward(places.expand(len(tokens), -1) + 2)


class Vocabulary(nn.Module):
    """Words found by one-hot vectors times a matrix."""

    def __init__(self, words: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(words, width))

    def forward(self, tokens: Tensor) -> Tensor:
        return F.one_hot(tokens, len(self.weight)).to(self.weight.dtype) @ self.weight


def gpt_block(net: Net, x: Tensor) -> Tensor:
    q, k, v = net.qkv(x).split(4, 2)
    x = x + net.out(F.scaled_dot_product_attention(q, k, v, is_causal=True))
    return net.head((x + net.down(F.gelu(net.up(x)))).mean(1))


def experts_by_bmm(net: Net, x: Tensor) -> Tensor:
    """All experts on all tokens, weighed by a router: [E, d, k] and [E, k, d]."""
    flat = x.flatten(0, 1)
    hidden = torch.bmm(flat.expand(3, -1, -1), net.up).tanh()
    outputs = torch.bmm(hidden, net.down)
    weights = net.router(flat).softmax(1)
    return net.head((outputs * weights.T[:, :, None]).sum(0).unflatten(0, x.shape[:2]).tanh().mean(1))


def routed(net: Net, x: Tensor) -> Tensor:
    """The two best experts of each token, every expert on its tokens alone."""
    flat = x.flatten(0, 1)
    scores = net.router(flat).softmax(1)
    weights, chosen = scores.topk(2, 1)
    outputs = torch.zeros_like(flat)
    for number, expert in enumerate(net.experts):
        tokens, place = (chosen == number).nonzero(as_tuple=True)
        outputs = outputs.index_add(0, tokens, weights[tokens, place, None] * expert(flat[tokens]))
    return net.head(outputs.unflatten(0, x.shape[:2]).mean(1))


def routed_by_weight(net: Net, x: Tensor) -> Tensor:
    """Mixtral's newer form: one tensor for all experts, indexed by number."""
    flat = x.flatten(0, 1)
    chosen = net.router(flat).argmax(1)
    outputs = torch.zeros(len(flat), 4, dtype=x.dtype, device=x.device)
    for number in range(3):
        tokens = (chosen == number).nonzero()[:, 0]
        outputs = outputs.index_add(0, tokens, F.linear(flat[tokens], net.experts[number]).tanh())
    return net.head((outputs * net.router(flat).amax(1, keepdim=True)).unflatten(0, x.shape[:2]).mean(1))


def gathered(net: Net, x: Tensor) -> Tensor:
    """Every row by a matrix of its own, gathered from all experts'."""
    chosen = net.router(x).argmax(1)
    return torch.bmm(net.experts[chosen], x[:, :, None])[:, :, 0] * net.router(x)


def heads(net: Net, x: Tensor) -> Tensor:
    q, k, v = (torch.einsum("btd,hdk->bhtk", x, weight) for weight in (net.q, net.k, net.v))
    mixed = (torch.einsum("bhtk,bhsk->bhts", q, k) / 1.4).softmax(3) @ v
    return net.head(torch.einsum("bhtk,hkd->btd", mixed, net.out).tanh().mean(1))


def patches(net: Net, x: Tensor) -> Tensor:
    """Images in patches, a token of the class before them, places added."""
    rows = net.patch(x).flatten(2).transpose(1, 2)
    rows = torch.cat([net.token.expand(len(x), -1, -1), rows], 1) + net.places
    return net.head((rows + net.mix(rows.transpose(1, 2)).transpose(1, 2)).tanh()[:, 0])


def prompted(net: Net, tokens: Tensor) -> Tensor:
    rows = torch.cat([net.prompt.unsqueeze(0).repeat(len(tokens), 1, 1), net.words(tokens)], 1)
    return net.head(rows.cumsum(1).tanh().mean(1))


def mixer(net: Net, x: Tensor) -> Tensor:
    x = x + net.tokens(x.mT).mT
    return net.head((x + net.channels(x)).tanh().mean(1))


def at_two_places(layer: nn.Module) -> list[nn.Module]:
    return [layer, nn.Tanh(), layer, nn.Tanh()]


def parts(run: Callable, **made: Callable[[], nn.Module | nn.Parameter]) -> Callable[[], nn.Module]:
    return lambda: Net(run, **{name: make() for name, make in made.items()})


def bare(*shape: int) -> Callable[[], nn.Parameter]:
    return lambda: nn.Parameter(0.5 * torch.randn(shape))


def linear(d_in: int, d_out: int, bias: bool = True) -> Callable[[], nn.Module]:
    return lambda: nn.Linear(d_in, d_out, bias=bias)


def gpt() -> nn.Module:
    return Net(gpt_block, qkv=Conv1D(12, 4), out=Conv1D(4, 4), up=Conv1D(8, 4), down=Conv1D(4, 8), head=nn.Linear(4, 2))


def mean_of(net: Net, rows: Tensor) -> Tensor:
    return net.head(rows.tanh().mean(1))


HEAD = {"head": linear(4, 2)}

# fmt: off
DENSE = [
    Wild("Conv1D on rows", lambda: nn.Sequential(Conv1D(5, 6), nn.Tanh(), Conv1D(3, 5)), ROWS),
    Wild("Conv1D on tokens", lambda: nn.Sequential(Conv1D(5, 6), nn.Tanh(), Conv1D(2, 5), nn.Flatten()), TOKENS),
    Wild("block of GPT-2", gpt, (4, 3, 4)),
    Wild("one Conv1D at two places", lambda: nn.Sequential(*at_two_places(Conv1D(6, 6)), nn.Flatten(),
        nn.Linear(18, 2)),
        TOKENS),
    Wild("one linear layer at two places", lambda: nn.Sequential(*at_two_places(nn.Linear(6, 6)), nn.Linear(6, 2)),
        ROWS),
    Wild("FalconLinear", lambda: nn.Sequential(FalconLinear(6, 5), nn.Tanh(), FalconLinear(5, 2, bias=False),
        nn.Flatten()),
        TOKENS),
    Wild("matrix by matmul", parts(lambda net, x: (x @ net.w + net.b).tanh() @ net.v, w=bare(6, 5), b=bare(5),
        v=bare(5, 2)),
        ROWS),
    Wild("matrix by matmul on tokens", parts(lambda net, x: mean_of(net, x @ net.w), w=bare(6, 4), **HEAD), TOKENS),
    Wild("matrix by matmul, transposed", parts(lambda net, x: mean_of(net, torch.matmul(x, net.w.mT)), w=bare(4, 6),
        **HEAD),
        TOKENS),
    Wild("matrix from the left", parts(lambda net, x: mean_of(net, net.mix @ x), mix=bare(5, 3), head=linear(6, 2)),
        TOKENS),
    Wild("matrix by mm of merged tokens", parts(lambda net, x: mean_of(net, torch.mm(x.flatten(0, 1), net.w)
        .view(*x.shape[:2], 4)), w=bare(6, 4), **HEAD), TOKENS),
    Wild("matrix by baddbmm", parts(lambda net, x: mean_of(net, torch.baddbmm(net.b, x, net.w.expand(len(x), -1, -1))),
        w=bare(6, 4), b=bare(1, 1, 4), **HEAD), TOKENS),
    Wild("vector by mv", parts(lambda net, x: torch.stack([torch.mv(x, net.w).tanh(), x @ net.v], 1), w=bare(6),
        v=bare(6)),
        ROWS),
    Wild("matrix by einsum", parts(lambda net, x: mean_of(net, torch.einsum("btd,kd->btk", x, net.w)), w=bare(4, 6),
        **HEAD),
        TOKENS),
    Wild("heads by einsum", parts(heads, q=bare(2, 6, 2), k=bare(2, 6, 2), v=bare(2, 6, 2), out=bare(2, 2, 4), **HEAD),
        TOKENS),
    Wild("heads in a single einsum", parts(lambda net, x: mean_of(net, torch.einsum("btd,chdk->btchk", x, net.w).prod(2)
        .flatten(2)), w=bare(2, 2, 6, 2), **HEAD), TOKENS),
    Wild("grouped dense layer by einsum", parts(lambda net, x: net.head(torch.einsum("ngd,gdk->ngk",
        x.unflatten(1, (3, 2)),
        net.w).tanh().flatten(1)), w=bare(3, 2, 2), head=linear(6, 2)), ROWS),
    Wild("tensor product by einsum", parts(lambda net, x: torch.einsum("ni,nj,kij->nk", x[:, :3], x[:, 3:], net.w),
        w=bare(2, 3, 3)),
        ROWS),
    Wild("matrix by tensordot", parts(lambda net, x: mean_of(net, torch.tensordot(x, net.w, dims=([2], [1]))),
        w=bare(4, 6), **HEAD),
        TOKENS),
    Wild("product and sum in place of a matmul", parts(lambda net, x: mean_of(net, (x[:, :, :, None] * net.w).sum(2)),
        w=bare(6, 4), **HEAD), TOKENS),
    Wild("bilinear", parts(lambda net, x: net.pair(net.a(x).tanh(), x), a=linear(6, 3),
        pair=lambda: nn.Bilinear(3, 6, 2)), ROWS),
    Wild("bilinear on tokens", parts(lambda net, x: net.pair(x.tanh(), net.a(x)).mean(1), a=linear(6, 3),
        pair=lambda: nn.Bilinear(6, 3, 2, bias=False)), TOKENS),
    Wild("experts by bmm", parts(experts_by_bmm, router=linear(6, 3), up=bare(3, 6, 4), down=bare(3, 4, 4), **HEAD),
        TOKENS),
    Wild("experts routed", parts(routed, router=linear(6, 3), experts=lambda: nn.ModuleList(mlp(6, 4,
        6) for _ in range(3)),
        head=linear(6, 2)), TOKENS),
    Wild("experts of one tensor routed", parts(routed_by_weight, router=linear(6, 3), experts=bare(3, 4, 6), **HEAD),
        TOKENS),
    Wild("experts gathered", parts(gathered, router=linear(6, 3), experts=bare(3, 3, 6)), ROWS),
    Wild("experts by einsum with a soft router", parts(lambda net, x: torch.einsum("ne,edk,nd->nk",
        net.router(x).softmax(1),
        net.experts, x), router=linear(6, 3), experts=bare(3, 6, 2)), ROWS),
    Wild("scaled embedding", parts(lambda net, t: mean_of(net, net.words(t)), words=lambda: ScaledEmbedding(5, 4),
        **HEAD), WORDS),
    Wild("positions of a subclass", parts(lambda net, t: mean_of(net, net.words(t) + net.places(t)),
        words=lambda: nn.Embedding(5, 4), places=lambda: LearnedPositions(5, 4), **HEAD), WORDS),
    Wild("positions of one row", parts(lambda net, t: mean_of(net, net.words(t) * net.places(torch.arange(3)[None])),
        words=lambda: nn.Embedding(5, 4), places=lambda: nn.Embedding(5, 4), **HEAD), WORDS),
    Wild("positions cut from a bare parameter", parts(lambda net, t: mean_of(net,
        net.words(t) + net.places[:, : t.shape[1]]),
        words=lambda: nn.Embedding(5, 4), places=bare(1, 5, 4), **HEAD), WORDS),
    Wild("words by indexing", parts(lambda net, t: mean_of(net, net.words[t]), words=bare(5, 4), **HEAD), WORDS),
    Wild("words by index_select", parts(lambda net, t: mean_of(net, net.words.index_select(0,
        t.flatten()).view(*t.shape, 4)),
        words=bare(5, 4), **HEAD), WORDS),
    Wild("words by F.embedding", parts(lambda net, t: mean_of(net, F.embedding(t, net.words)), words=bare(5, 4),
        **HEAD), WORDS),
    Wild("words by one-hot vectors", parts(lambda net, t: mean_of(net, net.words(t)), words=lambda: Vocabulary(5, 4),
        **HEAD), WORDS),
    Wild("words by gather", parts(lambda net, t: torch.gather(net.biases.expand(len(t), -1), 1, t), biases=bare(5)),
        WORDS),
    Wild("vocabulary tied to the head by hand", parts(lambda net, t: net.words(t).cumsum(1).tanh()[:,
        -1] @ net.words.weight.T,
        words=lambda: nn.Embedding(5, 4)), WORDS),
    Wild("vocabulary tied to the head, scaled", lambda: tied(Net(lambda net,
        t: net.head(net.words(t).cumsum(1).tanh()[:, -1]),
        words=ScaledEmbedding(5, 4), head=nn.Linear(4, 5, bias=False)), "head.weight", "words.weight"), WORDS),
    Wild("class token and places", parts(patches, patch=lambda: nn.Conv2d(2, 4, 2, 2), token=bare(1, 1, 4),
        places=bare(1, 5, 4),
        mix=linear(5, 5), **HEAD), IMAGES),
    Wild("prompts before words", parts(prompted, prompt=bare(2, 4), words=lambda: nn.Embedding(5, 4), **HEAD), WORDS),
    Wild("mixer over tokens and channels", parts(mixer, tokens=linear(3, 3), channels=linear(6, 6), head=linear(6, 2)),
        TOKENS),
    Wild("temperature and shift of the outputs", parts(lambda net, x: net.body(x) * net.logit.exp() + net.shift,
        body=linear(6, 3), logit=lambda: nn.Parameter(torch.tensor(0.3)), shift=bare(3)), ROWS),
    Wild("two towers and a temperature", parts(lambda net, x: F.normalize(net.a(x[:, :3]),
        dim=1) * F.normalize(net.b(x[:, 3:]),
        dim=1) * net.logit.exp(), a=linear(3, 3), b=linear(3, 3), logit=lambda: nn.Parameter(torch.tensor(0.3))), ROWS),
]
# fmt: on
