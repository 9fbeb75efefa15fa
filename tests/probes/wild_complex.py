"""Networks of real parameters that compute with complex numbers on the way."""

import torch
import torch.nn.functional as F
from kernel_graphs import Net
from torch import Tensor, nn
from wild_case import Wild

ROWS, TOKENS, IMAGES = (3, 6), (3, 4, 6), (3, 2, 4, 4)


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape))


class Spectral(nn.Module):
    """A real scale on a spectrum."""

    def __init__(self):
        super().__init__()
        self.l, self.s = nn.Linear(6, 6), nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.irfft(torch.fft.rfft(self.l(x)) * self.s, n=6)


def complexes(real: Tensor, imaginary: Tensor | None = None) -> Tensor:
    return torch.complex(real, torch.zeros_like(real) if imaginary is None else imaginary)


def filtered(net: Net, x: Tensor) -> Tensor:
    """A global filter, real numbers read as complex ones."""
    spectrum = torch.fft.rfft2(net.conv(x), norm="ortho") * torch.view_as_complex(net.filter)
    return net.head(torch.fft.irfft2(spectrum, s=(4, 4), norm="ortho").tanh().flatten(1))


def rotary(net: Net, x: Tensor) -> Tensor:
    """Queries and keys turned by phases that are learned."""

    def turned(rows: Tensor) -> Tensor:
        pairs = torch.view_as_complex(rows.unflatten(2, (2, 2)).contiguous())
        places = torch.arange(rows.shape[1], dtype=rows.dtype, device=rows.device)
        return torch.view_as_real(
            pairs * torch.polar(torch.ones_like(net.phases), places[:, None] * net.phases)
        ).flatten(2)

    scores = turned(net.q(x)) @ turned(net.k(x)).transpose(1, 2)
    return net.head((scores.softmax(2) @ x).mean(1))


def state_space(net: Net, x: Tensor) -> Tensor:
    """A diagonal state space: decays and frequencies are real parameters, the states complex."""
    step = torch.complex(-net.decay.exp(), net.frequency).exp()
    state = torch.zeros(len(x), 3, dtype=step.dtype, device=x.device)
    for row in x.unbind(1):
        state = step * state + net.b(row)
    return net.head((state * torch.view_as_complex(net.c)).real)


def dense(net: Net, x: Tensor) -> Tensor:
    """A complex dense layer of two real matrices, and a modulus in place of an activation."""
    z = complexes(net.first(x), x)
    z = complexes(net.real(z.real) - net.imaginary(z.imag), net.real(z.imag) + net.imaginary(z.real))
    return torch.cat([z.abs(), z.angle()], 1)


def fourier_mixing(net: Net, x: Tensor) -> Tensor:
    return net.head(torch.fft.fft2(net.body(x)).real.tanh().mean(1))


def windowed(net: Net, x: Tensor) -> Tensor:
    return torch.stft(net.layer(x), 4, 2, window=net.window, return_complex=True, center=False).abs().flatten(1)


def convolved(net: Net, x: Tensor) -> Tensor:
    """A long convolution by the Fourier transform."""
    spectrum = torch.fft.rfft(x, n=8, dim=1) * torch.fft.rfft(net.kernel, n=8, dim=0)
    return net.head(torch.fft.irfft(spectrum, n=8, dim=1)[:, :4].tanh().mean(1))


def polar(net: Net, x: Tensor) -> Tensor:
    z = torch.fft.rfft(net.l(x)) * net.s
    return torch.cat([z.abs(), z.angle()], 1)


def conjugated(net: Net, x: Tensor) -> Tensor:
    z = torch.fft.fft(net.l(x))
    return (net.s * z * z.roll(1, 1).conj()).imag


def widened(net: Net, x: Tensor) -> Tensor:
    """A real matrix made complex."""
    return F.linear(torch.fft.fft(x), complexes(net.l.weight)).abs()


def on_both_parts(net: Net, x: Tensor) -> Tensor:
    z = torch.fft.rfft(x)
    return net.l(z.real).square() + net.l(z.imag).square()


def net(run, **parts):
    return lambda: Net(run, **{name: part() for name, part in parts.items()})


def linear(d_in: int, d_out: int):
    return lambda: nn.Linear(d_in, d_out)


def bare(*shape: int):
    return lambda: parameter(*shape)


# fmt: off
COMPLEX = [
    Wild("real scale on a spectrum", Spectral, ROWS),
    Wild("real scale on a spectrum, one point", Spectral, (1, 6)),
    Wild("real scale on a spectrum, two points", Spectral, (2, 6)),
    Wild("real shift of a spectrum", net(lambda net, x: torch.fft.irfft(torch.fft.rfft(net.l(x)) + net.s, n=6),
        l=linear(6, 6), s=bare(4)), ROWS),
    Wild("real scale and shift of a spectrum, over channels",
        net(lambda net, x: net.head(torch.fft.ifft(torch.fft.fft(net.conv(x)) * net.scale + net.shift).real.mean(2)),
        conv=lambda: nn.Conv1d(4, 3, 1), scale=bare(3, 1), shift=bare(6), head=linear(3, 2)), TOKENS),
    Wild("global filter", net(filtered, conv=lambda: nn.Conv2d(2, 2, 1), filter=bare(2, 4, 3, 2), head=linear(32, 2)),
        IMAGES),
    Wild("global filter, one point", net(filtered, conv=lambda: nn.Conv2d(2, 2, 1), filter=bare(2, 4, 3, 2),
        head=linear(32, 2)), (1, 2, 4, 4)),
    Wild("complex weight of two real ones", net(lambda net, x: torch.fft.irfft(torch.fft.rfft(net.l(x))
        * torch.complex(net.a, net.b), n=6), l=linear(6, 6), a=bare(4), b=bare(4)), ROWS),
    Wild("complex matrix of two real ones", net(lambda net, x: (complexes(x) @ torch.complex(net.a, net.b)).abs(),
        a=bare(6, 3), b=bare(6, 3)), ROWS),
    Wild("complex matrix between complex rows", net(lambda net, x: (torch.fft.fft(net.l(x)) @ torch.complex(net.a,
        net.b)).real,
        l=linear(6, 5), a=bare(5, 3), b=bare(5, 3)), ROWS),
    Wild("complex einsum", net(lambda net, x: torch.fft.irfft(torch.einsum("nct,cdt->ndt", torch.fft.rfft(x),
        torch.view_as_complex(net.w)), n=6).tanh().mean(2), w=bare(4, 3, 4, 2)), TOKENS),
    Wild("complex einsum with a real matrix", net(lambda net, x: torch.einsum("nt,td->nd", torch.fft.fft(net.l(x)),
        net.w.to(torch.complex(net.w, net.w).dtype)).abs(), l=linear(6, 5), w=bare(5, 3)), ROWS),
    Wild("learned phases of rotary places", net(rotary, q=linear(6, 4), k=linear(6, 4), phases=bare(2),
        head=linear(6, 2)), TOKENS),
    Wild("learned phase factors", net(lambda net, x: (torch.fft.fft(net.l(x)) * torch.exp(1j * net.phase)).real,
        l=linear(6, 5),
        phase=bare(5)), ROWS),
    Wild("diagonal state space", net(state_space, decay=bare(3), frequency=bare(3), b=linear(6, 3), c=bare(3, 2),
        head=linear(3, 2)), TOKENS),
    Wild("complex dense layer", net(dense, first=linear(6, 6), real=linear(6, 4), imaginary=linear(6, 4)), ROWS),
    Wild("mixing by the Fourier transform", net(fourier_mixing, body=linear(6, 4), head=linear(4, 2)), TOKENS),
    Wild("modulus and angle", net(polar, l=linear(6, 6), s=bare(4)), ROWS),
    Wild("real and imaginary parts", net(lambda net,
        x: torch.view_as_real(torch.fft.rfft(net.l(x)) + net.s).flatten(1).sin(),
        l=linear(6, 5), s=bare(3)), ROWS),
    Wild("product with a conjugate", net(conjugated, l=linear(6, 5), s=bare(5)), ROWS),
    Wild("learned window", net(windowed, layer=linear(6, 8), window=bare(4)), ROWS),
    Wild("long convolution", net(convolved, kernel=bare(4, 6), head=linear(6, 2)), TOKENS),
    Wild("real layer used on complex numbers", net(widened, l=lambda: nn.Linear(6, 3, bias=False)), ROWS),
    Wild("real layer on both parts", net(on_both_parts, l=linear(4, 3)), ROWS),
    Wild("real number times a spectrum", net(lambda net, x: torch.fft.rfft(net.l(x) * net.s.exp()).mul(net.s).abs(),
        l=linear(6, 5), s=lambda: nn.Parameter(torch.tensor(0.5))), ROWS),
]
# fmt: on
