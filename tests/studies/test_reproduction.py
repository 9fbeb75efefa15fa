"""The page of what was run: its commands name shipped studies and hold; its figures are there."""

import re
import shlex
from pathlib import Path

import pytest
from claimed_rows import rows

from tangentscope.pipeline.cli import app
from tangentscope.pipeline.study.expansion import validated
from tangentscope.pipeline.study.spec import read_study
from tangentscope.studies import shipped

PAGE = Path(__file__).parents[2] / "docs/reproduction.md"
TEXT = PAGE.read_text()
BLOCKS = [block.replace("\\\n", " ") for block in re.findall(r"```bash\n(.*?)```", TEXT, re.S)]
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line]


def test_there_are_commands_and_figures():
    assert len(COMMANDS) >= 7
    figures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", TEXT)
    assert len(figures) >= 5
    assert all((PAGE.parent / figure).is_file() for figure in figures)
    assert {f"figures/{path.name}" for path in (PAGE.parent / "figures").iterdir()} == set(figures)


def test_the_table_of_claims_is_that_of_the_tables_beside_it():
    told = [line for line in TEXT.splitlines() if "](claims/" in line]
    assert sorted(told) == sorted(row for file in (PAGE.parent / "claims").glob("*.csv") for row in rows(file))
    order = [next(verdict for verdict in ("failed", "undecided", "held") if verdict in line) for line in told]
    assert order == sorted(order, key=("failed", "undecided", "held").index), "what failed first"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_one_that_holds(command: str):
    program, verb, name, *words = shlex.split(command)
    assert program == "tangentscope"
    if verb == "probe":
        assert name.partition("/")[0] == "results"
        assert app.parse_args([verb, name, *words], exit_on_error=False, print_error=False)
        return
    assert verb == "run"
    scale = None
    if "--scale" in words:
        place = words.index("--scale")
        scale = words[place + 1]
        del words[place : place + 2]
    assert all("=" in word for word in words)
    assert validated(read_study(shipped()[name], tuple(words), scale))
