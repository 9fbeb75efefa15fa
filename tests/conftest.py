"""Shapes and types of the libraries' functions are checked while the tests run."""

import jaxtyping

jaxtyping.install_import_hook(["probes", "models", "tasks"], "beartype.beartype")
