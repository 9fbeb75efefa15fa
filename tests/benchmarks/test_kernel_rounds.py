"""Which ways of a kernel take turns, and what their ratio is told by."""

from pathlib import Path

import pytest
from kernel_peers.environments import Environment
from kernel_peers.processes import Record, Settings
from kernel_peers.rounds import Turns, contenders, in_turns
from kernel_peers.tables import OURS, summary_row

MACHINE = {"multiply_adds_per_second": 1e9}


def record(peer: str, variant: str, seconds: float, error: float = 1e-7) -> Record:
    about = {"cell": "mlp", "sizes": {}, "peer": peer, "variant": variant, "status": "measured"}
    return about | {"seconds": [seconds], "error": error, "peak_mb": 1.0}


RECORDS = {
    OURS: [record(OURS, "slow", 2.0), record(OURS, "exact", 1.0)],
    "one": [record("one", "close", 2.9), record("one", "wrong", 0.1, error=float("nan"))],
    "two": [record("two", "fastest", 2.0), record("two", "far", 3.1)],
}


def test_our_fastest_way_and_the_close_ones_of_others_take_turns():
    assert [each["variant"] for each in contenders(RECORDS, OURS)] == ["exact", "close", "fastest"]
    assert not contenders({OURS: RECORDS[OURS]}, OURS)
    assert not contenders({**RECORDS, OURS: []}, OURS)


def test_the_ratio_is_that_of_rounds():
    """Seconds apart from one another would say 2.0, and that `two` is the fastest of the others."""
    turns = [
        Turns(peer=OURS, variant="exact", seconds=[1.0, 2.0, 4.0]),
        Turns(peer="one", variant="close", seconds=[1.5, 3.0, 8.0]),
        Turns(peer="two", variant="fastest", seconds=[3.0, 6.0, 12.0]),
    ]
    assert summary_row("mlp", RECORDS, turns, MACHINE)[1:3] == ["one (close)", "1.50 (1.50 … 2.00; 3 rounds)"]
    assert summary_row("mlp", RECORDS, [], MACHINE)[1:3] == ["two (fastest)", "2.00, not in turns"]


def test_a_way_that_ends_before_its_turn_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    records = {OURS: [record(OURS, "exact", 1.0)], "torch.func": [record("torch.func", "jacobian", 2.0)]}
    settings = Settings(repeats=1, least=0.0, threads=1, limit=60.0, memory=2**40, device="cpu")
    environments = dict.fromkeys(records, Environment())  # no cell is of size {}
    assert in_turns(records, OURS, environments, settings, 1, tmp_path, tmp_path, fresh=True) == []
    assert "mlp" in (printed := capsys.readouterr().out)
    assert "no turns" in printed
    assert not list(tmp_path.iterdir())
