"""The command ``tangentscope``."""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console

from pipeline.errors import Stopped, UserError, nearest

app = App(name="tangentscope", help="Watch the tangent kernel while networks learn.", version_flags=["--version"])
console = Console(soft_wrap=True)

Overrides = Annotated[tuple[str, ...], Parameter(help="Fields of the study to set, as key=value.")]
Scale = Annotated[str | None, Parameter(help="One of the study's own scales, e.g. small.")]
Out = Annotated[str | None, Parameter(help="Results: a directory or storage URI; results/NAME by default.")]
DataDir = Annotated[Path | None, Parameter(env_var="TANGENTSCOPE_DATA", help="Where data sets lie.")]
Offline = Annotated[bool, Parameter(negative="", help="Leave MLflow out; `sync` can upload later.")]
Address = Annotated[str | None, Parameter(help="A running Ray cluster; by default one is started on this machine.")]


@app.command
def quickstart(out: Out = None, *, offline: Offline = False) -> int:
    """Train four small nets on real MNIST images and watch their tangent kernels: about a minute."""
    return run("quickstart", out=out, offline=offline)


@app.command
def run(
    study: str,
    *overrides: str,
    out: Out = None,
    scale: Scale = None,
    data_dir: DataDir = None,
    offline: Offline = False,
    address: Address = None,
) -> int:
    """Run what is missing of a study: a YAML file, or the name of a shipped one (see `ls studies`)."""
    from pipeline import closing, progress
    from pipeline.spec import read_study
    from pipeline.study import run_study

    path = find_study(study)
    spec = read_study(path, overrides, scale)
    out = out or f"results/{spec.name}"
    with progress.shown(console) as watch:
        ended = run_study(
            spec, path.name, out, data_dir, offline, address, shlex.join(["tangentscope", *sys.argv[1:]]), watch
        )
    closing.tell(console, out, ended)
    return 1 if ended.failed or ended.failed_measurements else 0
