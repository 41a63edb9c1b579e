"""`infra/` and the code say the same: functions, topics, settings, secrets, indexes, and what alerts listen for."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType
from typing import Any
from urllib.parse import parse_qsl

import functions_framework
import msgspec
import pytest

from dumont import queries, settings
from dumont.build import indexes
from dumont.build.declarations import Entry, FunctionDeclaration, load
from dumont.build.indexes import Exemption, Index, IndexedField, Use
from dumont.build.infra import render
from dumont.build.reach import Need, needs
from dumont.domain.collections import RECORDS
from dumont.domain.records import OperationKind
from dumont.edge.requests import SweepRequest
from dumont.operations import alerts, subscribers
from dumont.operations.runner import TOPICS
from dumont.ports import Query, Where
from tests.unit.infra_support import INFRA, ROOT, Evaluated, instances, resource, unquoted

DECLARATIONS = load(ROOT / "functions")
ENTRIES = [(declaration, entry) for declaration in DECLARATIONS for entry in declaration.entries]
DECLARED: dict[str, Any] = json.loads((INFRA / "declared.json").read_text(encoding="utf-8"))

USES = indexes.uses()

every_entry = pytest.mark.parametrize(("declaration", "entry"), ENTRIES, ids=[entry.name for _, entry in ENTRIES])


# --- Functions ----------------------------------------------------------------------------------------------------


def test_the_file_is_as_the_code_makes_it() -> None:
    assert (INFRA / "declared.json").read_text(encoding="utf-8") == render(DECLARATIONS), "run make infra"


def test_terraform_deploys_each_entry_and_no_other() -> None:
    assert set(DECLARED["functions"]) == {entry.name for _, entry in ENTRIES}
    assert resource("google_cloudfunctions2_function", "function")["for_each"] == "${local.functions}"
    assert resource("google_service_account", "function")["for_each"] == "${local.functions}"


@every_entry
def test_an_accounts_name_is_as_long_as_google_allows(declaration: FunctionDeclaration, entry: Entry) -> None:
    assert 6 <= len(f"dumont-{entry.name}") <= 30


def test_only_public_doors_are_open_and_only_the_caller_comes_in_elsewhere(tmp_path: Path) -> None:
    terraform = Evaluated(tmp_path)
    public = {d.name for d, entry in ENTRIES if d.public and entry.topic is None and entry.name == d.name}
    assert set(terraform.value("[for n, f in local.functions : n if f.public]")) == public
    called = set(terraform.value("keys(merge(local.workers, local.scheduled))"))
    assert called == {e.name for d, e in ENTRIES if e.topic or (d.schedule and e.topic is None)}
    assert not public & called, "what Google calls has no other door"
    assert resource("google_cloud_run_v2_service_iam_member", "anyone")["member"] == '"allUsers"'


@every_entry
def test_a_function_is_planned_as_it_is_declared(
    planned: dict[str, dict[str, Any]], declaration: FunctionDeclaration, entry: Entry
) -> None:
    plan = instances(planned, "google_cloudfunctions2_function.function")[entry.name]
    service, build = plan["service_config"][0], plan["build_config"][0]
    assert (build["runtime"], build["entry_point"]) == ("python311", entry.target)
    assert service["available_memory"] == f"{declaration.memory_mib}Mi"
    assert service.get("available_cpu") == declaration.processors
    assert service["timeout_seconds"] == declaration.timeout_seconds
    assert service["max_instance_request_concurrency"] == (1 if entry.topic else declaration.concurrency)
    assert service["max_instance_count"] == (declaration.instances_max or 20)
    public = declaration.public and entry.topic is None
    assert service["ingress_settings"] == ("ALLOW_ALL" if public else "ALLOW_INTERNAL_ONLY")
    environment = service["environment_variables"]
    assert ("THREADS" in environment) is (declaration.concurrency > 1 and entry.topic is None)
    assert environment["DUMONT_PUBLIC_URL"] == "https://us-central1-dumont-test.cloudfunctions.net"


def test_what_is_scheduled_is_called_as_often_as_declared(planned: dict[str, dict[str, Any]]) -> None:
    jobs = instances(planned, "google_cloud_scheduler_job.job")
    assert {name: job["schedule"] for name, job in jobs.items()} == {
        declaration.name: declaration.schedule for declaration in DECLARATIONS if declaration.schedule
    }
    sweep = jobs["heartbeat-check"]
    environment = instances(planned, "google_cloudfunctions2_function.function")["provision"]["service_config"][0]
    assert environment["environment_variables"]["DUMONT_SCHEDULER_JOB"].endswith(f"/jobs/{sweep['name']}")


def test_an_hourly_look_is_called_whether_the_sweeps_rest_or_not(planned: dict[str, dict[str, Any]]) -> None:
    looks, sweeps = (instances(planned, f"google_cloud_scheduler_job.{name}") for name in ("look", "job"))
    assert looks.keys() == sweeps.keys()
    for name, look in looks.items():
        assert look["name"] != sweeps[name]["name"], "what is paused is the other"
        assert look["schedule"].split()[1:] == ["*"] * 4, "once an hour"
    (target,) = resource("google_cloud_scheduler_job", "look")["http_target"]
    query = unquoted(target["uri"]).partition("?")[2]
    given = msgspec.convert(dict(parse_qsl(query)), SweepRequest, strict=False)
    assert 0 < given.seconds < given.every_seconds, "one sweep, under a lease that no minute's sweeper waits for long"


def test_a_message_waits_for_as_long_as_its_worker_may_run(planned: dict[str, dict[str, Any]]) -> None:
    for name, plan in instances(planned, "google_pubsub_subscription.work").items():
        timeout_seconds = DECLARED["functions"][name]["timeout_seconds"]
        assert 10 <= plan["ack_deadline_seconds"] <= 600, "Google takes no other"
        assert plan["ack_deadline_seconds"] > timeout_seconds
        assert plan["dead_letter_policy"][0]["max_delivery_attempts"] >= 5, "nor fewer"


# --- Topics -------------------------------------------------------------------------------------------------------


def test_what_the_code_publishes_to_a_worker_listens_to() -> None:
    topics = {name: function["topic"] for name, function in DECLARED["functions"].items() if function["topic"]}
    assert len(set(topics.values())) == len(topics), "one worker a topic: its subscription bears the topic's name"
    assert set(topics.values()) == {*TOPICS.values(), alerts.TOPIC, subscribers.TOPIC}
    assert set(TOPICS) == set(OperationKind)


def test_a_push_to_the_address_that_terraform_makes_reaches_a_worker_as_an_event(tmp_path: Path) -> None:
    push = resource("google_pubsub_subscription", "work")["push_config"][0]
    path = unquoted(push["push_endpoint"]).partition("uri}")[2]
    assert path == "/projects/${var.project}/topics/${each.value.topic}"
    source = tmp_path / "main.py"
    source.write_text(
        "import functions_framework, json, pathlib\n"
        "@functions_framework.cloud_event\n"
        "def worker(event):\n"
        "    pathlib.Path(__file__).with_name('seen').write_text(json.dumps(event.data['message']))\n"
    )
    # Deployed as an HTTP function, which is what a push subscription calls: the decorator says what it takes.
    client = functions_framework.create_app("worker", str(source)).test_client()  # type: ignore[no-untyped-call]
    data = base64.b64encode(b'{"operation_id":"op-12345678"}').decode()
    body = {"message": {"data": data, "messageId": "1"}, "subscription": "projects/p/subscriptions/s"}
    assert client.post("/projects/p/topics/dumont-wake", json=body).status_code == 200
    assert json.loads((tmp_path / "seen").read_text())["data"] == data


# --- Settings and secrets -----------------------------------------------------------------------------------------

OF_THE_LOCAL_CLOUD = {
    "DUMONT_SLACK_API_URL",
    "DUMONT_WEBHOOKS_LOOPBACK",
    *("DUMONT_STORE", "DUMONT_BUS", "DUMONT_BLOBS", "DUMONT_B2_REALM", "VAST_URL"),
    *("DUMONT_SSH_PRIVATE_KEY_FILE", "DUMONT_DATA_MASTER_KEY_FILE", "DUMONT_TOKEN_KEY_FILE"),
    "DUMONT_GOOGLE_KEYS_URL",
}
"""What stands in for Google, B2, Vast.ai and Secret Manager on a laptop."""
CHOSEN = {"CLOUDFLARE_API_TOKEN"}
"""A secret that only one choice of a variable needs."""
OF_THE_FRAMEWORK = {"THREADS"}


class Asked(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self, **values: str) -> None:
        super().__init__(values)
        self.names: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.names.add(key)
        return super().get(key, default)


def test_each_setting_comes_from_terraform_and_terraform_sets_no_other(planned: dict[str, dict[str, Any]]) -> None:
    functions = instances(planned, "google_cloudfunctions2_function.function").values()
    given = {name for plan in functions for name in plan["service_config"][0]["environment_variables"]}
    environment = Asked(GOOGLE_CLOUD_PROJECT="dumont-test")
    settings.read(environment)
    secrets = set(DECLARED["secrets"]) | CHOSEN
    assert secrets <= environment.names, "a secret that nothing reads"
    assert environment.names - secrets - OF_THE_LOCAL_CLOUD == given - OF_THE_FRAMEWORK


def test_what_terraform_sets_can_be_read(planned: dict[str, dict[str, Any]]) -> None:
    for plan in instances(planned, "google_cloudfunctions2_function.function").values():
        chosen = settings.read(plan["service_config"][0]["environment_variables"])
        assert (chosen.store, chosen.bus, chosen.deployment) == ("firestore", "pubsub", "main")
        assert chosen.public_url.startswith("https://")


NEEDED_FOR: Mapping[Need, tuple[str, ...]] = {
    Need.MARKET: ("VAST_API_KEY",),
    Need.SHELL: ("DUMONT_SSH_PRIVATE_KEY",),
    Need.DATA_KEYS: ("DUMONT_DATA_MASTER_KEY",),
    Need.TOKENS: ("DUMONT_TOKEN_KEY",),
    Need.BLOBS: ("B2_APPLICATION_KEY_ID", "B2_APPLICATION_KEY"),
}


@every_entry
def test_an_entry_has_the_secrets_that_its_code_can_ask_for_and_no_other(
    declaration: FunctionDeclaration, entry: Entry
) -> None:
    found = needs(declaration, entry)
    wanted = {secret for need, secrets in NEEDED_FOR.items() if need in found for secret in secrets}
    proofs = {secret for secret in entry.secrets if secret not in {s for all_of in NEEDED_FOR.values() for s in all_of}}
    assert set(entry.secrets) - proofs == wanted


def test_reach_tells_doors_from_workers() -> None:
    found = {entry.name: needs(declaration, entry) for declaration, entry in ENTRIES}
    assert found["routes"] == {Need.READ}, "it shows, and changes nothing"
    assert {Need.READ, Need.WRITE, Need.PUBLISH} <= found["provision"]
    assert not found["provision"] & {Need.SHELL, Need.MARKET, Need.TOKENS, Need.DATA_KEYS, Need.BLOBS}, (
        "its worker does all that"
    )
    assert {Need.SHELL, Need.MARKET, Need.TOKENS, Need.DNS} <= found["provision-worker"]
    assert Need.MARKET not in found["snapshot-worker"], "of the table of workflows it is sent its own kinds alone"
    assert Need.SCHEDULE in found["heartbeat-check"]


def test_no_function_that_the_world_can_call_can_open_a_snapshot() -> None:
    doors = [(d, e) for d, e in ENTRIES if d.public and e.topic is None]
    assert {e.name for _, e in doors} >= {"heartbeat", "gateway", "v1"}
    for declaration, entry in doors:
        assert Need.DATA_KEYS not in needs(declaration, entry), entry.name
        assert "DUMONT_DATA_MASTER_KEY" not in entry.secrets, entry.name


BEGIN_OPERATIONS = (
    *("provision", "destroy", "failover", "hibernate", "wake", "snapshot", "restore", "jobs", "gateway", "v1"),
    *("heartbeat", "provider-webhook", "heartbeat-check"),
)


def test_what_can_begin_an_operation_can_see_to_it_that_somebody_sweeps() -> None:
    found = {entry.name: needs(declaration, entry) for declaration, entry in ENTRIES}
    for name in (*BEGIN_OPERATIONS, *(entry.name for _, entry in ENTRIES if entry.topic in TOPICS.values())):
        assert {Need.PUBLISH, Need.SCHEDULE} <= found[name], f"{name}: a lost message would lie until the next wish"
    assert Need.SCHEDULE not in found["machines"] | found["search"] | found["costs"]


# --- Indexes ------------------------------------------------------------------------------------------------------


def test_each_query_that_the_code_makes_is_seen() -> None:
    made = {name for name, value in vars(queries).items() if isinstance(value, FunctionType)}
    text = "\n".join(
        file.read_text(encoding="utf-8")
        for folder in ("operations", "edge")
        for file in (indexes.PACKAGE / folder).rglob("*.py")
    )
    used = {name for name in made if f"queries.{name}(" in text}
    assert {use.query for use in USES} == used


def test_each_query_has_the_index_that_firestore_demands_and_no_index_is_without_a_query() -> None:
    needed = {index for use in USES if (index := indexes.composite(use.collection, indexes.sample(use.query)))}
    declared = {
        Index(index["collection"], tuple(IndexedField(**part) for part in index["fields"]))
        for index in DECLARED["indexes"]
    }
    assert declared == needed
    assert Index("operations", (IndexedField("machine"), IndexedField("created_at", "DESCENDING"))) in declared
    assert Index("heartbeats", (IndexedField("shard"), IndexedField("deadline"))) in declared


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        (Query(), None),
        (Query(order_by="created_at", descending=True), None),
        (Query(where=(Where("a", "==", 1), Where("b", "in", (1, 2)))), None),
        (Query(where=(Where("a", "<=", 1),), order_by="a"), None),
        (Query(where=(Where("a", "==", 1),), order_by="b"), [("a", "ASCENDING"), ("b", "ASCENDING")]),
        (
            Query(where=(Where("b", "in", (1,)), Where("a", "==", 1), Where("c", "<=", 1))),
            [("a", "ASCENDING"), ("b", "ASCENDING"), ("c", "ASCENDING")],
        ),
        (
            Query(where=(Where("a", "==", 1),), order_by="b", descending=True),
            [("a", "ASCENDING"), ("b", "DESCENDING")],
        ),
    ],
)
def test_equality_alone_needs_no_index_and_an_order_beside_it_does(
    query: Query, fields: list[tuple[str, str]] | None
) -> None:
    found = indexes.composite("things", query)
    assert (None if found is None else [(part.path, part.order) for part in found.fields]) == fields


def test_no_query_needs_what_is_not_indexed() -> None:
    exempt = {Exemption(**exemption) for exemption in DECLARED["exemptions"]}
    assert Exemption("heartbeats", "*") in exempt
    for use in USES:
        query = indexes.sample(use.query)
        if indexes.composite(use.collection, query) is None:
            fields = {where.field for where in query.where} | ({query.order_by} if query.order_by else set())
            hidden = {e.field for e in exempt if e.collection == use.collection}
            assert not (fields and "*" in hidden), use
            assert not fields & hidden, use
    assert Use("heartbeats", "due") in USES


def test_records_that_end_have_a_rule_that_ends_them() -> None:
    ending = {record.collection for record in RECORDS if "expires_at" in record.__struct_fields__}
    assert set(DECLARED["expiring"]) == ending
    assert DECLARED["expires"] == "expires_at"
