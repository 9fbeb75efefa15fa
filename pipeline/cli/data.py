"""The data sets of the tasks: where they are looked for, whether they are there and whole, and getting them."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from tangentscope.pipeline.system.errors import UserError, nearest, one_line
from tangentscope.tasks import TASKS, DataError, MissingDataError, Task

app = App(name="data")  # a part of the one in commands.py, loaded when it is asked for
DataDir = Annotated[Path | None, Parameter(env_var="TANGENTSCOPE_DATA", help="Where data sets lie.")]
State = Literal["ok", "partial", "absent", "WRONG"]


@app.command
def where(*tasks: Annotated[str, Parameter(help="Names of tasks; all by default.")], data_dir: DataDir = None) -> int:
    """Say where data are looked for and whether they are there, and check them. Exit code 1 if any are damaged."""
    damaged = False
    for found in look(tasks, data_dir):
        print(f"{found.state:<7}  {found.task}: {found.told}")
        if found.places:
            print(f"{'':<7}  looked for in {', then '.join(map(str, found.places))}")
        damaged |= found.state == "WRONG"
    return int(damaged)


@app.command
def fetch(
    task: str,
    dataset: Annotated[str, Parameter(help="Which of the task's data sets, where it has several.")] = "",
    *,
    data_dir: DataDir = None,
) -> None:
    """Download a task's data from their publisher into the data directory; nothing lies there with a wrong sum."""
    print(get(task, data_dir, dataset))


@dataclass(frozen=True)
class Found:
    """What a task would be trained on, or why it cannot be.

    Args:
        task: its name and, where it has several, that of the data set.
        state: `partial` data serve only if a study asks for them; `WRONG` ones are damaged.
        told: which data these are, or what is wrong and what to do, in one line.
        places: the folders they are looked for in.
    """

    task: str
    state: State
    told: str
    places: list[Path]


def look(names: Sequence[str], data_dir: Path | None) -> Iterator[Found]:
    """Read and check the data of these tasks, of all that have any if none is named.

    Raises:
        UserError: An unknown task; a data directory that is not there.
    """
    tasks = {name: _task(name) for name in names or [name for name, task in TASKS.items() if task.published]}
    if data_dir is not None and not data_dir.is_dir():
        raise UserError(f"data directory {data_dir}: not there; give the directory that holds the data sets")
    for name, task in tasks.items():
        for dataset, published in (task.data_sets or {"": task.published}).items():
            fields = {"name": name} | ({"dataset": dataset} if dataset else {})
            places = published.folders(data_dir or Path("$TANGENTSCOPE_DATA")) if published else []
            yield Found(f"{name} {dataset}".strip(), *_state(task, fields, data_dir), places)


def _state(task: type[Task], fields: dict[str, str], data_dir: Path | None) -> tuple[State, str]:
    try:
        return "ok", task.model_validate(fields).checked(data_dir)
    except MissingDataError as error:
        return "absent", str(error)
    except Exception as error:  # a task of the user's own may fail in any way
        wrong = one_line(error)
    if "partial" in task.model_fields:
        try:
            asking = task.model_validate({**fields, "partial": True})
            return "partial", f"{asking.checked(data_dir)}; only with task.partial=true"
        except DataError as error:
            wrong = one_line(error)
    return "WRONG", wrong


def get(name: str, data_dir: Path | None, dataset: str = "") -> str:
    """Download a task's data from their publisher to where the task looks for them, and say so.

    Nothing lies there before its sum was found right, and no file that is there is changed.

    Raises:
        UserError: An unknown task or data set, or none that is published; no data directory; other files where these
            belong; no network, or a publisher that gives something else.
    """
    task = _task(name)
    if dataset and dataset not in task.data_sets:
        raise UserError(f'task {name}: data set "{dataset}" unknown; {nearest(dataset, task.data_sets)}')
    published = task.data_sets[dataset] if dataset else task.published
    if published is None:
        raise UserError(f"task {name}: reads no published data; there is nothing to fetch")
    if data_dir is None:
        raise UserError(f"data fetch {name}: no data directory; name one with --data-dir or TANGENTSCOPE_DATA")
    folder = published.folder(data_dir) or published.folders(data_dir)[0]
    absent, strange = published.compared(folder)
    if strange:
        raise UserError(
            f"{folder}: {', '.join(strange)} not as published; move that folder away or name another data directory"
        )
    if not absent:
        return f"{published.title} is there already: {folder}"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=data_dir) as root:
            published.download(Path(root))
            got = Path(root) / published.layout
            if any(wrong := published.compared(got)):
                raise RuntimeError(f"{', '.join(wrong[0] + wrong[1])} not as published")
            for name in absent:
                path = published.located(got)[name]
                target = folder / path.relative_to(got)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.rename(target)
    except (OSError, RuntimeError, HTTPException) as error:  # torchvision's own, and what it lets through
        raise UserError(
            f"{published.title} could not be fetched ({one_line(error)}); get {', '.join(published.md5)} from "
            f"{published.home} and put that in {folder}"
        ) from None
    return f"{published.title} is in {folder}: {len(published.md5)} file(s), sums as published"


def _task(name: str) -> type[Task]:
    if name not in TASKS:
        raise UserError(f'task "{name}" unknown; {nearest(name, TASKS)}')
    return TASKS[name]
