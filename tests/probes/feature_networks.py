"""Networks that end in one linear layer in some way or other, and networks that do not."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

D, P, C = 6, 8, 3

Head = Callable[["Ending", Tensor], Tensor]


class Ending(nn.Module):
    """tanh of a dense layer, of which ``head`` makes the outputs."""

    def __init__(self, head: Head):
        super().__init__()
        self.hidden = nn.Linear(D, P)
        self.w, self.b = nn.Parameter(torch.randn(C, P)), nn.Parameter(torch.randn(C))
        self.head = head

    def features(self, x: Tensor) -> Tensor:
        return torch.tanh(self.hidden(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self, self.features(x))


def two(h: Tensor) -> Tensor:
    """Two positions of each point: what is looked for, and another."""
    return torch.stack([h, h.square()], 1)


# By name: the outputs, and which of w's rows make them, times what.
ENDINGS: dict[str, tuple[Head, Callable[[Ending], Tensor]]] = {
    "linear": (lambda m, h: F.linear(h, m.w, m.b), lambda m: m.w),
    "linear without bias": (lambda m, h: F.linear(h, m.w), lambda m: m.w),
    "matmul": (lambda m, h: h @ m.w.T + m.b, lambda m: m.w),
    "weight first": (lambda m, h: (m.w @ h.T).T + m.b, lambda m: m.w),
    "vector": (lambda m, h: h @ m.w[0], lambda m: m.w[:1]),
    "einsum": (lambda m, h: torch.einsum("np,cp->nc", h, m.w), lambda m: m.w),
    "stack of one": (lambda m, h: torch.baddbmm(m.b, h[None], m.w.T[None], alpha=2)[0], lambda m: 2 * m.w),
    "addmm": (lambda m, h: torch.addmm(m.b, h, m.w.T, alpha=2, beta=0.5), lambda m: 2 * m.w),
    "1×1 convolution": (lambda m, h: F.conv2d(h[:, :, None, None], m.w[:, :, None, None], m.b), lambda m: m.w),
    "whole window": (lambda m, h: F.conv2d(h.view(-1, 2, 2, 2), m.w.view(C, 2, 2, 2)).flatten(1), lambda m: m.w),
    "scaled": (lambda m, h: 0.3 * (h @ m.w.T) - m.b, lambda m: 0.3 * m.w),
    "scaled by a parameter": (lambda m, h: (h @ m.w.T) / m.b.exp(), lambda m: m.w / m.b.exp()[:, None]),
    "subtracted": (lambda m, h: 1 - h @ m.w.T, lambda m: -m.w),
    "some outputs": (lambda m, h: (h @ m.w.T)[:, 1:], lambda m: m.w[1:]),
    "outputs in another order": (lambda m, h: (h @ m.w.T)[:, [2, 0, 1]], lambda m: m.w[[2, 0, 1]]),
    "flipped": (lambda m, h: (h @ m.w.T).flip(1), lambda m: m.w.flip(0)),
    "one of two heads": (lambda m, h: torch.cat([torch.sin(h) @ m.w.T, h @ m.w.T], 1)[:, C:], lambda m: m.w),
    "normalised weight": (lambda m, h: h @ F.normalize(m.w, dim=1).T, lambda m: F.normalize(m.w, dim=1)),
    "first position": (lambda m, h: F.linear(two(h), m.w, m.b)[:, 0], lambda m: m.w),
    "a position by index": (
        lambda m, h: F.linear(two(h), m.w, m.b)[torch.arange(len(h)), torch.zeros(len(h), dtype=torch.int64)],
        lambda m: m.w,
    ),
    "outputs of two dimensions": (lambda m, h: F.linear(h, m.w, m.b).unflatten(1, (3, 1)), lambda m: m.w),
}

# By name: the outputs, and a part of the refusal.
REFUSED: dict[str, tuple[Head, str]] = {
    "probabilities": (lambda m, h: (h @ m.w.T).log_softmax(-1), "come of log_softmax"),
    "sigmoid": (lambda m, h: torch.sigmoid(h @ m.w.T), "come of sigmoid"),
    "nonlinear": (lambda m, h: h, "come of tanh"),
    "two heads": (lambda m, h: torch.cat([h @ m.w.T, torch.sin(h) @ m.w.T], 1), "come of 2 layers, joined by cat"),
    "sum of two heads": (lambda m, h: h @ m.w.T + h.square() @ m.w.T, "come of 2 layers, joined by add"),
    "every position": (lambda m, h: F.linear(two(h), m.w, m.b), "several rows"),
    "pooled": (lambda m, h: F.linear(two(h), m.w, m.b).mean(1), "come of mean"),
    "scaled by data": (lambda m, h: (h @ m.w.T) * h.detach()[:, :C], "scaled by what depends on the data"),
    "data added": (lambda m, h: h @ m.w.T + h.detach()[:, :C], "nothing else to be added that depends on the data"),
    "convolution over an image": (
        lambda m, h: F.conv2d(h.view(-1, 2, 2, 2), m.w[:, :2, None, None]).flatten(1),
        "at several positions",
    ),
    "a weight of each point": (lambda m, h: (h[:, None] @ (h[..., None] * m.w.T))[:, 0], "no factor is a parameter"),
    "a weight of all points": (lambda m, h: h @ (h.mean(0) * m.w).T, "other points of the batch"),
    "a table": (lambda m, h: 0 * h[:, :C].detach() + m.b, "come of add"),
}
