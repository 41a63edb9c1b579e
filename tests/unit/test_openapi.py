"""The OpenAPI document says what the functions do: all of them, by their own code, as it is committed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator

from dumont.build.declarations import load
from dumont.domain.audit import AuditEntry
from dumont.domain.budgets import Credit
from dumont.domain.jobs import JobLog
from dumont.domain.records import Instance, Machine
from dumont.domain.snapshots import Snapshot
from dumont.edge import advising, audit, idle_views, money, views
from dumont.openapi.document import NotDescribed, document, render
from dumont.openapi.doors import http_functions
from dumont.openapi.registry import FUNCTIONS
from dumont.operations.advising import Advised
from dumont.operations.budget_settings import BudgetSeen
from dumont.operations.idle import IdleSeen
from dumont.operations.look import MachineSeen, OperationSeen
from tests.strategies import of_type

ROOT = Path(__file__).parents[2]
DECLARATIONS = load(ROOT / "functions")
DOCUMENT: dict[str, Any] = document(DECLARATIONS)


def test_the_document_is_valid() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_the_committed_document_is_what_the_command_prints() -> None:
    committed = (ROOT / "docs" / "openapi.json").read_text(encoding="utf-8")
    assert committed == render(DECLARATIONS), "run: dumont openapi > docs/openapi.json"


def test_every_http_function_is_in_it() -> None:
    described = {path.split("/")[1] for path in DOCUMENT["paths"]}
    assert described == {function.name for function in http_functions(DECLARATIONS)}


def test_a_function_that_nobody_described_is_named() -> None:
    with pytest.raises(NotDescribed, match="no routes are declared of search"):
        document(DECLARATIONS, {name: known for name, known in FUNCTIONS.items() if name != "search"})


def test_routes_of_a_function_that_is_not_there_are_named() -> None:
    with pytest.raises(NotDescribed, match="routes are declared of teleport"):
        document(DECLARATIONS, FUNCTIONS | {"teleport": ()})


def test_each_method_that_a_door_opens_has_a_route_and_no_other_has() -> None:
    routes = {name: {route.method for route in known} for name, known in FUNCTIONS.items()}
    doors = {f.name: set(f.door.methods) for f in http_functions(DECLARATIONS) if f.door is not None}
    assert {name: routes[name] for name in doors} == doors


def test_each_operation_that_a_key_opens_says_which_role_it_needs() -> None:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            if {"key": []} in operation["security"] and not path.startswith("/gateway"):
                assert operation["x-dumont-role"] in ("viewer", "operator", "admin"), (method, path)


def test_what_is_made_has_a_place_that_can_be_asked() -> None:
    made = [(path, operation) for path, methods in DOCUMENT["paths"].items() for operation in methods.values()]
    created = {path: operation["responses"]["201"] for path, operation in made if "201" in operation["responses"]}
    assert sorted(created) == ["/keys", "/subscriptions"]
    for path, response in created.items():
        assert "Location" in response["headers"], path
        assert "get" in DOCUMENT["paths"][f"{path}/{{id}}"], path


def test_operations_have_ids_of_their_own() -> None:
    ids = [operation["operationId"] for methods in DOCUMENT["paths"].values() for operation in methods.values()]
    assert len(ids) == len(set(ids))


def test_it_holds_no_secret_field() -> None:
    text = json.dumps(DOCUMENT)
    assert "secret_sha256" not in text
    assert "store_key_id" not in text


# --- Views and their schemas --------------------------------------------------------------------------------------


def check(component: str, view: Any) -> None:
    """A view has no field but those of its schema, and each as it says."""
    properties = DOCUMENT["components"]["schemas"][component]["properties"]
    shown = json.loads(json.dumps(msgspec.to_builtins(view)))  # an infinity stays a number
    assert set(shown) <= set(properties), f"{component} has fields that shapes.py does not say"
    validator = jsonschema.Draft202012Validator(
        {"$ref": f"#/components/schemas/{component}", "components": DOCUMENT["components"]}
    )
    wrong = [f"{list(error.absolute_path)}: {error.message[:200]}" for error in validator.iter_errors(shown)]
    assert wrong == []


def _named(entry: AuditEntry) -> AuditEntry:
    """As they are written: nobody who changes anything is nameless."""
    return msgspec.structs.replace(entry, id="audit-1", who="0123", name="local", what="POST /destroy")


VIEWS: list[tuple[str, st.SearchStrategy[Any], Callable[[Any], Any]]] = [
    ("Machine", of_type(MachineSeen), views.machine),
    ("Route", of_type(Machine), views.route),
    ("Spare", of_type(Instance), views.spare),
    ("Operation", of_type(OperationSeen), views.operation),
    ("Snapshot", of_type(Snapshot), views.snapshot),
    ("Idle", of_type(IdleSeen), idle_views.idle),
    ("Budget", of_type(BudgetSeen), money.budget),
    ("Credit", of_type(Credit), money.credit),
    ("AuditEntry", of_type(AuditEntry).map(_named), audit.shown),
    ("Advice", of_type(Advised), advising.advice),
    (
        "JobLog",
        of_type(JobLog),
        lambda log: {n: getattr(log, n) for n in ("text", "read_at", "instance_id", "file_bytes")},
    ),
]


@pytest.mark.parametrize(("component", "seen", "view"), VIEWS, ids=[name for name, _, _ in VIEWS])
def test_a_view_is_as_its_schema_says(component: str, seen: st.SearchStrategy[Any], view: Callable[[Any], Any]) -> None:
    # Not shrunk: a view's schema is wrong for nearly any record, or for none.
    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(seen)
    def conforms(record: Any) -> None:
        check(component, view(record))

    conforms()
