"""The command ``tangentscope``. What a command does stands elsewhere; here are its arguments and its last words."""

import atexit
import errno
import gc
import importlib.metadata
import io
import os
import shlex
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

from tangentscope.pipeline.cli.results import COMMANDS, Address, DataDir, Out, console, say
from tangentscope.pipeline.cluster import ahead
from tangentscope.pipeline.driver import supervisor
from tangentscope.pipeline.system import limits
from tangentscope.pipeline.system.errors import Fenced, Lost, Stopped, UserError, nearest, no_room
from tangentscope.pipeline.system.redaction import redacted
from tangentscope.studies import shipped

if TYPE_CHECKING:
    from tangentscope.pipeline.driver.probe import Asked
    from tangentscope.pipeline.driver.run import Order

app = App(
    name="tangentscope",
    help="Watch the tangent kernel while networks learn.",
    version=lambda: importlib.metadata.version("tangentscope"),
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,  # `main` has a word to say about it
)
app.command("tangentscope.pipeline.cli.data:app", name="data", help="Where the tasks' data sets lie, and getting them.")
# What a storage says that is full, read-only or failing: no mistake of the code.
_STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES}
_LAUNCHING = ("run", "quickstart", "retry", "probe")
# How many new objects call for a collection. Loading libraries makes hundreds of thousands, which all stay: collections
# at every 700, and the last one at exit, took two seconds of every command that loads torch.
_OBJECTS = 100_000
for command in COMMANDS:
    app.command(command)

Overrides = Annotated[str, Parameter(help="Fields of the study to set, as key=value.")]
Scale = Annotated[str | None, Parameter(help="One of the study's own scales, e.g. small.")]
Offline = Annotated[bool, Parameter(negative="", help="Leave MLflow out; `sync` can upload later.")]
FailFast = Annotated[bool, Parameter(negative="", help="Stop everything as soon as one run fails.")]


def _several(text: str) -> Parameter:
    return Parameter(help=text, consume_multiple=True, negative="")


@app.command
def quickstart(*, out: Out = None, offline: Offline = False) -> int:
    """Train four small nets on real MNIST images and watch their tangent kernels: about a minute."""
    return run("quickstart", out=out, offline=offline)


@app.command
def plan(study: str, *overrides: Overrides, out: Out = None, scale: Scale = None, data_dir: DataDir = None) -> None:
    """Print what a study would do and cost, and what of it is still to do; a short calibration, and nothing starts."""
    limits.check()
    from tangentscope.pipeline.cli import plan

    path = _find(study)
    plan.tell(console, path, overrides, scale, data_dir, out)


@app.command
def run(
    study: str,
    *more: Annotated[str, Parameter(help="Further studies, which get what is left; fields to set, as key=value.")],
    out: Annotated[
        str | None,
        Parameter(help="Results: a directory or URI, results/NAME by default; of several studies OUT/NAME."),
    ] = None,
    scale: Scale = None,
    data_dir: DataDir = None,
    offline: Offline = False,
    address: Address = None,
    fail_fast: FailFast = False,
) -> int:
    """Run what is missing of studies: YAML files, or names of shipped ones (see `ls studies`)."""
    limits.check()
    overrides = tuple(each for each in more if "=" in each)
    paths = [_find(each) for each in (study, *more) if "=" not in each]
    if address is None:
        ahead.begin(out if out is not None and len(paths) == 1 else ahead.place_of(paths[0], overrides, out))
    from tangentscope.pipeline.driver.run import Order
    from tangentscope.pipeline.study.spec import read_study  # loads torch, while Ray starts

    specs = [read_study(path, overrides, scale) for path in paths]
    place = "results" if out is None else out.rstrip("/")
    places = [out] if out is not None and len(paths) == 1 else [f"{place}/{spec.name}" for spec in specs]
    folders = [None if path in shipped().values() else path.parent for path in paths]
    each = zip(specs, paths, places, folders, strict=True)
    orders = [Order(spec, path.name, at, place=folder) for spec, path, at, folder in each]
    return _launch(orders, data_dir, offline, address, fail_fast=fail_fast)


@app.command
def submit(
    study: str,
    *overrides: Overrides,
    address: Annotated[str, Parameter(help="The cluster's dashboard, e.g. http://127.0.0.1:8265.")],
    out: Annotated[str, Parameter(help="Results: a storage URI, or an absolute path on the cluster.")],
    scale: Scale = None,
    data_dir: Annotated[str | None, Parameter(help="Where data sets lie, on the cluster.")] = None,
    offline: Offline = False,
    fail_fast: FailFast = False,
    wait: Annotated[bool, Parameter(help="Follow the job's logs until it ends.")] = True,
) -> int:
    """Run what is missing of a study as a job on a Ray cluster, which goes on when this command is gone."""
    from tangentscope.pipeline.cluster import bundle
    from tangentscope.pipeline.study.expansion import validated
    from tangentscope.pipeline.study.spec import read_study

    path = _find(study)
    spec = read_study(path, overrides, scale)
    validated(spec, path.name)
    options = ["--offline"] * offline + ["--fail-fast"] * fail_fast
    entrypoint, environment = bundle.entrypoint(out, data_dir, *options), bundle.environment()
    from tangentscope.pipeline.cluster.submit import submit as send  # loads Ray, which takes seconds

    return send(console, spec, address, entrypoint, environment, wait)


@app.command
def retry(
    path: str,
    *runs: Annotated[str, Parameter(help="Names or ids of runs, as `status` shows them; all by default.")],
    data_dir: DataDir = None,
    offline: Offline = False,
    address: Address = None,
) -> int:
    """Take up again what has failed or was stopped, from its checkpoints, and whatever else is missing."""
    if address is None:
        ahead.begin(path, again=True)
    # A launch that goes on where Ray died has taken them up already.
    return _launch([_of_results(path)], data_dir, offline, address, retry=None if supervisor.restarts else runs)


@app.command
def probe(
    path: str,
    *runs: Annotated[str, Parameter(help="Names or ids of runs, as `status` shows them; all by default.")],
    data: Annotated[tuple[Literal["train", "test", "stages"], ...], _several("Kernels' points.")] = (),
    variables: Annotated[tuple[str, ...], _several("See `ls variables`.")] = (),
    parts: Annotated[tuple[str, ...], _several("Of the outputs, e.g. actor critic.")] = (),
    steps: Annotated[tuple[str, ...], _several("Snapshots: STEP, FIRST:LAST, FIRST:LAST:EVERY.")] = (),
    outputs: Annotated[Literal["full", "traced", "summed"] | None, Parameter(help="Treatment of outputs.")] = None,
    draws: Annotated[int | None, Parameter(help="Kernels at each step.")] = None,
    size: Annotated[int | None, Parameter(help="Points of each.")] = None,
    seed: Annotated[int | None, Parameter(help="Of the draws.")] = None,
    train_points: Annotated[int | None, Parameter(help="That features are of, to learn from.")] = None,
    test_points: Annotated[int | None, Parameter(help="That features are of, held out.")] = None,
    stages: Annotated[tuple[int, ...], _several("Steps of the snapshots that play, for --data stages.")] = (),
    games: Annotated[int, Parameter(help="That are played at each stage.")] = 30,
    states: Annotated[int, Parameter(help="Of all stages together.")] = 1200,
    data_dir: DataDir = None,
    offline: Offline = False,
    address: Address = None,
) -> int:
    """Measure more on the snapshots that a study keeps; what is not given is as in the study. Trains nothing."""
    from tangentscope.pipeline.driver.probe import Asked

    kernel = {"outputs": outputs, "draws": draws, "size": size, "seed": seed}
    changes: dict[str, Any] = {n: value for n, value in {"variables": variables, "parts": parts}.items() if value}
    features = {"train": train_points, "test": test_points, "seed": seed}
    for part, fields in {"kernel": kernel, "features": features}.items():
        changes[part] = {name: value for name, value in fields.items() if value is not None}
    asked = Asked(runs, data, changes, steps, stages, games, states)
    return _launch([_of_results(path, asked)], data_dir, offline, address)


@app.command
def stop(
    path: str, *runs: Annotated[str, Parameter(help="Names or ids of runs; by default the whole study stops.")]
) -> None:
    """Ask a study, or some of its runs, to checkpoint and stop; `run` or, for single runs, `retry` goes on."""
    from tangentscope.pipeline.driver import stop
    from tangentscope.pipeline.store.files import Storage
    from tangentscope.pipeline.store.reader import Store

    for line in stop.stop(Store(Storage.at(path)), runs):
        say(line)


def _of_results(path: str, asked: "Asked | None" = None) -> "Order":
    """The study whose results lie there, as it was resolved."""
    limits.check()
    from tangentscope.pipeline.driver.run import Order
    from tangentscope.pipeline.store import layout
    from tangentscope.pipeline.store.files import Storage
    from tangentscope.pipeline.store.reader import Store
    from tangentscope.pipeline.study.spec import parse_study

    store = Store(Storage.at(path))
    if not store.storage.exists(layout.STUDY):
        raise UserError(f"{path}: no {layout.STUDY}: a loop of your own trains this; run that loop again")
    return Order(parse_study(store.study_yaml(), layout.STUDY), layout.STUDY, path, asked)


def _launch(orders: "list[Order]", data_dir: Path | None, offline: bool, address: str | None, **how: Any) -> int:
    """Do what is missing of studies, say how each ended, and give the exit code."""
    from tangentscope.pipeline.cli import progress, summary
    from tangentscope.pipeline.driver.run import run_studies

    command = shlex.join(["tangentscope", *sys.argv[1:]])
    with progress.shown(console, several=len(orders) > 1) as watch:
        found = run_studies(orders, data_dir, offline, address, command, watch, say, **how)
    code = 0
    for order, ended in zip(orders, found, strict=True):
        if not isinstance(ended, Exception):
            summary.tell(console, str(order.out), ended)
            code |= bool(ended.failed or ended.failed_measurements or ended.missing or ended.interrupted)
    if problems := [ended for ended in found if isinstance(ended, Exception)]:
        raise next((each for each in problems if isinstance(each, Lost)), problems[0])  # with Ray all of them went
    return int(code)


def _find(study: str) -> Path:
    studies = shipped()
    if study in studies:
        return studies[study]
    if Path(study).suffix in (".yaml", ".yml") or Path(study).exists():
        return Path(study)
    raise UserError(f'study "{study}" unknown, and no YAML file; {nearest(study, studies)}')


def main() -> None:
    """Exit code 0 if all went well, 1 if runs failed, 2 on bad input, 130 if interrupted."""
    gc.set_threshold(_OBJECTS)
    atexit.register(gc.freeze)
    for stream in (sys.stdout, sys.stderr):  # a terminal of another encoding gets a mark for what it lacks
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        code = app(exit_on_error=False, print_error=False)
    except (UserError, CycloptsError) as error:
        print(f"error: {redacted(' '.join(str(error).split()))}", file=sys.stderr)
        code = 2
    except Fenced as error:
        print(f"error: {error}; this launch has published nothing since", file=sys.stderr)
        code = 1
    except (MemoryError, ImportError) as error:
        if isinstance(error, ImportError) and "failed to map segment" not in str(error):
            raise
        print(f"error: out of memory ({error}); see `ulimit -v`, or use a larger machine", file=sys.stderr)
        code = 1
    except BrokenPipeError:  # `tangentscope ls | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        expected = error.errno in _STORAGE
        print(no_room(str(error)) if expected else redacted(traceback.format_exc()), file=sys.stderr)
        code = 1
    except Lost as error:  # said where it is decided whether another launch goes on by itself
        raise SystemExit(error) from None
    except Stopped as error:
        print(error, file=sys.stderr)
        code = error.code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        code = 128 + signal.SIGINT
    except Exception:  # a mistake of this code; what other libraries' errors quote may hold secrets
        print(redacted(traceback.format_exc()), file=sys.stderr)
        code = 1
    ahead.end()  # of an error there is no need to wait for that
    sys.exit(code)


def enter() -> None:
    """Entry point: as :func:`main`, launches in a process of their own (see `pipeline.driver.supervisor`)."""
    words = sys.argv[1:]
    if words and words[0] in _LAUNCHING:
        elsewhere = any(word.partition("=")[0] == "--address" for word in words)
        sys.exit(supervisor.carry(main, again=not elsewhere))
    main()
