import gc
import weakref

import pytest

from tangentscope.pipeline.system.loading import without_collections


class Node:
    """Something that only a collection frees: it is part of a cycle."""

    def __init__(self) -> None:
        self.itself = self


def test_nothing_is_collected_while_loading_and_what_comes_after_is():
    with without_collections():
        assert not gc.isenabled()
    assert gc.isenabled()
    later = weakref.ref(Node())
    gc.collect()
    assert later() is None


def test_a_library_that_is_missing_leaves_collections_on():
    with pytest.raises(ImportError), without_collections():
        import no_such_library  # noqa: F401  # pyright: ignore[reportMissingImports]
    assert gc.isenabled()


def test_where_nothing_is_collected_nothing_is_afterwards():
    gc.disable()
    try:
        with without_collections():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
