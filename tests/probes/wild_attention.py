"""Attention in all its forms, by nn.MultiheadAttention and by hand."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from kernel_graphs import Net
from torch import Tensor, nn
from wild_case import Wild

TOKENS = (4, 3, 4)


def multihead(run: Callable[[Net, Tensor], tuple[Tensor, Tensor | None]] | None = None, **options: Any):
    """A network of one multi-head attention; a token may look at what ``run`` says."""

    def forward(net: Net, x: Tensor) -> Tensor:
        x = net.first(x)
        if run is not None:
            rows, weights = run(net, x)
        else:
            rows, weights = net.attention(x, x, x, need_weights=False)
        return net.head(rows.tanh().mean(1)) + (0 if weights is None else weights.sum((1, 2), keepdim=True)[:, 0])

    options = {"embed_dim": 4, "num_heads": 2, "batch_first": True, **options}
    return lambda: Net(forward, first=nn.Linear(4, 4), attention=nn.MultiheadAttention(**options), head=nn.Linear(4, 2))


def tokens_first(net: Net, x: Tensor) -> tuple[Tensor, None]:
    y = x.transpose(0, 1)
    return net.attention(y, y, y, need_weights=False)[0].transpose(0, 1), None


def across(net: Net, x: Tensor) -> tuple[Tensor, None]:
    """Keys and values of another width than the queries."""
    return net.attention(x, x[:, :2, :3], x[:, :2, 1:3], need_weights=False)[0], None


def weights_wanted(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
    rows, weights = net.attention(x, x, x)
    return rows, weights.square()


def weights_of_heads(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
    rows, weights = net.attention(x, x, x, average_attn_weights=False)
    return rows, weights.prod(1)


def causal(net: Net, x: Tensor) -> tuple[Tensor, None]:
    mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype)
    return net.attention(x, x, x, attn_mask=mask, is_causal=True, need_weights=False)[0], None


def padded(net: Net, x: Tensor) -> tuple[Tensor, None]:
    return net.attention(x, x, x, key_padding_mask=x[:, :, 0] > x[:, :, 0].mean(1, keepdim=True), need_weights=False)[
        0
    ], None


def pooled(net: Net, x: Tensor) -> tuple[Tensor, None]:
    """One learned query."""
    return net.attention(x.mean(1, keepdim=True), x, x, need_weights=False)[0], None


def encoder(layers: int = 1, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        layer = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True, **options)
        encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        return Net(lambda net, x: net.head(net.encoder(x).mean(1)), encoder=encoder, head=nn.Linear(4, 2))

    return build


def encoder_of_one_layer() -> nn.Module:
    """The same layer twice, as ALBERT has it."""
    layer = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True)
    return Net(lambda net, x: net.head(net.layers(x).mean(1)), layers=nn.Sequential(layer, layer), head=nn.Linear(4, 2))


def decoder() -> nn.Module:
    return Net(
        lambda net, x: net.head(net.decoder(x[:, :2], x).tanh().mean(1)),
        decoder=nn.TransformerDecoderLayer(4, 2, 6, batch_first=True),
        head=nn.Linear(4, 2),
    )


def whole() -> nn.Module:
    return Net(
        lambda net, x: net.head(net.both(x, x[:, :2]).mean(1)),
        both=nn.Transformer(4, 2, 1, 1, 6, batch_first=True),
        head=nn.Linear(4, 2),
    )


def split(rows: Tensor) -> Tensor:
    return rows.unflatten(2, (2, 2)).transpose(1, 2)


def merged(rows: Tensor) -> Tensor:
    return rows.transpose(1, 2).flatten(2)


def by_hand(mix: Callable[[Net, Tensor, Tensor, Tensor], Tensor], **more: Callable[[], nn.Module | nn.Parameter]):
    """Queries, keys and values of their own layers, their mixing as asked."""

    def run(net: Net, x: Tensor) -> Tensor:
        rows = mix(net, split(net.q(x)), split(net.k(x)), split(net.v(x)))
        return net.head(net.out(merged(rows)).tanh().mean(1))

    square = dict.fromkeys(("q", "k", "v", "out"), lambda: nn.Linear(4, 4))
    made = {**square, "head": lambda: nn.Linear(4, 2), **more}
    return lambda: Net(run, **{name: make() for name, make in made.items()})


def softmax(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """Keys' biases have gradients of exactly zero under it."""
    return (q @ k.mT / 2**0.5 + bias).softmax(3) @ v


def normed(net: Net, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(net.norm(q), net.norm(k), v)


def cosine(net: Net, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = F.normalize(q, dim=3) @ F.normalize(k, dim=3).mT
    return (scores * net.scale.clamp(max=4).exp()).softmax(3) @ v


def relative(net: Net, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Swin's table of relative places."""
    index = torch.arange(3)[:, None] - torch.arange(3) + 2
    return softmax(q, k, v, net.table[index.flatten()].view(3, 3, 2).permute(2, 0, 1))


def bucketed(net: Net, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """T5's bias, embedded."""
    index = (torch.arange(3)[:, None] - torch.arange(3)).clamp(min=0)
    return softmax(q, k, v, net.bias(index).permute(2, 0, 1)[None])


def decomposed(net: Net, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Transformer-XL's two biases of queries."""
    places = net.places.expand(2, -1, -1)
    scores = (q + net.u[:, None]) @ k.mT + (q + net.w[:, None]) @ places.mT
    return scores.softmax(3) @ v


def talking(net: Net, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = net.before(q @ k.mT).softmax(3)
    return net.after(scores) @ v


def linear(net: Net, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k = F.elu(q) + 1, F.elu(k) + 1
    return q @ (k.mT @ v) / (q @ k.sum(2, keepdim=True).mT)


def with_sinks(net: Net, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """A learned score that takes of the attention and gives nothing."""
    scores = torch.cat([q @ k.mT, net.sink[:, None, None].expand(len(q), -1, 3, 1)], 3)
    return scores.softmax(3)[..., :3] @ v


def grouped(net: Net, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k[:, :1], v[:, :1], enable_gqa=True)


def gated(net: Net, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return softmax(q, k, v) * net.gate(q).sigmoid()


def bare(*shape: int) -> Callable[[], nn.Parameter]:
    return lambda: nn.Parameter(0.5 * torch.randn(shape))


# fmt: off
ATTENTION = [
    Wild("multi-head attention, packed", multihead(), TOKENS),
    Wild("multi-head attention, no bias", multihead(bias=False), TOKENS),
    Wild("multi-head attention, one head", multihead(num_heads=1), TOKENS),
    Wild("multi-head attention, tokens first", multihead(tokens_first, batch_first=False), TOKENS),
    Wild("multi-head attention, tokens first, as many as points", multihead(tokens_first, batch_first=False),
        (3, 3, 4)),
    Wild("multi-head attention, other widths of keys and values", multihead(across, kdim=3, vdim=2), TOKENS),
    Wild("multi-head attention, a key and a value more", multihead(add_bias_kv=True), TOKENS),
    Wild("multi-head attention, a key of zeros more", multihead(add_zero_attn=True), TOKENS),
    Wild("multi-head attention, weights wanted", multihead(weights_wanted), TOKENS),
    Wild("multi-head attention, weights of heads wanted", multihead(weights_of_heads), TOKENS),
    Wild("multi-head attention, causal", multihead(causal), TOKENS),
    Wild("multi-head attention, keys padded", multihead(padded), TOKENS),
    Wild("multi-head attention, one query", multihead(pooled), TOKENS),
    Wild("multi-head attention of a token to itself", multihead(), (4, 1, 4)),
    Wild("encoder of two layers", encoder(2), TOKENS, slow=True),
    Wild("encoder, norm first, GELU", encoder(norm_first=True, activation="gelu"), TOKENS),
    Wild("encoder, no biases", encoder(bias=False), TOKENS),
    Wild("encoder of one layer twice", encoder_of_one_layer, TOKENS),
    Wild("decoder layer", decoder, TOKENS),
    Wild("encoder and decoder", whole, TOKENS, slow=True),
    Wild("attention by softmax", by_hand(lambda net, q, k, v: softmax(q, k, v)), TOKENS),
    Wild("attention by softmax, many tokens", by_hand(lambda net, q, k, v: softmax(q, k, v)), (3, 9, 4)),
    Wild("attention of a token to itself", by_hand(lambda net, q, k, v: softmax(q, k, v)), (4, 1, 4)),
    Wild("scaled dot products", by_hand(lambda net, q, k, v: F.scaled_dot_product_attention(q, k, v)), TOKENS),
    Wild("scaled dot products, causal", by_hand(lambda net, q, k, v: F.scaled_dot_product_attention(q, k, v,
        is_causal=True)),
        TOKENS),
    Wild("scaled dot products, a learned mask",
        by_hand(lambda net, q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=net.mask), mask=bare(2, 3, 3)),
        TOKENS),
    Wild("scaled dot products of a token to itself", by_hand(lambda net, q, k,
        v: F.scaled_dot_product_attention(q, k, v)),
        (4, 1, 4)),
    Wild("scaled dot products, shared keys", by_hand(grouped), TOKENS),
    Wild("queries and keys normed", by_hand(normed, norm=lambda: nn.LayerNorm(2, eps=0.1)), TOKENS),
    Wild("queries and keys normed by rms", by_hand(normed, norm=lambda: nn.RMSNorm(2)), TOKENS),
    Wild("cosine attention", by_hand(cosine, scale=bare(2, 1, 1)), TOKENS),
    Wild("relative places of a table", by_hand(relative, table=bare(5, 2)), TOKENS),
    Wild("relative places embedded", by_hand(bucketed, bias=lambda: nn.Embedding(3, 2)), TOKENS),
    Wild("biases of queries", by_hand(decomposed, u=bare(2, 2), w=bare(2, 2), places=bare(3, 2)), TOKENS),
    Wild("talking heads", by_hand(talking, before=lambda: nn.Conv2d(2, 2, 1), after=lambda: nn.Conv2d(2, 2, 1)),
        TOKENS),
    Wild("linear attention", by_hand(linear), TOKENS),
    Wild("attention with sinks", by_hand(with_sinks, sink=bare(2)), TOKENS),
    Wild("gated attention", by_hand(gated, gate=lambda: nn.Linear(2, 2)), TOKENS),
    Wild("attention pooling with a class token", lambda: Net(lambda net, x: net.head(net.attention(
        net.query.expand(len(x), -1, -1), x, x)[0][:, 0]), query=nn.Parameter(torch.randn(1, 1, 4)),
        attention=nn.MultiheadAttention(4, 2, batch_first=True), head=nn.Linear(4, 2)), TOKENS),
]
# fmt: on
