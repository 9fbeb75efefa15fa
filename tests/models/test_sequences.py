"""Networks of sequences: against torch's and by definition; padding changes nothing."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tangentscope.models import LSTM, MODELS, S4D, ModelError, Transformer
from tangentscope.probes import tangent_kernel
from tangentscope.tasks import Greek

COUNTS = (9, 5, 7)
STEPS, TAGS = 6, 4
FIELDS: dict[str, dict[str, Any]] = {
    "transformer": {"dim": 8, "heads": 2, "positions": "sinusoidal"},
    "lstm": {"dim": 8, "depth": 2},
    "s4d": {"dim": 8, "modes": 3},
}


def built(name: str, steps: int = STEPS, **fields: Any) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS[name](name=name, **FIELDS[name] | fields)
    return model.network((steps, len(COUNTS)), TAGS, {"words": COUNTS}).double().eval()


def sentences(padding: int = 0) -> Tensor:
    """Of six, two and five words."""
    torch.manual_seed(1)
    codes = torch.stack([torch.randint(1, count, (3, STEPS)) for count in COUNTS], 2)
    codes[1, 2:], codes[2, 5:] = 0, 0
    return torch.cat([codes, codes.new_zeros(3, padding, len(COUNTS))], 1)


@pytest.mark.parametrize("name", FIELDS)
def test_padding_changes_nothing(name: str):
    network, wider, task = built(name), built(name, STEPS + 4), Greek()
    parameters = network.state_dict()
    parameters.pop("encoder.positions", None)
    wider.load_state_dict(parameters, strict=False)
    codes, padded = sentences(), sentences(4)
    targets = torch.where(padded[..., 0] > 0, padded[..., 1] % TAGS, -1)
    outputs, more = network(codes), wider(padded)
    assert outputs.shape == (3, STEPS, TAGS)
    assert (more[padded[..., 0] == 0] == 0).all()
    torch.testing.assert_close(more[:, :STEPS], outputs)
    torch.testing.assert_close(task.loss(more, targets), task.loss(outputs, targets[:, :STEPS]))
    kernels = [tangent_kernel(task.observed(net), x) for net, x in ((network, codes), (wider, padded))]
    torch.testing.assert_close(*kernels)
    traces = [tangent_kernel(net, x).trace() for net, x in ((network, codes), (wider, padded))]
    torch.testing.assert_close(*traces)


@pytest.mark.parametrize("name", FIELDS)
def test_each_word_hears_of_all_others_and_of_its_place(name: str):
    network, codes = built(name), sentences()[:1]
    with torch.no_grad():
        outputs = network(codes)
        for place in range(STEPS):
            changed = codes.clone()
            changed[0, place, 0] = 1 + codes[0, place, 0] % (COUNTS[0] - 1)
            assert ((network(changed) - outputs).abs().amax(2) > 1e-9).all()
        swapped = codes[:, [1, 0, 2, 3, 4, 5]]
        assert (network(swapped)[:, [1, 0, 2, 3, 4, 5]] - outputs).abs().max() > 1e-6


@pytest.mark.parametrize("name", FIELDS)
def test_dropout_is_of_training_only(name: str):
    network, codes = built(name, dropout=0.5), sentences()
    assert torch.equal(network(codes), network(codes))
    network.train()
    assert not torch.equal(network(codes), network(codes))


def test_a_layer_of_memory_cells_is_torchs():
    both = built("lstm", depth=1).encoder.layers[0]
    theirs = nn.LSTM(8, 4, batch_first=True, bidirectional=True).double()
    order = torch.cat([torch.arange(4) + 4 * "fiog".index(gate) for gate in "ifgo"])  # theirs
    state = {}
    for ending, cells in (("", both.forwards), ("_reverse", both.backwards)):
        state |= {
            f"weight_ih_l0{ending}": cells.inputs.weight[order],
            f"bias_ih_l0{ending}": cells.inputs.bias[order],
            f"weight_hh_l0{ending}": cells.recurrent.weight[order],
            f"bias_hh_l0{ending}": torch.zeros(16),
        }
    theirs.load_state_dict(state)
    x, lengths = torch.randn(3, 6, 8).double(), torch.tensor([6, 2, 5])
    there = (torch.arange(6) < lengths[:, None]).double()
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(theirs(packed)[0], batch_first=True)
    found = both(x, there)
    torch.testing.assert_close(found * there[..., None], expected)


def test_forget_gates_start_open():
    cells = LSTM(dim=8).build((1, 4, 4), 2).encoder.layers[0].forwards
    assert (cells.inputs.bias[:4] == 1).all()
    assert (cells.inputs.bias[4:] != 1).all()


def test_the_block_is_torchs_encoder_layer():
    network = built("transformer", depth=1)
    block = network.encoder.blocks[0]
    theirs = nn.TransformerEncoderLayer(8, 2, 16, dropout=0, activation="gelu", batch_first=True, norm_first=True)
    attention = block.attention
    parts = (attention.queries, attention.keys, attention.values)
    state = {f"self_attn.in_proj_{kind}": torch.cat([getattr(p, kind) for p in parts]) for kind in ("weight", "bias")}
    pairs = {"self_attn.out_proj": attention.out, "linear1": block.mlp[0], "linear2": block.mlp[2]}
    for name, layer in {**pairs, "norm1": block.norm_1, "norm2": block.norm_2}.items():
        state |= {f"{name}.weight": layer.weight, f"{name}.bias": layer.bias}
    theirs.load_state_dict(state)
    theirs = theirs.double().train()  # in eval mode it takes another path, which zeroes padding
    there = (torch.arange(5) < torch.tensor([[5], [2]])).double()
    x = torch.randn(2, 5, 8).double()
    expected = theirs(x, src_key_padding_mask=there == 0)
    torch.testing.assert_close(block(x, there)[there > 0], expected[there > 0])


def test_positions_are_sines_of_ever_longer_waves():
    positions = (
        Transformer(dim=6, heads=1, positions="sinusoidal").network((50, 1), 2, {"words": (3,)}).encoder.positions
    )
    place = torch.arange(50.0)
    torch.testing.assert_close(positions[:, 0], place.sin())
    torch.testing.assert_close(positions[:, 1], (place / 100).sin())
    torch.testing.assert_close(positions[:, 5], (place / 10_000).cos())


def test_state_spaces_are_their_recurrence():
    """x_t = exp(ΔA) x_{t−1} + (exp(ΔA) − 1)/A u_t; y_t = 2 Re C x_t, and the same from the end, and D u_t."""
    layer = built("s4d").encoder.blocks[0].responses
    u = torch.randn(2, 7, 8).double()
    poles = torch.complex(-layer.log_decay.exp(), layer.frequency)
    factor = (layer.log_step.exp()[:, None] * poles).exp()
    after, before = torch.view_as_complex(layer.readout)
    expected = layer.skip * u
    for readout, order, own in ((after, range(7), True), (before, range(6, -1, -1), False)):
        state = torch.zeros(2, 8, 3, dtype=torch.complex128)
        for step in order:
            driven = factor * state + (factor - 1) / poles * u[:, step, :, None]
            heard = driven if own else factor * state
            expected[:, step] += 2 * (readout * heard).sum(-1).real
            state = driven
    torch.testing.assert_close(layer(u), expected)


def test_state_spaces_start_as_s4d_lin():
    layer = S4D(dim=200, modes=4).build((1, 4, 4), 2).encoder.blocks[0].responses
    torch.testing.assert_close(layer.log_decay.exp(), torch.full((200, 4), 0.5))
    torch.testing.assert_close(layer.frequency[7], torch.pi * torch.arange(4.0))
    steps = layer.log_step.exp()
    assert 1e-3 <= steps.min() < 2e-3
    assert 5e-2 < steps.max() <= 1e-1


@pytest.mark.parametrize("name", ["lstm", "s4d"])
def test_images_are_read_row_by_row(name: str):
    torch.manual_seed(0)
    network = MODELS[name](name=name, dim=8, depth=2).build((2, 5, 3), 4).eval()
    assert network.embedding.in_features == 2 * 3
    x = torch.randn(4, 2, 5, 3)
    assert network(x).shape == (4, 4)
    moved = x[:, :, [1, 0, 2, 3, 4]]
    assert not torch.allclose(network(moved), network(x), atol=1e-4)


def test_errors_say_what_to_do():
    with pytest.raises(ModelError, match=r"transformer takes codes, such as words, got numbers"):
        Transformer().network((1, 8, 8), 2, {})
    with pytest.raises(ModelError, match=r"lstm takes sequences .* of codes, got nodes, edges of shape \[3\]: choose"):
        LSTM().network((3,), 2, {"nodes": (3,), "edges": (2,)})
    with pytest.raises(ModelError, match=r"s4d takes images .*, got inputs of shape \[9\]: choose another"):
        S4D().network((9,), 2, {})
    with pytest.raises(ValueError, match="heads must divide dim, got dim 10 and heads 4"):
        Transformer(dim=10)
