"""Shapes and types of the libraries' functions are checked while the tests run; processes share the tests by files."""

import hypothesis
import jaxtyping
import pytest

jaxtyping.install_import_hook(["probes", "models", "tasks"], "beartype.beartype")
# An example may take its time while another process tests beside this one.
hypothesis.settings.register_profile("shared machine", deadline=None)
hypothesis.settings.load_profile("shared machine")


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts a real Ray comes first, one test after another in one process; any other file stays in one, too."""
    items.sort(key=lambda item: item.get_closest_marker("ray") is None)
    for item in items:
        group = "ray" if item.get_closest_marker("ray") else item.path.name
        item.add_marker(pytest.mark.xdist_group(group))
