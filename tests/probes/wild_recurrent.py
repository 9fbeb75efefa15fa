"""Recurrent networks: torch's layers in all their ways, cells in loops, and cells by hand."""

from collections.abc import Callable
from typing import Any

import torch
from kernel_graphs import Net
from kernel_networks import tied
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from wild_case import Wild

TOKENS = (4, 3, 4)


def layer(kind: type[nn.RNNBase], d_in: int = 4, **options: Any) -> Callable[[], nn.Module]:
    """A recurrent layer and a head on all of its states."""
    first = not options.get("batch_first", False)
    width = (options.get("proj_size") or 3) * (2 if options.get("bidirectional") else 1)

    def run(net: Net, x: Tensor) -> Tensor:
        states, _ = net.recurrent(x.transpose(0, 1) if first else x)
        return net.head((states.transpose(0, 1) if first else states).flatten(1))

    return lambda: Net(run, recurrent=kind(d_in, 3, **options), head=nn.Linear(3 * width, 2))


def last_of(kind: type[nn.RNNBase], **options: Any) -> Callable[[], nn.Module]:
    """A head on the last state alone."""

    def run(net: Net, x: Tensor) -> Tensor:
        _, state = net.recurrent(x)
        return net.head((state[0] if isinstance(state, tuple) else state)[-1])

    return lambda: Net(run, recurrent=kind(4, 3, batch_first=True, **options), head=nn.Linear(3, 2))


def loop(cell: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    def run(net: Net, x: Tensor) -> Tensor:
        state = None
        for row in x.unbind(1):
            state = net.cell(row, state)
        return net.head(state[0] if isinstance(state, tuple) else state)

    return lambda: Net(run, cell=cell(), head=nn.Linear(3, 2))


def packed(net: Net, x: Tensor) -> Tensor:
    """Sequences of different lengths: as many rows as a point's own first number says."""
    lengths = (x[:, 0, 0] > 0).long() + 2
    rows = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
    states, _ = pad_packed_sequence(net.recurrent(rows)[0], batch_first=True, total_length=x.shape[1])
    return net.head(states.flatten(1))


def begun(net: Net, x: Tensor) -> Tensor:
    """From a state that is learned."""
    return net.head(net.recurrent(x, net.state.expand(-1, len(x), -1).contiguous())[0].tanh().mean(1))


def by_hand(net: Net, x: Tensor) -> Tensor:
    state = torch.zeros(len(x), 3, dtype=x.dtype, device=x.device)
    for row in x.unbind(1):
        forget = torch.sigmoid(row @ net.wf + state @ net.uf + net.bf)
        state = forget * state + (1 - forget) * torch.tanh(row @ net.wh + (forget * state) @ net.uh)
    return net.head(state)


def convolutional(net: Net, frames: Tensor) -> Tensor:
    state = cell = torch.zeros_like(frames[:, 0])
    for frame in frames.unbind(1):
        i, f, o, g = net.gates(torch.cat([frame, state], 1)).chunk(4, 1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        state = o.sigmoid() * cell.tanh()
    return net.head(state.flatten(1))


def read_and_write(net: Net, x: Tensor) -> Tensor:
    """An encoder's state begins a decoder, which looks back."""
    states, last = net.reader(x)
    written, _ = net.writer(x[:, :2].flip(1), last)
    looked = (written @ states.mT).softmax(2) @ states
    return net.head(torch.cat([written, looked], 2).tanh().mean(1))


def unrolled(net: Net, x: Tensor) -> Tensor:
    """One layer as many times as a point has tokens."""
    state = net.start.expand(len(x), -1)
    for row in x.unbind(1):
        state = net.step(torch.cat([row, state], 1)).tanh()
    return net.head(state)


def one_cell() -> nn.Module:
    cell = nn.GRUCell(4, 3)
    return Net(lambda net, x: net.head(net.b(x[:, 1], net.a(x[:, 0]))), a=cell, b=cell, head=nn.Linear(3, 2))


def one_lstm() -> nn.Module:
    layer = nn.LSTM(4, 4, batch_first=True)
    return Net(lambda net, x: net.head(net.b(net.a(x)[0])[0].tanh().mean(1)), a=layer, b=layer, head=nn.Linear(4, 2))


def bare(*shape: int) -> nn.Parameter:
    return nn.Parameter(0.5 * torch.randn(shape))


# fmt: off
RECURRENT = [
    Wild("lstm, tokens first", layer(nn.LSTM), TOKENS),
    Wild("lstm, batch first", layer(nn.LSTM, batch_first=True), TOKENS),
    Wild("lstm, two layers", layer(nn.LSTM, num_layers=2, batch_first=True), TOKENS),
    Wild("lstm, both directions", layer(nn.LSTM, bidirectional=True), TOKENS),
    Wild("lstm, two layers in both directions", layer(nn.LSTM, num_layers=2, bidirectional=True, batch_first=True),
        TOKENS,
        slow=True),
    Wild("lstm, projected", layer(nn.LSTM, proj_size=2, batch_first=True), TOKENS),
    Wild("lstm, projected in both directions", layer(nn.LSTM, proj_size=2, bidirectional=True), TOKENS, slow=True),
    Wild("lstm, no biases", layer(nn.LSTM, bias=False), TOKENS),
    Wild("lstm, dropout", layer(nn.LSTM, num_layers=2, dropout=0.5, batch_first=True), TOKENS),
    Wild("lstm, last state", last_of(nn.LSTM), TOKENS),
    Wild("lstm, one token", layer(nn.LSTM, batch_first=True), (3, 3, 4)),
    Wild("gru, tokens first", layer(nn.GRU), TOKENS),
    Wild("gru, tokens first, as many as points", layer(nn.GRU), (3, 3, 4)),
    Wild("gru, batch first, two layers", layer(nn.GRU, num_layers=2, batch_first=True), TOKENS),
    Wild("gru, both directions", layer(nn.GRU, bidirectional=True, batch_first=True), TOKENS),
    Wild("gru, last state", last_of(nn.GRU, num_layers=2), TOKENS),
    Wild("rnn", layer(nn.RNN, batch_first=True), TOKENS),
    Wild("rnn with relu, two layers", layer(nn.RNN, num_layers=2, nonlinearity="relu"), TOKENS),
    Wild("rnn, both directions, last state", last_of(nn.RNN, bidirectional=True), TOKENS),
    Wild("lstm cell in a loop", loop(lambda: nn.LSTMCell(4, 3)), TOKENS),
    Wild("gru cell in a loop", loop(lambda: nn.GRUCell(4, 3)), TOKENS),
    Wild("rnn cell in a loop", loop(lambda: nn.RNNCell(4, 3, nonlinearity="relu")), TOKENS),
    Wild("gru cell in a loop, no biases", loop(lambda: nn.GRUCell(4, 3, bias=False)), TOKENS),
    Wild("two lstms of the same weights", lambda: tied(tied(Net(lambda net, x: net.head(net.b(net.a(x)[0])[0].mean(1)),
        a=nn.LSTM(4, 4, batch_first=True), b=nn.LSTM(4, 4, batch_first=True), head=nn.Linear(4, 2)),
        "b.weight_ih_l0", "a.weight_ih_l0"), "b.weight_hh_l0", "a.weight_hh_l0"), TOKENS, slow=True),
    Wild("lstm of packed sequences", lambda: Net(packed, recurrent=nn.LSTM(4, 3, batch_first=True),
        head=nn.Linear(9, 2)),
        TOKENS),
    Wild("gru from a learned state", lambda: Net(begun, recurrent=nn.GRU(4, 3, batch_first=True), state=bare(1, 1, 3),
        head=nn.Linear(3, 2)), TOKENS),
    Wild("gru by hand", lambda: Net(by_hand, wf=bare(4, 3), uf=bare(3, 3), bf=bare(3), wh=bare(4, 3), uh=bare(3, 3),
        head=nn.Linear(3, 2)), TOKENS),
    Wild("convolutional lstm", lambda: Net(convolutional, gates=nn.Conv2d(2, 4, 3, padding=1), head=nn.Linear(9, 2)),
        (3, 2, 1, 3, 3)),
    Wild("reader and writer", lambda: Net(read_and_write, reader=nn.GRU(4, 3, batch_first=True),
        writer=nn.GRU(4, 3, batch_first=True), head=nn.Linear(6, 2)), TOKENS),
    Wild("one gru cell at two places", one_cell, TOKENS),
    Wild("one lstm at two places", one_lstm, TOKENS, slow=True),
    Wild("one layer unrolled", lambda: Net(unrolled, start=bare(1, 3), step=nn.Linear(7, 3), head=nn.Linear(3, 2)),
        TOKENS),
]
# fmt: on
