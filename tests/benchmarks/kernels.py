"""The tangent-kernel engine against every other way to the same exact kernel: time, memory and error.

    python tests/benchmarks/kernels.py [--cells mlp cnn ...] [--peers tangentscope torch.func ...] [--growth]

Every peer computes the full kernel [N·O, N·O] of the same network on the same points, in a fresh process of its own.
Then our own way and the fastest others take turns, for ratios that a machine's changing speed leaves as they are.
Peers with environments of their own get them on the first run (minutes, below --peers-env). Another run measures
only what is missing, or what was measured with other settings or other sources. Prints and keeps OUT/kernels.md.
Not a test: times depend on the machine and its other work.
"""

import argparse
import json
import sys
from pathlib import Path

import psutil
from kernel_peers import tables
from kernel_peers.environments import Environment, UnavailableError, default_folder, environment
from kernel_peers.machine import describe_machine, gpu
from kernel_peers.processes import Record, Settings, Task, kept, measure, reference
from kernel_peers.rounds import Turns, in_turns
from kernel_peers.sizes import SIZES

# The ways of each peer, the likely fastest first; the table shows the fastest.
WAYS = {
    "tangentscope": ("exact",),
    "torch.func": ("jacobian", "vector-products"),
    "nngeometry": ("jacobian", "gram"),
    "neural-tangents": ("structured", "vector-products", "jacobian"),
}
# Where the usual ones do not make sense: graphs of unequal size know no vmap over points, and the largest kernels need
# neural-tangents to go by blocks of points.
OTHER_WAYS = {
    ("gin", "torch.func"): ("jacobian",),
    ("transformer", "neural-tangents"): ("structured/4", "vector-products/4", "jacobian/4"),
    ("vae", "neural-tangents"): ("structured", "structured/4", "vector-products/4"),
}
CANNOT = {
    ("transformer", "nngeometry"): "no rule for embeddings, nor for linear layers and layer norms on several rows",
    ("gin", "nngeometry"): "no rule for embeddings, and its data points are rows of tensors, not graphs",
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", choices=SIZES["full"], default=list(SIZES["full"]))
    parser.add_argument("--peers", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--repeats", type=int, default=5, help="timed calls after the first one")
    parser.add_argument(
        "--least", type=float, default=2, help="seconds of them, and of a turn: a median of few short ones says little"
    )
    parser.add_argument("--rounds", type=int, default=9, help="turns that we and the fastest peers take")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cuda: without neural-tangents")
    parser.add_argument("--limit", type=float, default=600, help="seconds of one process")
    memory = 0.75 * psutil.virtual_memory().total / 1e9
    parser.add_argument("--memory", type=float, default=memory, help="GB of one process (default: 3/4 of all)")
    parser.add_argument("--growth", action="store_true", help="also how our own cost grows, with figures")
    parser.add_argument("--scale", choices=SIZES, default="full", help="tiny: seconds, for trying this command")
    parser.add_argument("--fresh", action="store_true", help="measure again what is known")
    parser.add_argument("--out", type=Path, default=Path("results/kernels"))
    parser.add_argument("--peers-env", type=Path, default=default_folder(), help="where peers are installed")
    asked = parser.parse_args()
    if asked.device == "cuda" and gpu() is None:
        parser.error("--device cuda: torch sees no CUDA GPU here; leave --device out to measure on the processor")
    return asked


def main() -> None:
    """Measure what is missing, then print and keep the tables."""
    asked = arguments()
    out = asked.out.resolve()
    settings = Settings(asked.repeats, asked.least, asked.threads, asked.limit, int(asked.memory * 1e9), asked.device)
    machine = describe_machine(out, settings, asked.fresh)
    environments, left_out = environments_of(asked)
    records: dict[str, dict[str, list[Record]]] = {}
    turns: dict[str, list[Turns]] = {}
    for cell in asked.cells:
        sizes = SIZES[asked.scale][cell]
        folder = reference(out / "cells" / asked.scale / cell, cell, sizes, asked.threads)
        path = out / "records" / asked.scale
        records[cell] = {}
        for peer in environments:
            if reason := CANNOT.get((cell, peer)):
                left_out[cell, peer] = reason
                print(f"{cell:<12} {peer:<16} left out: {reason}", flush=True)
                continue
            tasks = [Task(cell, sizes, peer, way) for way in OTHER_WAYS.get((cell, peer), WAYS[peer])]
            records[cell][peer] = by_every_way(tasks, settings, environments[peer], folder, path, asked.fresh)
        turns[cell] = in_turns(
            records[cell], tables.OURS, environments, settings, asked.rounds, folder, path, asked.fresh
        )
        for other in turns[cell][1:]:
            print(tables.turns_line(cell, turns[cell][0], other), flush=True)
    page = tables.markdown(records, turns, left_out, machine)
    (out / "kernels.md").write_text(page)
    (out / "kernels.json").write_text(json.dumps({"machine": machine, "records": records, "turns": turns}, indent=1))
    print(f"\n{page}")
    if asked.growth:
        from kernel_peers.growth import grow

        grow(out, asked.scale, settings, asked.fresh, lambda record: print(tables.line(record), flush=True))


def environments_of(asked: argparse.Namespace) -> tuple[dict[str, Environment], dict[tuple[str, str], str]]:
    """Of the peers that can be had here; and why the others are left out."""
    found, left_out = {}, {}
    for peer in asked.peers:
        if peer == "neural-tangents" and asked.device != "cpu":
            left_out["every cell", peer] = "its environment has a jax for processors only"
            continue
        try:
            found[peer] = environment(peer, asked.peers_env.resolve())
        except UnavailableError as error:
            print(f"{peer} is left out: {error}", flush=True)
            left_out["every cell", peer] = f"cannot be installed here: {error}"
    return found, left_out


def by_every_way(
    tasks: list[Task], settings: Settings, environment: Environment, cell: Path, folder: Path, fresh: bool
) -> list[Record]:
    """One record for each way of one peer on one cell."""
    records: list[Record] = []
    for task in tasks:
        path = folder / f"{task.cell}--{task.peer}--{task.variant.replace('/', '-by-')}.json"
        known = None if fresh else kept(path, task, settings)
        fastest = tables.best(records)
        beat = tables.seconds(fastest) if fastest else float("inf")
        records.append(known or measure(task, settings, environment, cell, path, beat))
        print(tables.line(records[-1]), flush=True)
    return records


if __name__ == "__main__":
    sys.exit(main())
