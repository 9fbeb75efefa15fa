"""The command ``tangentscope``. What a command does stands elsewhere; here are its arguments and its last words."""

import errno
import importlib.metadata
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from pipeline.errors import Fenced, Stopped, UserError, nearest
from studies import shipped

if TYPE_CHECKING:
    from pipeline.spec import Study

app = App(
    name="tangentscope",
    help="Watch the tangent kernel while networks learn.",
    version=lambda: importlib.metadata.version("tangentscope"),
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,  # `main` has a word to say about it
)
app.command("pipeline.datasets:app", name="data", help="Where the tasks' data sets lie, and getting them.")
# What a storage says that is full, read-only or failing: no mistake of the code.
_STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES}
console = Console(soft_wrap=True)

Overrides = Annotated[str, Parameter(help="Fields of the study to set, as key=value.")]
Scale = Annotated[str | None, Parameter(help="One of the study's own scales, e.g. small.")]
Out = Annotated[str | None, Parameter(help="Results: a directory or storage URI; results/NAME by default.")]
DataDir = Annotated[Path | None, Parameter(env_var="TANGENTSCOPE_DATA", help="Where data sets lie.")]
Offline = Annotated[bool, Parameter(negative="", help="Leave MLflow out; `sync` can upload later.")]
Address = Annotated[str | None, Parameter(help="A running Ray cluster; by default one is started on this machine.")]


@app.command
def quickstart(*, out: Out = None, offline: Offline = False) -> int:
    """Train four small nets on real MNIST images and watch their tangent kernels: about a minute."""
    return run("quickstart", out=out, offline=offline)


@app.command
def plan(study: str, *overrides: Overrides, scale: Scale = None, data_dir: DataDir = None) -> None:
    """Print what a study would do and cost, after a short calibration on this machine; start nothing."""
    from pipeline import planning

    path = _find(study)
    planning.tell(console, path, overrides, scale, data_dir)


@app.command
def run(
    study: str,
    *overrides: Overrides,
    out: Out = None,
    scale: Scale = None,
    data_dir: DataDir = None,
    offline: Offline = False,
    address: Address = None,
    fail_fast: Annotated[bool, Parameter(negative="", help="Stop everything as soon as one run fails.")] = False,
) -> int:
    """Run what is missing of a study: a YAML file, or the name of a shipped one (see `ls studies`)."""
    from pipeline.spec import read_study

    path = _find(study)
    spec = read_study(path, overrides, scale)
    out = f"results/{spec.name}" if out is None else out
    return _launch(spec, path.name, out, data_dir, offline, address, fail_fast=fail_fast)


@app.command
def retry(
    path: str,
    *runs: Annotated[str, Parameter(help="Names or ids of runs, as `status` shows them; all by default.")],
    data_dir: DataDir = None,
    offline: Offline = False,
    address: Address = None,
) -> int:
    """Take up again what has failed or was stopped, from its checkpoints, and whatever else is missing."""
    from pipeline import layout
    from pipeline.spec import parse_study
    from pipeline.storage import Storage
    from pipeline.store import Store

    store = Store(Storage.at(path))
    if not store.storage.exists(layout.STUDY):
        raise UserError(f"{path}: no {layout.STUDY}: a loop of your own trains this; run that loop again")
    spec = parse_study(store.study_yaml(), layout.STUDY)
    return _launch(spec, layout.STUDY, path, data_dir, offline, address, retry=runs)


@app.command
def stop(
    path: str, *runs: Annotated[str, Parameter(help="Names or ids of runs; by default the whole study stops.")]
) -> None:
    """Ask a study, or some of its runs, to checkpoint and stop; `run` or, for single runs, `retry` goes on."""
    from pipeline import stopping
    from pipeline.storage import Storage
    from pipeline.store import Store

    for line in stopping.stop(Store(Storage.at(path)), runs):
        _say(line)


@app.command
def gc(
    path: str,
    *,
    keep: Annotated[Literal["all", "ends", "none"] | None, Parameter(help="Instead of the study's own policy.")] = None,
    dry_run: Annotated[bool, Parameter(negative="", help="Only say what would be freed.")] = False,
) -> None:
    """Free measured snapshots that need not be kept, and what launches left behind."""
    from pipeline.freeing import free
    from pipeline.storage import Storage
    from pipeline.units import human

    freed = free(Storage.at(path), keep, dry_run)
    what = ", ".join(f"{count} {kind}" for kind, count in freed.counts.items()) or "nothing"
    _say(f"{'would free' if dry_run else 'freed'} {what}: {human(freed.bytes)}")


@app.command
def status(
    path: str, *, watch: Annotated[bool, Parameter(negative="", help="Go on until nobody runs it.")] = False
) -> None:
    """Show how far a study is, from this or any other shell or node."""
    from pipeline import progress
    from pipeline.storage import Storage
    from pipeline.store import Store

    progress.show(console, Store(Storage.at(path)), watch)


@app.command
def report(path: str) -> None:
    """Make a study's figures and report anew from its tables."""
    from pipeline.report import write_report
    from pipeline.storage import Storage

    storage = Storage.at(path)
    for name in write_report(storage):
        _say(storage.path(name))


@app.command
def sync(path: str) -> None:
    """Upload to MLflow what it does not have of a study."""
    from pipeline.launch import holder
    from pipeline.storage import Storage
    from pipeline.store import Store
    from pipeline.study import sync as send
    from pipeline.tracking import check_server, default_uri

    storage = Store(Storage.at(path)).storage
    uri = default_uri(storage)
    check_server(uri)
    experiment = send(storage, uri, live=holder(storage) is not None)
    _say(f"{uri}: experiment {experiment} is up to date")


@app.command
def export(
    path: str,
    *,
    to: Annotated[Path, Parameter(help="FILE.parquet or FILE.csv")],
    table: Literal["measurements", "history", "spectra", "profiles", "snapshots"] = "measurements",
) -> None:
    """Write one of a study's tables to a file, one row a measurement."""
    from pipeline.store import load

    writers = {".parquet": lambda frame: frame.to_parquet(to), ".csv": lambda frame: frame.to_csv(to, index=False)}
    if to.suffix not in writers:
        raise UserError(f'export --to {to}: ending "{to.suffix}" unknown; give one of {", ".join(writers)}')
    frame = load(path, table)
    try:
        writers[to.suffix](frame)
    except OSError as error:
        raise UserError(f"export --to {to}: {error.strerror or error}; give a file that can be written") from None
    _say(f"{len(frame)} rows in {to}")


@app.command
def ls(what: Literal["tasks", "models", "optimisers", "variables", "studies"] = "studies") -> None:
    """List the tasks, models, optimisers, variables or shipped studies, each with a line about it."""
    from pipeline import listing

    for name, line in listing.entries(what):
        _say(f"{name:<26} {line}")


@app.command
def doctor(*, data_dir: DataDir = None, out: Out = None, address: Address = None) -> int:
    """Check this machine, and an output and the nodes of a cluster if given. Exit code 1 if something is wrong."""
    from pipeline.doctor import checks

    good = True
    for check in checks(data_dir, out, address):
        good &= check.good
        _say(f"{'ok   ' if check.good else 'WRONG'} {check.what}: {check.found}")
    return 0 if good else 1


@app.command
def cite() -> None:
    """Print what to cite."""
    from pipeline.listing import CITATION

    _say(CITATION)


def _launch(
    spec: "Study", source: str, out: str, data_dir: Path | None, offline: bool, address: str | None, **how: Any
) -> int:
    """Do what is missing of a study, say how it ended, and give the exit code."""
    from pipeline import closing, progress
    from pipeline.study import run_study

    command = shlex.join(["tangentscope", *sys.argv[1:]])
    with progress.shown(console) as watch:
        ended = run_study(spec, source, out, data_dir, offline, address, command, watch, **how)
    closing.tell(console, out, ended)
    return 1 if ended.failed or ended.failed_measurements else 0


def _find(study: str) -> Path:
    studies = shipped()
    if study in studies:
        return studies[study]
    if Path(study).suffix in (".yaml", ".yml") or Path(study).exists():
        return Path(study)
    raise UserError(f'study "{study}" unknown, and no YAML file; {nearest(study, studies)}')


def _say(text: str) -> None:
    console.print(text, markup=False, highlight=False)


def main() -> None:
    """Entry point: exit code 0 if all went well, 1 if runs failed, 2 on bad input, 130 if interrupted."""
    try:
        code = app(exit_on_error=False, print_error=False)
    except (UserError, CycloptsError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        code = 2
    except Fenced as error:
        print(f"error: {error}; this launch has published nothing since", file=sys.stderr)
        code = 1
    except BrokenPipeError:  # `tangentscope ls | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        if error.errno not in _STORAGE:
            raise
        print(f"error: {error}; results so far are kept: make room and run the same command again", file=sys.stderr)
        code = 1
    except Stopped as error:
        print(error, file=sys.stderr)
        code = error.code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        code = 128 + signal.SIGINT
    sys.exit(code)


if __name__ == "__main__":
    main()
