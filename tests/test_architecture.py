"""The import layers hold, and what holds them would notice if they did not."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("pipeline", "probes", "models", "tasks", "studies")
LONGEST = 300
OURS = "tangentscope"


def sources(root: Path) -> dict[str, Path]:
    files = (path for package in PACKAGES for path in sorted((root / package).rglob("*.py")))
    return {path.relative_to(root).as_posix(): path for path in files}


def imported(path: Path, root: Path) -> Iterator[str]:
    """Everything a file imports, wherever it does so, but for what only type checkers read."""
    for node in nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = (OURS, *path.relative_to(root).parent.parts)
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in DYNAMIC:
            yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str))


DYNAMIC = ("import_module", "__import__")


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from nodes(child)


def names(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def who_imports(package: str, root: Path) -> set[str]:
    return {file for file, path in sources(root).items() if any(names(m, package) for m in imported(path, root))}


def outside_the_cluster(root: Path) -> set[str]:
    return {file for file in who_imports("ray", root) if not file.startswith("pipeline/cluster/")}


def outside_tracking(root: Path) -> set[str]:
    return {file for file in who_imports("mlflow", root) if not file.startswith("pipeline/tracking/")}


def circles(root: Path) -> set[str]:
    """Files that import one another, directly or by way of others."""
    files = sources(root)
    module_of = {
        file: f"{OURS}.{file.removesuffix('.py').replace('/', '.')}".removesuffix(".__init__") for file in files
    }
    known = set(module_of.values())

    def target(name: str) -> str | None:
        return next((module for module in (name, name.rpartition(".")[0]) if module in known), None)

    found = {module_of[file]: {target(name) for name in imported(path, root)} for file, path in files.items()}
    graph = {module: {each for each in named if each not in (None, module)} for module, named in found.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return {" -> ".join(error.args[1])}
    return set()


def across_models(root: Path) -> set[str]:
    """Architectures know nothing of each other."""
    shared = (
        "tangentscope.models.base",
        "tangentscope.models.graphs",
        "tangentscope.models.sequences",
        "tangentscope.models.solvable.base",
        "tangentscope.models.solvable.modes",
    )
    own = {"models/__init__.py", *(f"{module.removeprefix(f'{OURS}.').replace('.', '/')}.py" for module in shared)}
    found = set()
    for file, path in sources(root).items():
        if file.startswith("models/") and file not in own:
            others = {
                m for m in imported(path, root) if names(m, f"{OURS}.models") and not any(names(m, s) for s in shared)
            }
            found |= {f"{file}: {module}" for module in others}
    return found


def too_long(root: Path) -> set[str]:
    return {file for file, path in sources(root).items() if len(path.read_text().splitlines()) > LONGEST}


def layers(root: Path) -> str:
    """What import-linter has to say against the contracts in pyproject.toml."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, env=environment(root))
    return "" if done.returncode == 0 else done.stdout + done.stderr


def environment(root: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(root), "COLUMNS": "200"}


RULES = {
    "ray below pipeline/cluster only": outside_the_cluster,
    "mlflow in pipeline/tracking only": outside_tracking,
    "no circle of files": circles,
    "no model imports another": across_models,
    "files of moderate length": too_long,
    "import-linter's contracts": layers,
}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages in which rules may be broken."""
    root = tmp_path_factory.mktemp("copy")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / OURS, root / OURS, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


@pytest.mark.parametrize("name", RULES)
def test_the_rule_holds(name: str):
    assert len(sources(ROOT)) > 50
    assert not RULES[name](ROOT)


VIOLATIONS = [
    ("ray below pipeline/cluster only", "pipeline/store/reader.py", "\n\ndef f():\n    import ray.train\n"),
    ("ray below pipeline/cluster only", "pipeline/cli/commands.py", "\nfrom ray import tune\n"),
    ("ray below pipeline/cluster only", "probes/measure.py", "\nimport importlib\nimportlib.import_module('ray')\n"),
    ("mlflow in pipeline/tracking only", "pipeline/cluster/tracker.py", "\nif 1:\n    import mlflow\n"),
    ("no circle of files", "pipeline/system/redaction.py", "\nfrom tangentscope.pipeline.system import errors\n"),
    ("no circle of files", "probes/network/batch.py", "\n\ndef f():\n    from ..kernels import tangent\n"),
    ("no model imports another", "models/cnn.py", "from tangentscope.models.mlp import MLP\n"),
    ("no model imports another", "models/cnn.py", "from .mlp import MLP\n"),
    ("files of moderate length", "probes/long.py", "x = 1\n" * 301),
    ("import-linter's contracts", "pipeline/store/reader.py", "\nfrom tangentscope.pipeline import cli\n"),
]

# Of import-linter, which builds the graph of all imports in every run: planted together, each told by its own line.
PLANTED = {
    "tangentscope.probes.spectra.exact -> tangentscope.pipeline.store": (
        "probes/spectra/exact.py",
        "\n\ndef f():\n    import tangentscope.pipeline.store\n",
    ),
    "tangentscope.tasks.base -> tangentscope.models": ("tasks/base.py", "\nfrom tangentscope import models\n"),
    "tangentscope.models.base -> mlflow": ("models/base.py", "\nimport mlflow\n"),
    "tangentscope.tasks.mnist -> ray": ("tasks/mnist.py", "\n\ndef f():\n    import ray.data\n"),
    "tangentscope.pipeline.report.view -> tangentscope.pipeline.study.runs": (
        "pipeline/report/view.py",
        "\nfrom tangentscope.pipeline.study.runs import Run\n",
    ),
    "tangentscope.probes.network.batch -> tangentscope.probes.kernels.treatment": (
        "probes/network/batch.py",
        "\nfrom tangentscope.probes.kernels import treatment\n",
    ),
}


@pytest.mark.parametrize(("name", "file", "text"), VIOLATIONS)
def test_a_planted_violation_is_noticed(name: str, file: str, text: str, elsewhere: Path):
    path = elsewhere / file
    before = path.read_text() if path.exists() else None
    assert not RULES[name](elsewhere)
    try:
        path.write_text((before or "") + text)
        assert RULES[name](elsewhere)
    finally:
        path.unlink() if before is None else path.write_text(before)


def test_planted_imports_are_noticed(elsewhere: Path):
    before = {file: (elsewhere / file).read_text() for file, _ in PLANTED.values()}
    try:
        for file, text in PLANTED.values():
            (elsewhere / file).write_text(before[file] + text)
        said = layers(elsewhere)
    finally:
        for file, text in before.items():
            (elsewhere / file).write_text(text)
    assert [chain for chain in PLANTED if f"{chain} " not in said.replace("\n", " \n")] == []
