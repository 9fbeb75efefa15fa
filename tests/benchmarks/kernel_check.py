"""What the check of the rules costs: kernels of real models with it at every call and without it, in turns.

    python tests/benchmarks/kernel_check.py [--models gpt2 vit ...] [--points 20] [--rounds 7]

The check (TANGENTSCOPE_CHECK) is one backward pass for a random half of the points. By default it is made at the first
call of an architecture and shape only; here it is made at every second call, and its time stands beside that of one
backward pass of all points and of the whole kernel. Needs timm, transformers and peft: pip install -e '.[dev,models]'.
Not a test: times depend on the machine and its other work.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

sys.path.append(str(Path(__file__).parents[1] / "probes"))
from real_models import MODELS

from tangentscope.probes import tangent_kernel

DEFAULT = ["gpt2", "vit", "convnext", "mobilenetv3", "lstm", "gatv2"]


def main() -> None:
    """Print a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=[*MODELS], default=DEFAULT, metavar="MODEL")
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'model':<18}{'kernel':>9}{'check':>9}{'least … most':>18}{'one backward pass':>19}   (milliseconds)")
    for name in asked.models:
        print(line(name, asked.points, asked.rounds), flush=True)


def line(name: str, points: int, rounds: int) -> str:
    """Medians over the rounds; the check's is of the differences within a round."""
    model, inputs = MODELS[name].make(points)
    checked: list[float] = []
    plain: list[float] = []
    for turn in range(-1, rounds):  # the first one warms up
        for when, times in (("always", checked), ("never", plain)):
            os.environ["TANGENTSCOPE_CHECK"] = when
            seconds = timed(lambda: tangent_kernel(model, inputs))
            if turn >= 0:
                times.append(seconds)
    root = model(inputs).sum()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    passes = [
        timed(lambda: torch.autograd.grad(root, parameters, retain_graph=True, allow_unused=True))
        for _ in range(rounds)
    ]
    costs = [1e3 * (a - b) for a, b in zip(checked, plain, strict=True)]
    spread = f"{min(costs):.0f} … {max(costs):.0f}"
    return f"{name:<18}{1e3 * median(plain):>9.0f}{median(costs):>9.0f}{spread:>18}{1e3 * median(passes):>19.0f}"


def timed(call: Callable[[], object]) -> float:
    """Seconds of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
