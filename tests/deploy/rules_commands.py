"""Are the commands of deploy/ ones? Each rule gives what it finds wrong below a root; nothing is good."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
from cyclopts import CycloptsError
from manifests import (
    containerfiles,
    launcher,
    named,
    our_words_in,
    ray_groups,
    readme_commands,
    simple_commands,
    stages,
)

from tangentscope.pipeline.cli import app
from tangentscope.pipeline.study.spec import Study, read_study
from tangentscope.pipeline.system.errors import UserError
from tangentscope.studies import shipped


def our_commands(root: Path) -> set[str]:
    """Every tangentscope command is one, and those that run a shipped study set fields that there are."""
    commands = [words for words in readme_commands(root) if words[0] == "tangentscope"]
    commands += [shlex.split(named(root, "RayJob", "tangentscope")["spec"]["entrypoint"])]
    commands += [list(stages(root / "deploy/Containerfile")[-1].command)]
    commands += our_words_in((root / "deploy/slurm/study.sbatch").read_text())
    assert {"run", "status", "stop", "sync", "doctor"} <= {words[1] for words in commands}
    found = set()
    for words in commands:
        try:
            command, bound, *_ = app.parse_args(words[1:], exit_on_error=False, print_error=False)
            if getattr(command, "__name__", "") in ("run", "submit") and len(bound.arguments) > 1:
                study_of(bound.arguments)
        except (CycloptsError, UserError) as error:
            found.add(f"{shlex.join(words)}: {error}")
    return found


def study_of(arguments: dict) -> Study:
    """The study that `tangentscope run` or `submit` would run, its fields set."""
    fields = arguments.get("more", arguments.get("overrides", ()))  # `run` takes further studies beside them
    return read_study(shipped()[arguments["study"]], fields, arguments.get("scale"))


def others_commands(root: Path) -> set[str]:
    """Every `ray` and `mlflow` command has a subcommand and options of today's Ray and MLflow."""
    import mlflow.cli
    import ray.scripts.scripts

    programs: dict[str, click.Command] = {"ray": ray.scripts.scripts.cli, "mlflow": mlflow.cli.cli}
    config = launcher(root)
    lines = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    commands = [*readme_commands(root), *(words for line in lines for words in simple_commands(line))]
    commands += [list(stage.command) for path in containerfiles(root) for stage in stages(path)]
    commands += [["ray", "start", *_flags(group["rayStartParams"])] for _, group in ray_groups(root)]
    script = re.sub(r"\\\n", " ", (root / "deploy/slurm/study.sbatch").read_text())
    (symmetric,) = re.findall(r"(ray symmetric-run .*?) -- ", script)
    ours, theirs = _halves(shlex.split(symmetric.replace('"', ""))[2:])
    commands += [["ray", "symmetric-run", *ours], ["ray", "start", *theirs]]
    checked = [words for words in commands if words and words[0] in programs]
    assert {"up", "down", "exec", "start", "job", "server", "ui"} <= {words[1] for words in checked}
    return {trouble for words in checked for trouble in _parse(programs[words[0]], words)}


def _flags(params: dict[str, str]) -> Iterator[str]:
    """As KubeRay writes them into a shell line."""
    for key, value in params.items():
        yield from shlex.split(f"--{key}={value}")


def _halves(words: list[str]) -> tuple[list[str], list[str]]:
    """The options of `ray symmetric-run` itself, and those that it hands on to `ray start`."""
    own = words.index("--min-nodes") + 2
    return ["--address", "a:1", "--min-nodes", "2"], [word.replace("$SLURM_CPUS_PER_TASK", "8") for word in words[own:]]


def _parse(command: click.Command, words: list[str]) -> set[str]:
    rest = words[1:]
    try:
        while isinstance(command, click.Group):
            with command.make_context(words[0], rest, resilient_parsing=False) as context:
                _, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])
            assert inner is not None
            command = inner
        command.make_context(words[0], rest)
    except click.ClickException as error:
        return {f"{shlex.join(words)}: {error.format_message()}"}
    return set()
