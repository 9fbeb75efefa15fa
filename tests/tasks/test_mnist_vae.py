"""The evidence lower bound against torch's own distributions, and which outputs the kernel is of."""

from pathlib import Path

import pytest
import torch
from published_files import write_idx
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal, kl_divergence
from torch.nn import functional as F

from tangentscope.models import MODELS
from tangentscope.tasks import Mnist, MnistVae, NetworkError

LATENT, PIXELS = 3, 8


def outputs_and_pixels(n: int = 5) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(n, PIXELS + 2 * LATENT, dtype=torch.float64), torch.rand(n, PIXELS, dtype=torch.float64)


def expected(outputs: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    logits, mean, log_variance = outputs.split([PIXELS, LATENT, LATENT], dim=1)
    likelihood = Bernoulli(logits=logits, validate_args=False).log_prob(pixels).sum(1)
    return -likelihood, kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(1)


def test_the_loss_is_the_negative_evidence_lower_bound():
    outputs, pixels = outputs_and_pixels()
    reconstruction, kl = expected(outputs, pixels)
    task = MnistVae()
    torch.testing.assert_close(task.loss(outputs, pixels), reconstruction + kl)
    assert task.score(outputs, pixels) == pytest.approx(-(reconstruction + kl).mean().item())
    found = task.further_scores(outputs, pixels)
    assert found == {
        "reconstruction": pytest.approx(reconstruction.mean().item()),
        "kl": pytest.approx(kl.mean().item()),
    }


def test_grey_pixels_count_as_the_mean_of_black_and_white_ones():
    """Over all binary images, weighed by their probability under the greys: the cross-entropy is linear in them."""
    outputs, pixels = outputs_and_pixels(n=1)
    binary = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * PIXELS)
    chances = torch.where(binary == 1, pixels, 1 - pixels).prod(1)
    mean = (chances * MnistVae().loss(outputs.expand(len(binary), -1), binary)).sum()
    torch.testing.assert_close(MnistVae().loss(outputs, pixels)[0], mean)


def test_a_posterior_that_is_the_prior_costs_nothing():
    outputs = torch.cat([torch.zeros(2, PIXELS), torch.zeros(2, 2 * LATENT)], 1)
    assert MnistVae().further_scores(outputs, torch.full((2, PIXELS), 0.5))["kl"] == 0
    assert MnistVae().loss(outputs, torch.rand(2, PIXELS)) == pytest.approx(PIXELS * torch.tensor(2.0).log().item())


def test_images_are_mnists_between_0_and_1_and_their_own_targets(tmp_path: Path):
    write_idx(tmp_path / "mnist/MNIST/raw")
    fields = {"train_size": 20, "test_size": 10, "data_seed": 3, "pad": 1}
    data, digits = MnistVae(**fields).load(tmp_path), Mnist(**fields).load(tmp_path)
    assert (data.input_shape, data.outputs, data.source) == ((1, 30, 30), 900, digits.source)
    for mine, theirs in [(data.train, digits.train), (data.test, digits.test)]:
        torch.testing.assert_close(mine.inputs, theirs.inputs * Mnist.std[0] + Mnist.mean[0], rtol=0, atol=1e-6)
        assert mine.inputs.min() >= 0
        assert mine.inputs.max() == 1
        assert torch.equal(mine.targets, mine.inputs.flatten(1))
        assert mine.targets.data_ptr() == mine.inputs.data_ptr(), "held once"


@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_the_kernel_is_of_the_mean_image_at_the_mean_code(kind: str):
    torch.manual_seed(0)
    network = MODELS["vae"].model_validate({"name": "vae", "kind": kind, "width": 4}).build((1, 7, 7), 49)
    images = torch.rand(3, 1, 7, 7)
    observed = MnistVae().observed(network)
    assert {id(p) for p in observed.parameters()} == {id(p) for p in network.parameters()}
    means = observed(images)
    assert torch.equal(means, observed(images)), "nothing is drawn"
    code = network(images)[:, 49:69]
    torch.testing.assert_close(means, network.decode(code).sigmoid())  # pyright: ignore
    reconstruction = F.binary_cross_entropy_with_logits(network.decode(code), images.flatten(1), reduction="none")  # pyright: ignore
    torch.testing.assert_close(MnistVae().observed_loss(means, images.flatten(1)), reconstruction.sum(1))


def test_a_network_of_another_kind_is_refused():
    with pytest.raises(NetworkError, match=r"^task mnist_vae needs .* got a Sequential without: choose the model vae$"):
        MnistVae().observed(nn.Sequential(nn.Flatten(), nn.Linear(784, 784)))
