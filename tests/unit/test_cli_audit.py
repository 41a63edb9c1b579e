"""`dumont audit`."""

from __future__ import annotations

from tests.unit.cli_world import NOW, World, output

ENTRY = {
    "id": "audit-1",
    "at": NOW,
    "who": "0123456789abcdef",
    "name": "ci",
    "what": "POST /destroy",
    "about": "ada",
    "address": "198.51.100.7",
    "status": 409,
    "code": "operation_under_way",
    "request_id": "req-12345678",
}
ACCEPTED = {**ENTRY, "id": "audit-2", "status": 202, "code": "", "made": "op-12345678"}


def test_audit_shows_who_changed_what_and_how_it_was_answered(api: World) -> None:
    api.says("GET /audit", {"entries": [ACCEPTED, ENTRY]})
    result = api.run("audit")
    assert result.exit_code == 0
    _, accepted, refused = result.stdout.splitlines()
    for shown in ("ci (0123456789abcdef)", "198.51.100.7", "POST /destroy", "ada", "202", "op-12345678"):
        assert shown in accepted
    assert "409 operation_under_way" in refused
    assert api.query("GET /audit") == {"limit": "20"}


def test_audit_of_one_key(api: World) -> None:
    api.says("GET /audit", {"entries": []})
    result = api.run("audit", "--who", "0123456789abcdef", "--limit", "5")
    assert api.query("GET /audit") == {"who": "0123456789abcdef", "limit": "5"}
    assert "nothing was changed" in result.stderr


def test_audit_as_json_is_what_the_api_said(api: World) -> None:
    api.says("GET /audit", {"entries": [ENTRY]})
    assert output(api.run("audit", "--json")) == {"entries": [ENTRY]}


def test_wrong_keys_are_shown_with_how_many_there_were(api: World) -> None:
    counted = {**ENTRY, "who": "", "name": "nobody", "what": "wrong keys or tokens", "status": 401, "count": 812}
    api.says("GET /audit", {"entries": [counted]})
    assert "wrong keys or tokens × 812" in api.run("audit").stdout
