"""How many float32 multiply-adds a second this machine does in large matrix products.

    python -m kernel_peers.matrix_rate THREADS

Prints the rate.
"""

import statistics
import sys
import time

import torch

SIDE = 2048


def rate(repeats: int = 15) -> float:
    """Multiply-adds per second, the median of ``repeats`` products."""
    a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    product = torch.empty(SIDE, SIDE)
    seconds = []
    for _ in range(repeats + 2):
        before = time.perf_counter()
        torch.mm(a, b, out=product)
        seconds.append(time.perf_counter() - before)
    return SIDE**3 / statistics.median(seconds[2:])


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    print(rate())
