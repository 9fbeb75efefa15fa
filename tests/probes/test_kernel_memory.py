"""A ceiling on memory is kept, changes no result, and is refused early where it cannot be kept."""

import os
import subprocess
import sys

import pytest
import torch
from kernel_brute_force import TREATMENTS, count, least_memory, relative_error, take
from kernel_cases import CASE
from kernel_graphs import Net
from torch import nn
from turns import in_turns

from tangentscope.probes import kernel_plan, tangent_kernel
from tangentscope.probes.kernels.engine.costs import Blocks
from tangentscope.probes.kernels.engine.gradient_store import decide
from tangentscope.probes.kernels.gradients.observation import observe
from tangentscope.probes.network.batch import as_batch
from tangentscope.probes.network.layers import Anatomy

NAMES = [
    "in-place relu", "tied weights", "linear on tokens", "conv2d", "conv2d, groups", "transposed conv2d, groups",
    "conv used twice", "group norm", "embedding", "few channels, many positions", "many channels, few positions",
    "resnet", "tagger", "vision transformer", "bare parameter", "lstm", "kept references", "gine",
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "outputs", "of"), in_turns("ceilings", {name: name for name in NAMES}, TREATMENTS, ("own", "between"))
)
def test_ceilings_do_not_change_the_kernel(name: str, outputs: str, of: str):
    model, inputs = CASE[name].make(torch.float64)
    others = inputs if of == "between" else None

    def kernel(memory_bytes: int) -> torch.Tensor:
        return tangent_kernel(model, inputs, outputs, others=others, memory_bytes=memory_bytes)

    least = least_memory(kernel)
    for memory_bytes in (least, least + least // 10, 3 * least, 2**30):
        assert relative_error(kernel(memory_bytes), CASE[name].kernel(outputs)) < 1e-10, memory_bytes


@pytest.mark.parametrize("name", NAMES)
def test_too_small_a_ceiling_is_refused_before_work_starts(name: str):
    model, few = CASE[name].make(torch.float32)
    inputs = take(few, list(range(count(few))) * 10)
    least = least_memory(lambda memory_bytes: tangent_kernel(model, inputs, memory_bytes=memory_bytes))
    assert least <= kernel_plan(model, inputs, memory_bytes=2**40).bytes
    seen: list[int] = []
    model.register_forward_pre_hook(lambda module, args: seen.append(count(args[0])))
    for memory_bytes in (1, least - 1):
        with pytest.raises(ValueError, match=rf"memory_bytes={memory_bytes}\b.*at least") as caught:
            tangent_kernel(model, inputs, memory_bytes=memory_bytes)
        assert "\n" not in str(caught.value)
    assert sum(seen) <= 12  # a few points tell what is needed


@pytest.mark.parametrize("memory_bytes", [0, -1])
def test_a_ceiling_is_a_number_of_bytes(memory_bytes: int):
    model, inputs = CASE["linear"].make(torch.float32)
    with pytest.raises(ValueError, match=f"memory_bytes={memory_bytes} is not positive"):
        tangent_kernel(model, inputs, memory_bytes=memory_bytes)


def test_activations_count_against_the_ceiling():
    """A network that is all activations, 0.8 MB a point, and has hardly a parameter."""

    def run(net: Net, x: torch.Tensor) -> torch.Tensor:
        wide = net.layer(x) * torch.linspace(0, 1, 50_000)
        return wide.tanh().tanh().tanh().tanh().mean(1, keepdim=True)

    model, inputs = Net(run, layer=nn.Linear(3, 1)), torch.randn(32, 3)
    assert kernel_plan(model, inputs, memory_bytes=2**30).blocks == 1
    assert kernel_plan(model, inputs, memory_bytes=2**24).blocks > 1


CEILING = 200_000_000

MEASURED = """
import sys
import torch
from torch import nn
from tangentscope.probes import tangent_kernel

def status(key):
    with open("/proc/self/status") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))

class Matrix(nn.Module):
    def __init__(self):
        super().__init__()
        self.matrix, self.head = nn.Parameter(torch.randn(512, 512) / 512**0.5), nn.Linear(512, 10)

    def forward(self, x):
        return self.head(torch.tanh(x @ self.matrix))

def convolutional():
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(64, 128, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8192, 64), nn.ReLU(),
        nn.Linear(64, 10),
    )

kind, ceiling = sys.argv[1], int(sys.argv[2])
torch.manual_seed(0)
torch.set_num_threads(1)
model, inputs = (convolutional(), torch.randn(48, 3, 32, 32)) if kind == "rules" else (Matrix(), torch.randn(100, 512))
side = 10 * len(inputs)
assert 4 * side * sum(p.numel() for p in model.parameters()) > 1_000_000_000
tangent_kernel(model, inputs[:1], memory_bytes=ceiling)  # first call: libraries load and set up their threads
before = status("VmRSS")
kernel = tangent_kernel(model, inputs, memory_bytes=ceiling)
peak = status("VmHWM") - before
roomy = tangent_kernel(model, inputs, memory_bytes=8 * ceiling)
print(peak, float((kernel - roomy).abs().max() / roomy.abs().max()))
"""


@pytest.mark.parametrize("kind", ["rules", "per-sample Jacobians"])
def test_the_process_stays_within_its_ceiling(kind: str):
    """Resident memory at its highest, in a process of its own, on networks whose whole Jacobian takes over 1 GB."""
    # Large blocks go back to the system when freed, whatever was freed before.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "262144", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", MEASURED, kind, str(CEILING)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280)
    assert done.returncode == 0, done.stderr
    peak, error = map(float, done.stdout.split())
    assert peak <= 1.5 * CEILING
    assert error < 1e-5


@pytest.mark.parametrize(("channels", "written"), [(1, True), (8, False)], ids=["few inputs", "many inputs"])
def test_written_function_by_function_where_that_moves_less_or_room_is_short(channels: int, written: bool):
    """Each function reads the layer's inputs again; with all of them collected they are read once."""
    model = nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 144, 10))
    observation, _ = observe(Anatomy.of(model), as_batch(torch.randn(2, channels, 12, 12)))
    weight = next(share for share in observation.shares if share.owner == "0" and share.outer)
    blocks = Blocks(1, 2, 2, kept=10, contracted=1, symmetric=True, itemsize=4)
    chosen = decide(weight, blocks)
    assert (chosen.cost.path, chosen.written) == ("jacobian", written)
    short = decide(weight, blocks, budget=4 * (10 * 8 * 9 * channels + 144 * 9 * channels))
    assert short.written
