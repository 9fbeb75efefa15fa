"""The tangent kernels of networks that people use: ours against torch.func's documented recipe, time, memory and error.

    python tests/benchmarks/kernels_of_real_models.py [--models gpt2 bert ...] [--points 20] [--rounds 5] [--busy]

Both compute the full kernel [N·10, N·10] of the same weights (tests/probes/real_models.py) on one thread, each in a
fresh process, for memory and error; then both take turns, each in a process that has made its first call, for a ratio
that a machine's changing speed leaves as it is. Where memory does not suffice for the recipe, it is given four chunks
of points; where it fails or is wrong, a loop over single gradients takes its place: the table says so. Another run
measures only what is missing, or what was measured with other settings or other sources. Prints and keeps
OUT/real_models.md (with --busy, OUT/real_models-busy.md). Needs timm, transformers and peft: pip install -e
'.[dev,models]'. Not a test: times depend on the machine and its other work.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from kernel_peers import tables
from kernel_peers.busy import others
from kernel_peers.environments import Environment
from kernel_peers.machine import describe_machine
from kernel_peers.processes import REAL_MODELS, Record, Settings, Task, finite, kept, measure, reference
from kernel_peers.rounds import Turns, in_turns

THEIRS = "torch.func"
WAYS = {
    "jacobian": "vmap(jacrev)",
    "jacobian/4": "vmap(jacrev), in 4 chunks",
    "gradients": "a loop of single gradients",
}
WAYS_OF_GRAPHS = {"jacobian": "jacrev, a graph at a time", "gradients": WAYS["gradients"]}
CHUNKED = "jacobian/4"
WRONG = 1e-3
"""A way whose kernel is so far off did not compute it: 50 times what rounding does in float32."""
BUSY = 2


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=[*names()], default=[*names()], metavar="MODEL")
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5, help="turns that both take")
    parser.add_argument("--least", type=float, default=0.5, help="seconds of calls in a turn, one at least")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--busy", action="store_true", help=f"with {BUSY} other processes at work")
    parser.add_argument("--limit", type=float, default=600, help="seconds of one process")
    memory = 0.75 * psutil.virtual_memory().total / 1e9
    parser.add_argument("--memory", type=float, default=memory, help="GB of one process (default: 3/4 of all)")
    parser.add_argument("--fresh", action="store_true", help="measure again what is known")
    parser.add_argument("--out", type=Path, default=Path("results/real_models"))
    return parser.parse_args()


def names() -> dict[str, bool]:
    """Every model's name, and whether its data points are graphs."""
    sys.path.append(str(REAL_MODELS))
    from real_graphs import GRAPH_MODELS
    from real_models import MODELS

    return {name: name in GRAPH_MODELS for name in MODELS}


def main() -> None:
    """Measure what is missing, then print and keep the table."""
    asked = arguments()
    out = asked.out.resolve()
    settings = Settings(1, 0.0, asked.threads, asked.limit, int(asked.memory * 1e9), "cpu")
    machine = describe_machine(out, settings, asked.fresh)
    graphs, rows, page = names(), [], ""
    where = f"{asked.points}-busy" if asked.busy else str(asked.points)
    for model in asked.models:
        sizes = {"points": asked.points}
        cell = reference(out / "cells" / str(asked.points) / model, model, sizes, asked.threads)
        with others(BUSY if asked.busy else 0) as beside:
            if beside:
                print(f"{model:<12} beside processes {', '.join(map(str, beside))}", flush=True)
            ways = WAYS_OF_GRAPHS if graphs[model] else WAYS
            rows.append(row(model, ways, *measured(model, sizes, ways, settings, cell, out / "records" / where, asked)))
        page = markdown(rows, machine, asked)
        (out / f"real_models{'-busy' if asked.busy else ''}.md").write_text(page)
    print(f"\n{page}")


def measured(
    model: str,
    sizes: dict[str, int],
    ways: dict[str, str],
    settings: Settings,
    cell: Path,
    folder: Path,
    asked: argparse.Namespace,
) -> tuple[Record, list[Record], list[Turns]]:
    """Our record, theirs of every way that was tried, the last one best, and the turns of both."""

    def record(peer: str, way: str) -> Record:
        task = Task(model, sizes, peer, way)
        path = folder / f"{model}--{peer}--{way.replace('/', '-by-')}.json"
        known = None if asked.fresh else kept(path, task, settings)
        found = known or measure(task, settings, Environment(), cell, path)
        print(tables.line(found), flush=True)
        return found

    ours, theirs = record(tables.OURS, "exact"), []
    for way in ways:
        if way != CHUNKED or theirs[-1]["status"] == "over memory":
            theirs.append(record(THEIRS, way))
        if right(theirs[-1]):
            break
    turning = replace(settings, least=asked.least)
    turns = in_turns(
        {tables.OURS: [ours], THEIRS: theirs[-1:]},
        tables.OURS,
        {tables.OURS: Environment(), THEIRS: Environment()},
        turning,
        asked.rounds,
        cell,
        folder,
        asked.fresh,
    )
    for other in turns[1:]:
        print(tables.turns_line(model, turns[0], other), flush=True)
    return ours, theirs, turns


def right(record: Record) -> bool:
    """Whether it was measured and is the kernel."""
    return bool(finite([record])) and record["error"] < WRONG


HEAD = ["model", "parameters", "layers", "without a rule", "torch.func by", "its seconds", "our seconds"]
HEAD += ["theirs / ours", "first call, theirs / ours", "peak MB, theirs / ours", "error, theirs / ours"]


def row(model: str, ways: dict[str, str], ours: Record, theirs: list[Record], turns: list[Turns]) -> list[str]:
    """One line of the table; a way that failed or was wrong is named with the reason."""
    peer, plan = theirs[-1], ours.get("plan") or {}
    told = [f"{ways[each['variant']]}: {reason(each)}" for each in theirs[:-1]]
    cells = [model, *planned(plan), "; ".join([*told, ways[peer["variant"]]])]
    cells += [seconds(peer), seconds(ours), tables.told(*turns) if turns else tables.NOTHING]
    for figure, form in (("first", ".3g"), ("peak_mb", ".0f"), ("error", ".1e")):
        cells.append(
            " / ".join(format(each[figure], form) if figure in each else tables.NOTHING for each in (peer, ours))
        )
    return cells


def planned(plan: dict[str, Any]) -> list[str]:
    """Parameters, layers, and how many of the layers go by per-sample Jacobians."""
    if not plan:
        return [tables.NOTHING] * 3
    layers, without = plan["layers"], len(plan["uncovered"])
    share = plan["uncovered_parameters"] / plan["parameters"]
    told = f"{without} ({without / layers:.0%}, with {share:.0%} of the parameters)" if without else "0"
    return [f"{plan['parameters']:,}", str(layers), told]


def seconds(record: Record) -> str:
    """Of the second call; what became of one that was not measured."""
    return f"{record['seconds'][0]:.3g}" if record["status"] == "measured" else reason(record)


def reason(record: Record) -> str:
    """Why a way is not the one that counts."""
    if record["status"] == "measured":
        return f"wrong by {record['error']:.1e}"
    return f"{record['status']} ({record['why'][:80].replace('|', '/')})"


def markdown(rows: list[list[str]], machine: dict[str, Any], asked: argparse.Namespace) -> str:
    """The whole page."""
    beside = f", beside {BUSY} other busy processes" if asked.busy else ""
    title = f"# Tangent kernels of real models, {asked.points} points of 10 outputs{beside}"
    return "\n\n".join([title, tables.describe(machine), tables.table(HEAD, rows), NOTES]) + "\n"


NOTES = """\
Each line's seconds, peak and error are of a fresh process for each side: the second call, the most resident memory over
both calls above libraries, network and inputs, and max|a − b| over max|b| against float64 entries by the definition.
*Theirs / ours*: both in turns, median (least … most) of the rounds' ratios, first calls apart. *Without a rule*: layers
whose path in `kernel_plan` is the per-sample Jacobian."""


if __name__ == "__main__":
    main()
