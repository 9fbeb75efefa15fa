"""Records to markdown: every peer on every cell, and where we stand."""

from collections.abc import Iterable, Iterator
from statistics import median
from typing import Any

from kernel_peers.processes import Record, finite, seconds
from kernel_peers.rounds import Turns

OURS = "tangentscope"
# How many times faster than the best peer we want to be.
TARGETS = {"mlp": 1.5, "cnn": 2.0, "resnet18": 10.0, "transformer": 3.0, "gin": 3.0, "vae": 3.0}
NOTHING = "–"


def markdown(
    records: dict[str, dict[str, list[Record]]],
    turns: dict[str, list[Turns]],
    left_out: dict[tuple[str, str], str],
    machine: dict[str, Any],
) -> str:
    """The whole page. ``records``: by cell and peer, one for each of the peer's ways; ``left_out``: why."""
    parts = ["# Exact tangent kernels, all peers", describe(machine), "## Where we stand"]
    rows = [summary_row(cell, peers, turns[cell], machine) for cell, peers in records.items()]
    parts.append(table(SUMMARY_HEAD, rows))
    parts += ["## Every peer, by its fastest way", *(cell_part(cell, peers) for cell, peers in records.items())]
    missing = [f"- {peer} on {cell}: {reason}" for (cell, peer), reason in left_out.items()]
    missing += [
        f"- {record['peer']} on {record['cell']} by {record['variant']}: {record['status']}, {record['why'][:200]}"
        for record in every(records)
        if record["status"] != "measured"
    ]
    if missing:
        parts += ["## Left out", "\n".join(missing)]
    ways = [way_row(record) for record in every(records) if record["status"] == "measured"]
    parts += ["## Every way that was tried", table(WAY_HEAD, ways), NOTES]
    return "\n\n".join(parts) + "\n"


NOTES = """\
Each line is a fresh process. *Seconds*: median (least … most) of the calls after the first one; *first* includes
compiling. *Peak*: most resident memory over all calls, above libraries, network and inputs. *Error*: max|a − b| over
max|b| against float64 entries by the definition. *Bound*: multiply-adds of the cheapest exact path over the rate of
large float32 matrix products here. A way twice as slow as another of the same peer was not repeated. *Best peer /
ours*: of our fastest way and the fastest others, each in a process of its own and all taking turns, the median (least …
most) of the rounds' ratios; a round's seconds are medians of a turn. On a GPU: seconds until it is done, and *peak* is
the memory of tensors on it."""


def describe(machine: dict[str, Any]) -> str:
    rate = machine["multiply_adds_per_second"]
    gpu = f"{machine['gpu']}; " if machine["gpu"] else ""
    return (
        f"{gpu}{machine['cpu']}, {machine['threads']} threads of {machine['cpus']} processors, "
        f"{machine['memory'] / 1e9:.0f} GB; torch {machine['torch']}, Python {machine['python']}; "
        f"{rate / 1e9:.0f} · 10⁹ multiply-adds a second in large float32 products."
    )


SUMMARY_HEAD = ["cell", "best peer", "best peer / ours", "target", "our MB / best peer's MB", "time / bound"]


def summary_row(cell: str, peers: dict[str, list[Record]], turns: list[Turns], machine: dict[str, Any]) -> list[str]:
    """By turns where there were some, or by medians of calls minutes apart."""
    ours = best(peers.get(OURS, []))
    others = [record for peer, ways in peers.items() if peer != OURS for record in finite(ways)]
    peer = min(others, key=seconds, default=None)
    ratio = f"{seconds(peer) / seconds(ours):.2f}, not in turns" if ours and peer else NOTHING
    if turns:
        fastest = min(turns[1:], key=lambda other: median(ratios(turns[0], other)))
        peer = next(record for record in others if way(record) == way(fastest))
        ratio = told(turns[0], fastest)
    row = [cell, f"{peer['peer']} ({peer['variant']})" if peer else NOTHING, ratio, f"{TARGETS[cell]:g}"]
    row.append(f"{ours['peak_mb']:.0f} / {peer['peak_mb']:.0f}" if ours and peer else NOTHING)
    row.append(bound(ours, machine["multiply_adds_per_second"]) if ours else NOTHING)
    return row


def way(found: Record | Turns) -> tuple[str, str]:
    return found["peer"], found["variant"]


def ratios(ours: Turns, other: Turns) -> list[float]:
    return [theirs / own for theirs, own in zip(other["seconds"], ours["seconds"], strict=True)]


def told(ours: Turns, other: Turns) -> str:
    """How many times our seconds the other takes, by rounds."""
    found = ratios(ours, other)
    return f"{median(found):.2f} ({min(found):.2f} … {max(found):.2f}; {len(found)} rounds)"


def bound(ours: Record, rate: float) -> str:
    if not ours.get("plan"):
        return NOTHING
    least = ours["plan"]["multiply_adds"] / rate
    return f"{seconds(ours) / least:.1f} ({seconds(ours):.3g} s / {least:.3g} s)"


def cell_part(cell: str, peers: dict[str, list[Record]]) -> str:
    """One cell: a line for each peer that did it, and the plan of our own kernel."""
    ours = best(peers.get(OURS, []))
    rows = []
    for peer, ways in peers.items():
        found = best(ways)
        if found:
            ratio = f"{seconds(found) / seconds(ours):.2f}" if ours else NOTHING
            rows.append([cell, f"{peer} ({found['variant']})", *figures(found), ratio])
        else:
            states = " and ".join(dict.fromkeys(record["status"] for record in ways))
            rows.append([cell, peer, *[states or NOTHING] + [NOTHING] * 4, NOTHING])
    text = table(["cell", "peer", *FIGURES, "time / ours"], rows)
    if ours and ours.get("plan"):
        text += f"\n\n<details><summary>plan</summary>\n\n```\n{ours['plan']['text']}\n```\n\n</details>"
    return text


FIGURES = ["seconds", "first", "peak MB", "error"]


def figures(record: Record) -> list[str]:
    times = record["seconds"]
    spread = f"{median(times):.3g} ({min(times):.3g} … {max(times):.3g}; {len(times)} calls)"
    error = NOTHING if record["error"] is None else f"{record['error']:.1e}"
    return [spread, f"{record['first']:.3g}", f"{record['peak_mb']:.0f}", error]


WAY_HEAD = ["cell", "peer", "way", *FIGURES]


def way_row(record: Record) -> list[str]:
    return [record["cell"], record["peer"], record["variant"], *figures(record)]


def best(ways: list[Record]) -> Record | None:
    """The fastest of a peer's ways."""
    return min(finite(ways), key=seconds, default=None)


def every(records: dict[str, dict[str, list[Record]]]) -> Iterator[Record]:
    for peers in records.values():
        for ways in peers.values():
            yield from ways


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def line(record: Record) -> str:
    """One record as it comes."""
    name = f"{record['cell']:<12} {record['peer']:<16} {record['variant']:<16}"
    if record["status"] != "measured":
        return f"{name} {record['status']}: {record['why'][:200]}"
    times, first, memory, error = figures(record)
    return f"{name} {times} s, first {first} s, {memory} MB, error {error}"


def turns_line(cell: str, ours: Turns, other: Turns) -> str:
    """What turns showed of another way, as it comes."""
    return f"{cell:<12} {other['peer']:<16} {other['variant']:<16} {told(ours, other)} times ours, in turns"
