"""How many float32 multiply-adds a second this machine does in large matrix products.

    python -m kernel_peers.matrix_rate THREADS DEVICE

Prints the rate.
"""

import statistics
import sys
import time

import torch
from kernel_peers import meters

SIDES = {"cpu": 2048, "cuda": 8192}


def rate(device: str, repeats: int = 15) -> float:
    """Multiply-adds per second, the median of ``repeats`` products."""
    side, wait = SIDES[device], meters.on(device).wait
    a, b = torch.randn(side, side, device=device), torch.randn(side, side, device=device)
    product = torch.empty_like(a)
    wait()
    seconds = []
    for _ in range(repeats + 2):
        before = time.perf_counter()
        torch.mm(a, b, out=product)
        wait()
        seconds.append(time.perf_counter() - before)
    return side**3 / statistics.median(seconds[2:])


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    print(rate(sys.argv[2]))
