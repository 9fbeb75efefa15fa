"""MNIST for variational auto-encoders (Kingma and Welling 2014): describe an image by few numbers, draw it again."""

from pathlib import Path
from typing import ClassVar, Literal, Protocol, runtime_checkable

from torch import Tensor, nn
from torch.nn import functional as F

from tangentscope.tasks.data import Split, TaskData
from tangentscope.tasks.errors import NetworkError
from tangentscope.tasks.mnist import MnistImages


@runtime_checkable
class Autoencoder(Protocol):
    """The two halves of a variational auto-encoder."""

    def mean(self, inputs: Tensor) -> Tensor:
        """Mean `[n, latent]` of q(z | x) for images `[n, channels, height, width]`."""
        ...

    def decode(self, latent: Tensor) -> Tensor:
        """Logits `[n, pixels]` of the pixels' means for z `[n, latent]`."""
        ...


class MnistVae(MnistImages, frozen=True):
    """Least negative evidence lower bound (ELBO) of 28×28 grey images of digits, in nats an image.

    Inputs are pixels in [0, 1], not standardised; targets are the same, flat. `train_size`, `test_size` and `data_seed`
    are as in `ImageTask`, `source` and `pad` as in `MnistImages`.

    The network gives logits of the pixels' means, decoded from one draw of z from q(z | x), then mean and logarithm of
    the variance of q(z | x), `[n, pixels + 2 · latent]`, and is an `Autoencoder`. Prior N(0, 1); the likelihood of a
    pixel is Bernoulli's, with grey values in place of 0 and 1, as usual: the expected one of pixels that are drawn
    black or white by their grey. The kernel differentiates the pixels' means at the mean of q(z | x), one output a
    pixel: no draw of z is in it, nor the variance of q(z | x).
    """

    name: Literal["mnist_vae"] = "mnist_vae"

    version: ClassVar[int] = 1
    score_name: ClassVar[str] = "elbo"
    observes: ClassVar[str] = "the decoder's mean at the encoder's mean, one output a pixel"
    mean: ClassVar[tuple[float, ...]] = (0.0,)
    std: ClassVar[tuple[float, ...]] = (1.0,)

    def load(self, data_dir: Path | None = None) -> TaskData:
        """The images as `MnistImages` finds them, each the target of itself."""
        data = super().load(data_dir)
        train, test = (Split(split.inputs, split.inputs.flatten(1)) for split in (data.train, data.test))  # pyright: ignore
        return TaskData(train, test, data.input_shape, train.targets.shape[1], data.source)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """−ELBO in nats, `[n]`, of outputs `[n, pixels + 2 · latent]` and pixels `[n, pixels]`."""
        return _reconstruction(outputs, targets) + _divergence(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        """ELBO in nats, the mean over images."""
        return -self.loss(outputs, targets).double().mean().item()

    def further_scores(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """The parts of −ELBO in nats: `reconstruction`, −E ln p(x | z), and `kl`, KL(q(z | x) ‖ N(0, 1))."""
        parts = {"reconstruction": _reconstruction(outputs, targets), "kl": _divergence(outputs, targets)}
        return {name: part.double().mean().item() for name, part in parts.items()}

    def observed(self, network: nn.Module) -> nn.Module:
        """The pixels' means `[n, pixels]` at the mean of q(z | x)."""
        if not isinstance(network, Autoencoder):
            raise NetworkError(
                f"task {self.name} needs the methods mean(inputs) and decode(latent) of a variational auto-encoder, "
                f"got a {type(network).__name__} without: choose the model vae"
            )
        return DecoderMean(network)

    def observed_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The reconstruction's part of the loss in nats, `[n]`, at the pixels' means `[n, pixels]`."""
        return F.binary_cross_entropy(outputs, targets, reduction="none").sum(1)


class DecoderMean(nn.Module):
    """From images to the pixels' means at the mean of q(z | x), which draws nothing."""

    network: Autoencoder

    def __init__(self, network: Autoencoder):
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        """`[n, pixels]`, in [0, 1]."""
        return self.network.decode(self.network.mean(inputs)).sigmoid()


def _reconstruction(outputs: Tensor, targets: Tensor) -> Tensor:
    """−ln p(x | z), [n], in nats."""
    logits = outputs[:, : targets.shape[1]]
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)


def _divergence(outputs: Tensor, targets: Tensor) -> Tensor:
    """KL(q(z | x) ‖ N(0, 1)), [n], in nats (Kingma and Welling 2014, App. B)."""
    mean, log_variance = outputs[:, targets.shape[1] :].chunk(2, dim=1)
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2
