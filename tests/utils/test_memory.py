"""Pause of the garbage collection."""

import gc
import weakref

import pytest

from sam_ft.utils.memory import paused_garbage_collection


class Node:
    """Object that can refer to itself."""


@pytest.fixture
def _unfrozen():
    was_frozen = gc.get_freeze_count() > 0
    gc.unfreeze()
    yield
    if was_frozen:
        gc.freeze()


@pytest.mark.usefixtures("_unfrozen")
@pytest.mark.parametrize("is_frozen", [False, True])
def test_garbage_of_a_pause_is_collected_after_it(is_frozen):
    if is_frozen:
        gc.freeze()
    before = gc.get_freeze_count()
    with paused_garbage_collection():
        node = Node()
        node.itself, alive = node, weakref.ref(node)
        with paused_garbage_collection():
            del node
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == before
    gc.collect()
    assert alive() is None
