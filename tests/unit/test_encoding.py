"""Records become documents and come back equal, whatever is in them, and whoever wrote them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.adapters import encoding, firestore_values
from dumont.domain.collections import RECORDS
from dumont.domain.errors import RecordTooNew
from dumont.domain.records import Machine, MachineSpec, MachineState, Record, Schedule, SshEndpoint
from tests.strategies import of_type

MACHINE = Machine(
    id="trainer",
    spec=MachineSpec(ssh_public_keys=("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5",)),
    state=MachineState.RUNNING,
    epoch=2,
    created_at=1.5,
    updated_at=2.5,
    ssh=SshEndpoint(host="192.0.2.1", port=22),
)

any_record = st.one_of([of_type(kind) for kind in RECORDS])


@given(any_record)
def test_any_record_comes_back_equal_from_json(record: Record) -> None:
    assert encoding.from_json(type(record), encoding.to_json(record)) == record


@given(any_record)
def test_any_record_comes_back_equal_from_firestores_values(record: Record) -> None:
    fields = firestore_values.to_fields(encoding.to_document(record))
    assert encoding.from_document(type(record), firestore_values.from_fields(fields)) == record


@given(any_record)
def test_a_document_is_made_of_plain_values(record: Record) -> None:
    plain = (str, int, float, bool, type(None), list, tuple, dict)

    def check(value: Any) -> None:
        assert type(value) in plain, value
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
            check(item)

    check(encoding.to_document(record))


def test_enums_become_strings_and_what_is_none_is_left_out() -> None:
    document = encoding.to_document(MACHINE)
    assert document["state"] == "running"
    assert "deadline" not in document
    assert document["ssh"] == {"host": "192.0.2.1", "port": 22, "user": "root"}


def test_a_none_that_is_not_the_default_is_kept() -> None:
    class Odd(Record, frozen=True, kw_only=True):
        limit: float | None = 1.0

    assert encoding.from_document(Odd, encoding.to_document(Odd(id="a", limit=None))).limit is None


def test_fields_of_a_later_version_are_left_out_at_any_depth_even_where_users_may_not_send_them() -> None:
    document = encoding.to_document(MACHINE)
    document["colour"] = "red"
    document["ssh"]["jump_host"] = "192.0.2.9"
    document["spec"]["snapshot_every_seconds"] = 60
    assert encoding.from_document(Machine, document) == MACHINE


def test_a_field_that_an_earlier_version_did_not_write_takes_its_default() -> None:
    assert encoding.from_document(Schedule, {"id": "sweep"}) == Schedule(id="sweep")


def test_a_record_of_a_later_schema_version_is_refused_as_such() -> None:
    with pytest.raises(RecordTooNew, match="'sweep' has schema version 2"):
        encoding.from_document(Schedule, {"id": "sweep", "schema_version": 2})


@pytest.mark.parametrize("version", [0, -1, "1", None, True, 1.0])
def test_a_schema_version_that_is_none_is_refused(version: object) -> None:
    with pytest.raises(encoding.UnreadableRecord, match="'sweep' has schema version"):
        encoding.from_document(Schedule, {"id": "sweep", "schema_version": version})


@pytest.mark.parametrize("text", ["", "[]", "null", '{"id": 3}', '{"id": "sweep", "last_run_at": "soon"}'])
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(encoding.UnreadableRecord):
        encoding.from_json(Schedule, text)


def test_a_state_of_a_later_version_is_refused_and_not_guessed_at() -> None:
    document = encoding.to_document(MACHINE) | {"state": "teleporting"}
    with pytest.raises(encoding.UnreadableRecord, match=r"'trainer' cannot be read.*state"):
        encoding.from_document(Machine, document)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_json_has_not_is_refused_and_not_written_as_null(number: float) -> None:
    record = Schedule(id="sweep", last_run_at=number)
    with pytest.raises(ValueError, match=r"JSON|finite"):
        encoding.to_json(record)
    with pytest.raises(ValueError, match="finite"):
        firestore_values.to_fields(encoding.to_document(record))


def test_json_keeps_unicode_readable() -> None:
    text = encoding.to_json(Schedule(id="nächtlich", lease_owner="夜"))
    assert "nächtlich" in text
    assert json.loads(text)["lease_owner"] == "夜"


def test_firestore_is_given_no_value_of_another_type() -> None:
    with pytest.raises(TypeError, match="bytes"):
        firestore_values.to_value(b"raw")


def test_every_optional_field_of_every_record_is_none_by_default() -> None:
    """So that None is always absent in a document, and no store orders by a null."""
    for kind in RECORDS:
        for field in msgspec.inspect.type_info(kind).fields:  # type: ignore[attr-defined]
            optional = isinstance(field.type, msgspec.inspect.UnionType) and field.type.includes_none
            assert not optional or field.default is None, f"{kind.__name__}.{field.name}"
