"""What all feature metrics cost beyond the forward passes that they cannot do without, and how much memory they take.

    python tests/benchmarks/features.py [--train 10000] [--test 2000] [--rounds 3] [--width 64] [--threads 1]

ResNet18 on random images of CIFAR-10's shape, p = 8 · width features, ten classes. Both take turns on the same points:
plain forward passes in eval mode without gradients, and ``feature_metrics`` with all variables; the ratio of a round
does not change with the machine's speed. Memory is the most that is resident above what it was before the first call.
Not a test: times depend on the machine and its other work.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from tangentscope import probes
from tangentscope.models import MODELS

AIM = 1.2


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=10_000)
    parser.add_argument("--test", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=100, help="points of a plain forward pass")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def seconds(call: Callable[[], object]) -> float:
    """Of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def forward(network: nn.Module, images: Tensor, batch: int) -> None:
    """Plain passes of all images."""
    with torch.no_grad():
        for some in images.split(batch):
            network(some)


def resident() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Take turns and print the ratios."""
    asked = arguments()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    network = MODELS["resnet18"](width=asked.width).build((3, 32, 32), 10).eval()
    train, test = torch.randn(asked.train, 3, 32, 32), torch.randn(asked.test, 3, 32, 32)
    of_train, of_test = torch.arange(len(train)) % 10, torch.arange(len(test)) % 10
    forward(network, test[: asked.batch], asked.batch)
    before = resident()
    ratios = []
    for number in range(asked.rounds):
        plain = seconds(lambda: (forward(network, train, asked.batch), forward(network, test, asked.batch)))
        if not number:
            print(f"plain passes: {resident() - before:,.0f} MB")
        metrics = seconds(lambda: probes.feature_metrics(network, (train, of_train), (test, of_test)))
        ratios.append(metrics / plain)
        print(
            f"round {number + 1}: {plain:.2f} s of plain passes, {metrics:.2f} s of metrics: {ratios[-1]:.3f}",
            flush=True,
        )
    print(f"metrics: {resident() - before:,.0f} MB")
    middle = statistics.median(ratios)
    print(f"{middle:.3f} times ({min(ratios):.3f} … {max(ratios):.3f}), aim at most {AIM}")


if __name__ == "__main__":
    main()
