"""The import layers hold, and what holds them would notice if they did not."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("pipeline", "probes", "models", "tasks", "studies")
LONGEST = 300
# All that the report may know of the pipeline: how to read a study.
REPORT_READS = {"errors", "layout", "storage", "store", "tables"}


def sources(root: Path) -> dict[str, Path]:
    files = (path for package in PACKAGES for path in sorted((root / package).rglob("*.py")))
    return {path.relative_to(root).as_posix(): path for path in files}


def imported(path: Path, root: Path) -> Iterator[str]:
    """Everything a file imports, wherever it does so, but for what only type checkers read."""
    for node in nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(root).parent.parts
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
    return who_imports("mlflow", root) - {"pipeline/tracking.py"}


def beyond_the_store(root: Path) -> set[str]:
    found = set()
    for file, path in sources(root).items():
        if file.startswith("pipeline/report/"):
            parts = [m.split(".") for m in imported(path, root) if names(m, "pipeline")]
            found |= {f"{file}: {'.'.join(part)}" for part in parts if {*part[1:2]} - {*REPORT_READS, "report"}}
    return found


def across_models(root: Path) -> set[str]:
    """Architectures know nothing of each other."""
    shared = ("models.base", "models.graphs", "models.sequences", "models.solvable.base", "models.solvable.modes")
    own = {"models/__init__.py", *(f"{module.replace('.', '/')}.py" for module in shared)}
    found = set()
    for file, path in sources(root).items():
        if file.startswith("models/") and file not in own:
            others = {m for m in imported(path, root) if names(m, "models") and not any(names(m, s) for s in shared)}
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
    return {**os.environ, "PYTHONPATH": str(root)}


RULES = {
    "ray below pipeline/cluster only": outside_the_cluster,
    "mlflow in pipeline/tracking.py only": outside_tracking,
    "the report reads the store only": beyond_the_store,
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
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


@pytest.mark.parametrize("name", RULES)
def test_the_rule_holds(name: str):
    assert len(sources(ROOT)) > 50
    assert not RULES[name](ROOT)


VIOLATIONS = [
    ("ray below pipeline/cluster only", "pipeline/store.py", "\n\ndef f():\n    import ray.train\n"),
    ("ray below pipeline/cluster only", "pipeline/cli.py", "\nfrom ray import tune\n"),
    ("ray below pipeline/cluster only", "probes/measure.py", "\nimport importlib\nimportlib.import_module('ray')\n"),
    ("mlflow in pipeline/tracking.py only", "pipeline/cluster/tracker.py", "\nif 1:\n    import mlflow\n"),
    ("the report reads the store only", "pipeline/report/view.py", "\nfrom pipeline.plan import Run\n"),
    ("the report reads the store only", "pipeline/report/page.py", "\nfrom pipeline import cli\n"),
    ("the report reads the store only", "pipeline/report/page.py", "\nfrom .. import cli\n"),
    ("the report reads the store only", "pipeline/report/figures/curves.py", "\nfrom ...spec import Study\n"),
    ("no model imports another", "models/cnn.py", "from models.mlp import MLP\n"),
    ("no model imports another", "models/cnn.py", "from .mlp import MLP\n"),
    ("files of moderate length", "probes/long.py", "x = 1\n" * 301),
    ("import-linter's contracts", "probes/spectrum.py", "\n\ndef f():\n    import pipeline.storage\n"),
    ("import-linter's contracts", "tasks/base.py", "\nimport models\n"),
    ("import-linter's contracts", "models/base.py", "\nimport mlflow\n"),
    ("import-linter's contracts", "tasks/mnist.py", "\n\ndef f():\n    import ray.data\n"),
]


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
