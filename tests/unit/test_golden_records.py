"""What was stored by earlier versions is read to the same values, and no shape changes unnoticed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar, cast

import msgspec
import pytest

from dumont.adapters import encoding
from dumont.domain.collections import RECORDS
from dumont.domain.records import Migration, Operation, OperationKind, Record
from tests import golden_records
from tests.golden_records import Golden, breaks, noted, shape_of, version_of

every_kind = pytest.mark.parametrize("kind", RECORDS, ids=[kind.__name__ for kind in RECORDS])


def versions(kind: type[Record]) -> Iterator[Golden]:
    for version in range(1, version_of(kind) + 1):
        golden = noted(kind, version)
        assert golden is not None, f"{kind.__name__} {version} is not noted: run `python -m tests.golden_records`"
        yield golden


@every_kind
def test_what_was_stored_is_read_to_the_same_values(kind: type[Record]) -> None:
    for golden in versions(kind):
        assert golden.documents, kind.__name__
        for document in golden.documents:
            record = encoding.from_document(kind, document)
            again = json.loads(encoding.to_json(record))
            assert encoding.from_document(kind, again) == record
            if golden.schema_version == version_of(kind):
                assert _said(again, document) == _said(document, document)


def _said(document: dict[str, Any], of: dict[str, Any]) -> dict[str, Any]:
    """Of a document what another says, too: fields have joined since, with their defaults."""
    return {
        name: _said(document[name], value) if isinstance(value, dict) else document[name]
        for name, value in of.items()
        if not (isinstance(value, list) and value and isinstance(value[0], dict))
    } | {
        name: [_said(item, was) for item, was in zip(document[name], value, strict=True)]
        for name, value in of.items()
        if isinstance(value, list) and value and isinstance(value[0], dict)
    }


@every_kind
def test_no_kind_changes_its_shape_without_a_migration(kind: type[Record]) -> None:
    golden = list(versions(kind))[-1]
    broken = breaks(golden.shape, shape_of(kind))
    assert broken == [], f"{kind.__name__}: {'; '.join(broken)}: {golden_records.WHAT_TO_DO}"
    assert golden.shape == shape_of(kind), f"{kind.__name__}: {golden_records.NOTE_IT}"


def test_there_is_an_operation_in_each_of_many_steps_among_them() -> None:
    golden = noted(Operation, 1)
    assert golden is not None
    steps = {(document["kind"], document["phase"]) for document in golden.documents}
    assert len(steps) >= 20
    assert {kind for kind, _ in steps} >= {"provision", "destroy", "failover", "hibernate", "wake", "snapshot"}
    assert {kind for kind, _ in steps} <= set(OperationKind)


def test_only_the_kinds_there_are_have_files() -> None:
    names = {f"{kind.collection}.{version}.json" for kind in RECORDS for version in range(1, version_of(kind) + 1)}
    assert {file.name for file in golden_records.FOLDER.iterdir()} == names


# --- What counts as a change --------------------------------------------------------------------------------------


class Box(Record, frozen=True, kw_only=True):
    collection: ClassVar[str] = "boxes"

    size: float
    label: str | None = None


def change(**fields: Any) -> list[str]:
    made = msgspec.defstruct("Box", list(fields.values()), bases=(Record,), kw_only=True, frozen=True)
    return breaks(shape_of(Box), shape_of(cast("type[Record]", made)))


SIZE, LABEL = ("size", float), ("label", str | None, None)


def test_a_field_with_a_default_may_join_and_a_bound_may_widen() -> None:
    assert change(size=SIZE, label=LABEL, colour=("colour", str, "")) == []
    assert change(size=("size", float | None, None), label=LABEL) == []


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"label": LABEL}, "Box.size is gone"),
        ({"size": ("size", int), "label": LABEL}, "Box.size was"),
        ({"size": SIZE, "label": ("label", str, "")}, "Box.label was"),
        ({"size": SIZE, "label": LABEL, "colour": ("colour", str)}, "Box.colour has no default"),
    ],
)
def test_any_other_change_is_named(fields: dict[str, Any], complaint: str) -> None:
    assert complaint in " ".join(change(**fields))


def test_the_message_says_what_to_do() -> None:
    assert "schema_version" in golden_records.WHAT_TO_DO
    assert "migration" in golden_records.WHAT_TO_DO
    assert Migration is not None
