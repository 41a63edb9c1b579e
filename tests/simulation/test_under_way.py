"""What a version of Dumont began, every later one finishes: from each step that an operation can be left in."""

from __future__ import annotations

import pytest

from dumont.domain.records import Instance, OperationKind
from dumont.ports import Query
from tests.simulation.under_way import Scene, play, scenes

SCENES = scenes()


@pytest.mark.parametrize("scene", SCENES, ids=[f"{n} {s.kind} {s.phase}" for n, s in enumerate(SCENES)])
def test_an_operation_that_another_version_left_in_a_step_comes_to_its_end(scene: Scene) -> None:
    world, operation = play(scene)
    assert world.defects == []
    assert not operation.open, f"it is in {operation.phase} still: {operation}"
    known = {instance.id for instance in world.store.quiet.find(Instance, Query(limit=1000)) if instance.open}
    assert {line.label for line in world.market.live(world.hub.now)} <= known, "something bills that is in no books"


def test_nearly_every_kind_of_operation_is_among_them() -> None:
    rare = {OperationKind.RESTORE, OperationKind.DIFF, OperationKind.DRILL}  # no history has a user who asks for them
    assert {scene.kind for scene in SCENES} | rare >= {str(kind) for kind in OperationKind}
    assert len({(scene.kind, scene.phase) for scene in SCENES}) >= 30
